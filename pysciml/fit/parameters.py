"""Which tensors are fitted, what a user calls them, and putting values into them."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError, PySciMLWarning
from pysciml.problems import ODEProblem
from pysciml.rhs.parameters import leaf_names

Named = dict[str, torch.Tensor]
Values = list[torch.Tensor]


def given(params: Any) -> Named:
    """The tensors a user listed, by name.

    Args:
        params: a module, a dict of tensors, a tensor, or tensors or (name, tensor) pairs in any iterable.

    Raises:
        InvalidInputError: not that, or a tensor that cannot be fitted.
    """
    if isinstance(params, torch.nn.Module):
        named: Named = {n: p for n, p in params.named_parameters() if p.requires_grad}
    elif isinstance(params, torch.Tensor):
        named = {"params": params}
    elif isinstance(params, dict):
        named = dict(zip(leaf_names(params, ""), pytree.tree_leaves(params), strict=True))
        named = {n.removeprefix("['").removesuffix("']"): x for n, x in named.items()}
    elif isinstance(params, Iterable):
        listed = list(params)
        pairs = all(isinstance(x, tuple) and len(x) == 2 and isinstance(x[0], str) for x in listed)
        named = (
            dict(listed) if pairs else dict(zip(leaf_names(listed, "params"), pytree.tree_leaves(listed), strict=True))
        )
    else:
        raise InvalidInputError("params must be a module, tensors, or a dict of tensors.", got=type(params).__name__,
                                fix="params=model.parameters()")  # fmt: skip
    if not named:
        raise _nothing("params holds no tensor that requires grad")
    for name, x in named.items():
        _check_fittable(name, x)
    return _unique(named)


def _check_fittable(name: str, x: Any) -> None:
    if not isinstance(x, torch.Tensor) or not x.requires_grad:
        got = "requires_grad=False" if isinstance(x, torch.Tensor) else type(x).__name__
        raise InvalidInputError(f"`{name}` cannot be fitted: it must be a tensor that requires grad.", got=got,
                                fix=f"{name} = torch.tensor(..., dtype=torch.float64, requires_grad=True)")  # fmt: skip
    if not x.is_leaf:
        raise _computed(f"`{name}`", type(x.grad_fn).__name__)


def _computed(what: str, by: str) -> InvalidInputError:
    return InvalidInputError(
        f"{what} was computed from other tensors before the fit, so changing those would not change it.",
        got=by,
        expected="a leaf: a tensor made with requires_grad=True, or a torch.nn.Parameter",
        fix="compute it inside f: log_k = torch.zeros(1, requires_grad=True); f = lambda t, u: -log_k.exp() * u",
    )


def _nothing(got: str) -> InvalidInputError:
    return InvalidInputError(
        "there is nothing to fit: no tensor that requires grad takes part in the loss.", got=got,
        fix="make f a torch.nn.Module, or a parameter with torch.tensor(..., requires_grad=True), or pass params=...",
    )  # fmt: skip


def _unique(named: Named) -> Named:
    """Each tensor once, under its first name."""
    first = {id(x): n for n, x in reversed(named.items())}
    return {n: x for n, x in named.items() if first[id(x)] == n}


def now() -> int:
    """A number below that of every autograd node made from here on."""
    return torch.ones((), requires_grad=True).clone().grad_fn._sequence_nr()  # type: ignore[union-attr]


def reached(loss: torch.Tensor, since: int, problems: Sequence[ODEProblem]) -> list[torch.Tensor]:
    """The leaves that the loss depends on, as autograd's own graph lists them.

    Asking the graph of one loss finds whatever takes part, wherever it was captured and by whatever route it is solved.
    Only what f does is hidden in the solve's single node, so what it detaches is found by running f itself.

    Raises:
        InvalidInputError: the graph goes on into nodes older than `since`, which the first backward would use up.
    """
    leaves, through_solve = _walk([loss.grad_fn], since)
    if through_solve and problems:
        used = set(map(id, _used_by(problems)))
        through_solve = [x for x in through_solve if id(x) in used]
    return [*leaves, *through_solve]


def _walk(roots: Sequence[Any], since: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Leaves below `roots`: those reached by torch's own operations, and those only a compiled solve was given."""
    plain: dict[int, torch.Tensor] = {}
    solved: dict[int, torch.Tensor] = {}
    seen: set[Any] = set()
    stack = [(node, plain) for node in roots]
    while stack:
        node, found_by = stack.pop()
        if hasattr(node, "variable"):
            found_by[id(node.variable)] = node.variable
        elif node is not None and node not in seen:
            seen.add(node)
            if node._sequence_nr() <= since:
                raise _computed("a tensor in the loss", type(node).__name__)
            below = solved if type(node).__name__ == "_SolveBackward" else plain
            stack += [(n, below) for n, _ in node.next_functions]
    return list(plain.values()), [x for x in solved.values() if id(x) not in plain]


def _used_by(problems: Sequence[ODEProblem]) -> list[torch.Tensor]:
    """Initial states, times, and what f uses in a run under autograd."""
    used = [x for prob in problems for x in (*pytree.tree_leaves(prob.u0), *prob.tspan) if isinstance(x, torch.Tensor)]
    for prob in problems:
        leaf = pytree.tree_leaves(prob.u0)[0]
        t = torch.tensor(prob.span[0], dtype=leaf.dtype, device=leaf.device)
        with torch.enable_grad():
            du = pytree.tree_leaves(prob.f(t, prob.u0) if prob.p is None else prob.f(t, prob.u0, prob.p))
        used += _walk([x.grad_fn for x in du], -1)[0]
    return used


def found(leaves: Sequence[torch.Tensor], problems: Sequence[ODEProblem], functions: Sequence[Any]) -> Named:
    """The leaves by the names a user knows them by, in the order in which the problems name them.

    Warns of tensors that look as if they should be fitted, but do not take part in the loss.

    Raises:
        InvalidInputError: there is no leaf.
    """
    names = _names(problems, functions)
    reachable = set(map(id, leaves))
    named = {name: x for name, x, _ in names if id(x) in reachable}
    unnamed = [x for x in leaves if all(x is not y for y in named.values())]
    named |= {f"captured[{i}]": x for i, x in enumerate(unnamed)}
    idle = [name for name, x, owned in names if owned and id(x) not in reachable]
    if not named:
        raise _nothing(f"{', '.join(idle)} without influence" if idle else "no such tensor in f, p, u0 or the loss")
    if idle:
        warnings.warn(
            f"not fitted, because the loss does not depend on them: {', '.join(idle)}.\n"
            "Fix: use them in f, or freeze them with requires_grad_(False).",
            PySciMLWarning,
            stacklevel=4,
        )
    return _unique(named)


def check_influence(named: Named, leaves: Sequence[torch.Tensor]) -> None:
    """Raises InvalidInputError, by name, for listed parameters that the loss does not depend on."""
    reachable = set(map(id, leaves))
    idle = [name for name, x in named.items() if id(x) not in reachable]
    if idle:
        raise InvalidInputError(
            f"the loss does not depend on {', '.join(f'`{n}`' for n in idle)}: its gradient would always be zero.",
            got="no path from the loss to it",
            expected="parameters that f, u0 or the loss uses",
            fix="look for .detach(), .item(), .data or torch.tensor(x) on its way, or leave it out of params",
        )


def _names(problems: Sequence[ODEProblem], functions: Sequence[Any]) -> Iterable[tuple[str, torch.Tensor, bool]]:
    """(name, tensor, whether it was plainly handed over to be fitted), each tensor once."""
    out: list[tuple[str, torch.Tensor, bool]] = []
    for i, prob in enumerate(problems):
        where = "" if len(problems) == 1 else f"prob[{i}]."
        for tree, root in ((prob.p, "p"), (prob.u0, "u0")):
            if tree is not None:
                out += [
                    (where + n, x, True) for n, x in zip(leaf_names(tree, root), pytree.tree_leaves(tree), strict=True)
                ]
        out += [
            (where + n, x, True) for n, x in zip(("t0", "t1"), prob.tspan, strict=True) if isinstance(x, torch.Tensor)
        ]
    for f in [*(prob.f for prob in problems), *functions]:
        if isinstance(f, torch.nn.Module):
            out += [(n, x, True) for n, x in f.named_parameters()]
        elif f is not None:
            out += [(n, x, False) for n, x in _closure(f)]
    first = {id(entry[1]): i for i, entry in reversed(list(enumerate(out)))}
    return [entry for i, entry in enumerate(out) if entry[1].requires_grad and first[id(entry[1])] == i]


def _closure(f: Callable) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors, and parameters of modules, among the closure and the globals a function names."""
    f = getattr(f, "__func__", f)
    code = getattr(f, "__code__", None)
    if code is None:
        return
    values: dict[str, Any] = {n: f.__globals__[n] for n in code.co_names if n in f.__globals__}
    for name, cell in zip(code.co_freevars, f.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # a cell that is not filled yet
            values[name] = cell.cell_contents
    for name, value in values.items():
        if isinstance(value, torch.nn.Module):
            yield from ((f"{name}.{n}", x) for n, x in value.named_parameters())
        elif isinstance(value, (torch.Tensor, dict, list, tuple)):
            pairs = zip(leaf_names(value, name), pytree.tree_leaves(value), strict=True)
            yield from ((n, x) for n, x in pairs if isinstance(x, torch.Tensor))


def values_of(tensors: Sequence[torch.Tensor]) -> Values:
    """Copies of the present values."""
    return [x.detach().clone() for x in tensors]


def put(tensors: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> None:
    """Writes values into tensors."""
    with torch.no_grad():
        for x, value in zip(tensors, values, strict=True):
            x.copy_(value)


@contextlib.contextmanager
def holding(tensors: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> Iterator[None]:
    """`values` in the tensors for the length of a `with` block."""
    before = values_of(tensors)
    put(tensors, values)
    try:
        yield
    finally:
        put(tensors, before)
