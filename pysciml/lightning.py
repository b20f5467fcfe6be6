"""A differential equation for Lightning's Trainer: `from pysciml.lightning import UDEModule`.

Needs `pysciml[lightning]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError, MissingExtraError
from pysciml.problems import ODEProblem
from pysciml.rhs.parameters import leaf_names
from pysciml.solve import solve

try:
    from lightning.pytorch import LightningModule
except ImportError:
    try:  # the package of the older name alone: its Trainer takes its own modules
        from pytorch_lightning import LightningModule  # type: ignore[assignment]
    except ImportError as error:
        raise MissingExtraError("lightning", "lightning", "UDEModule") from error

_PLAIN = (str, int, float, bool)  # what a checkpoint holds without pickling anything


class UDEModule(LightningModule):
    """A differential equation as a LightningModule, trained on batches of trajectories.

    A sample is one trajectory: times (k,) with its data (k, *shape), and its initial state if that is not `prob.u0`.
    Batches are what a DataLoader makes of samples `(t, data)` or `(t, data, u0)`, or of dicts with these keys: stacked,
    with one dimension more in front; or, where trajectories differ in length, left alone by `collate_fn=list`. NaN in
    the data is not observed. The loss is over all observations of a batch, and logged as `train_loss` and `val_loss`.
    `predict_step` gives what would be observed, stacked as the batch is.

    The parameters are those of the module f, and what requires grad in `prob.p` and `prob.u0`. Checkpoints hold them,
    the learning rate and the solver's plain options; the problem is given again:
    `UDEModule.load_from_checkpoint(path, prob=prob)`.

    Args:
        prob: an ODEProblem.
        loss: `loss(predicted, observed)` on vectors of what was observed, a scalar; None is the mean square.
        observe: from `sol.u` to what was measured, where that is not the state. May be a module with parameters.
        lr: learning rate of Adam. optimizer: instead, what makes one of the parameters,
            `lambda params: torch.optim.LBFGS(params, line_search_fn="strong_wolfe")`. For schedulers, override
            `configure_optimizers`.
        solver: options of `pysciml.solve`: alg, reltol, abstol, sensealg, engine, route, dt, maxiters, ...

    Raises:
        InvalidInputError: nothing to fit, or something to fit that is no part of a module, of p or of u0.
        SolveError: a solve failed, in any step.

    Example:
        >>> import torch, pysciml as ps
        >>> from pysciml.lightning import UDEModule
        >>> class Decay(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.k = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        ...     def forward(self, t, u):
        ...         return -self.k * u
        >>> prob = ps.ODEProblem(Decay(), torch.ones(1, dtype=torch.float64), (0.0, 2.0))
        >>> module = UDEModule(prob, lr=0.1, reltol=1e-8)
        >>> t = torch.linspace(0.2, 2, 10, dtype=torch.float64)
        >>> batch = (t[None], torch.exp(-t)[None, :, None])  # as of a DataLoader: one trajectory
        >>> module.predict_step(batch, 0).shape, sorted(module.state_dict())
        (torch.Size([1, 10, 1]), ['f.k'])
    """

    def __init__(
        self, prob: ODEProblem, *, loss: Callable | None = None, observe: Callable | None = None, lr: float = 1e-2,
        optimizer: Callable | None = None, **solver: Any,
    ):  # fmt: skip
        super().__init__()
        if not isinstance(prob, ODEProblem):
            raise InvalidInputError("UDEModule trains an ODEProblem.", got=type(prob).__name__,
                                    fix="UDEModule(pysciml.ODEProblem(f, u0, tspan))")  # fmt: skip
        self.save_hyperparameters({"lr": lr} | {n: x for n, x in solver.items() if isinstance(x, _PLAIN)})
        self.prob, self.f, self.observe, self.lr = prob, prob.f, observe, lr
        self._loss, self._optimizer, self._solver = loss, optimizer, solver
        self._names = {name: self._hold(tree, name) for name, tree in (("p", prob.p), ("u0", prob.u0))}
        self._check()

    def forward(self, t: torch.Tensor, u0: Any = None) -> torch.Tensor:
        """What would be observed at times t (k,), from `u0` or the problem's own initial state."""
        u0 = self._held("u0") if u0 is None else u0
        prob = self.prob.remake(f=self.f, p=self._held("p"), u0=u0)
        u = solve(prob, saveat=t, **self._solver).u
        return u if self.observe is None else self.observe(u)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self._step(batch, "train_loss")

    def validation_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self._step(batch, "val_loss")

    def test_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self._step(batch, "test_loss")

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        predicted = [self(t, u0) for t, _, u0 in _samples(batch)]
        return predicted if _apart(batch) else torch.stack(predicted)

    def configure_optimizers(self) -> Any:
        if self._optimizer is not None:
            return self._optimizer(self.parameters())
        return torch.optim.Adam(self.parameters(), lr=self.lr)

    def _step(self, batch: Any, name: str) -> torch.Tensor:
        samples = list(_samples(batch))
        pairs = [_observed(self(t, u0), data) for t, data, u0 in samples]
        predicted, observed = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        loss = (predicted - observed).square().mean() if self._loss is None else self._loss(predicted, observed)
        self.log(name, loss, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(samples))
        return loss

    # p and u0 as parameters and buffers of this module, so that they are saved, copied and moved with it.

    def _hold(self, tree: Any, root: str) -> list[str]:
        """Registers the leaves of a tree; their names here."""
        if tree is None:
            return []
        names = [re.sub(r"\W+", "_", name).strip("_") for name in leaf_names(tree, root)]
        for name, x in zip(names, pytree.tree_leaves(tree), strict=True):
            if not x.requires_grad:
                self.register_buffer(name, x, persistent=False)
            elif x.is_leaf:
                self.register_parameter(
                    name, x if isinstance(x, torch.nn.Parameter) else torch.nn.Parameter(x.detach())
                )
            else:
                raise InvalidInputError(f"`{name}` was computed from other tensors, so training would not change it.",
                                        got=type(x.grad_fn).__name__, fix="compute it inside f")  # fmt: skip
        return names

    def _held(self, root: str) -> Any:
        """The tree as it is now."""
        tree = getattr(self.prob, root)
        if tree is None:
            return None
        return pytree.tree_unflatten([getattr(self, name) for name in self._names[root]], pytree.tree_structure(tree))

    def _check(self) -> None:
        """That everything f depends on is a parameter of this module: others would not be saved, copied or moved."""
        if not any(p.requires_grad for p in self.parameters()):
            raise InvalidInputError(
                "there is nothing to fit.", got="no parameter in f, p or u0",
                fix="make f a torch.nn.Module with parameters, or p=torch.tensor(..., requires_grad=True)",
            )  # fmt: skip
        own = set(map(id, self.parameters()))
        others = [x for x in _leaves(self._slope()) if id(x) not in own]
        if others:
            raise InvalidInputError(
                "f uses a tensor that is to be fitted and is no part of a module, of p or of u0.",
                got=f"captured: a tensor of shape {list(others[0].shape)}",
                expected="an f that is a torch.nn.Module holding it, or f(t, u, p) with it in p",
                fix="class Equation(torch.nn.Module): ...; ODEProblem(Equation(net), u0, tspan)",
            )

    def _slope(self) -> list[torch.Tensor]:
        """f at the start, with its graph."""
        u0, p = self._held("u0"), self._held("p")
        leaf = pytree.tree_leaves(u0)[0]
        t = torch.as_tensor(self.prob.span[0], dtype=leaf.dtype, device=leaf.device)
        with torch.enable_grad():
            return pytree.tree_leaves(self.f(t, u0) if p is None else self.f(t, u0, p))


Sample = tuple[torch.Tensor, Any, Any]  # times, data or None, initial state or None


def _apart(batch: Any) -> bool:
    """Whether a batch is a list of samples, not samples that were stacked."""
    return isinstance(batch, list) and len(batch) > 0 and not isinstance(batch[0], torch.Tensor)


def _samples(batch: Any) -> Iterator[Sample]:
    """The samples of a batch, one by one."""
    if _apart(batch):
        yield from map(_sample, batch)
        return
    t, data, u0 = _sample(batch)
    if not isinstance(t, torch.Tensor) or t.dim() != 2:
        raise InvalidInputError(
            "a batch must be times and data, stacked.", got=f"times of shape {list(getattr(t, 'shape', ()))}",
            expected="(B, k) times with (B, k, *shape) data, or a list of samples",
            fix="DataLoader(TensorDataset(t, data), batch_size=8), or collate_fn=list",
        )  # fmt: skip
    for i in range(len(t)):
        yield t[i], None if data is None else data[i], _member(u0, i)


def _member(tree: Any, i: int) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda x: x[i], tree)


def _sample(x: Any) -> Sample:
    """(t, data, u0) of a sequence that may be shorter, or of a dict."""
    if isinstance(x, Mapping) and "t" in x:
        return x["t"], x.get("data"), x.get("u0")
    if isinstance(x, Sequence) and 1 <= len(x) <= 3:
        return (*x, *[None] * (3 - len(x)))
    raise InvalidInputError("a sample must be times, data and, if it has its own, an initial state.",
                            got=f"{type(x).__name__} {x!r:.60}", expected="(t, data), (t, data, u0) or a dict of these",
                            fix="TensorDataset(t, data)")  # fmt: skip


def _observed(predicted: Any, data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of prediction and data, without what was not observed."""
    if not isinstance(data, torch.Tensor) or not isinstance(predicted, torch.Tensor) or predicted.shape != data.shape:
        raise InvalidInputError(
            "the data of a trajectory must be a tensor in the shape of what is predicted.",
            got=f"{list(data.shape) if isinstance(data, torch.Tensor) else type(data).__name__} for "
            f"{list(predicted.shape) if isinstance(predicted, torch.Tensor) else type(predicted).__name__}",
            fix="observe=lambda u: u[:, :1]  # from the states (k, *shape) to what was measured",
        )
    seen = ~torch.isnan(data)
    return predicted[seen], data[seen]


def _leaves(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The leaves that tensors were computed from, as autograd's graph lists them."""
    found, seen, stack = [], set(), [x.grad_fn for x in tensors]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        stack += [n for n, _ in node.next_functions]
    return found
