"""The callback route: f stays Python, and its derivatives are what torch's autograd says of one run of it.

Nothing is traced, so f may do what it likes: branch on values, loop, leave torch inside a `torch.autograd.Function`.
It is called from the solver at every step, which is slow, and holds Python's lock while it runs.

A gradient here means what it means in eager torch: a `detach` in f cuts it. Parameters that f reaches for by itself
are found by running it twice before the solve (`captured.py`); one that turns up later raises, and so does an f whose
result depends on its state or parameters without torch seeing how. So no gradient is zero without a word.

Example:
    >>> import torch, pysciml as ps
    >>> def decay(t, u, p):
    ...     return -p * u if u.item() > 0.5 else -2.0 * p * u
    >>> p = torch.tensor([1.0], dtype=torch.float64)
    >>> prob = ps.ODEProblem(decay, torch.ones(1, dtype=torch.float64), (0.0, 1.0), p)
    >>> program, rhs = prepare_callback(prob)
    >>> rhs.jac(0.0, np.array([0.8]), np.array([1.0])), rhs.jac(0.0, np.array([0.2]), np.array([1.0]))
    (array([[-1.]]), array([[-2.]]))
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.rhs.captured import Held, Substitute, leaves_of, parameters_of
from pysciml.rhs.parameters import Layout, count, flatten, pack, real, restored, to_numpy
from pysciml.rhs.trace import _check_derivative, _derivative

_WORDS = {"u": "its state", "p": "a parameter"}


@dataclass(eq=False)
class CallbackProgram:
    """What f is called with. Attributes as of `trace.Program`: leaves of t, u and p, and the tensors f reaches for."""

    f: Callable
    t: torch.Tensor
    u: list[torch.Tensor]
    p: list[torch.Tensor]
    u_layout: Layout
    p_layout: Layout | None
    captured: list[torch.Tensor]
    signature: Any
    held: Held

    @property
    def parameters(self) -> list[torch.Tensor]:
        return [*self.p, *self.captured]

    def apply(self, t: torch.Tensor, u: Sequence[torch.Tensor], p: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The leaves of f's result, in the state's order."""
        state = pytree.tree_unflatten(list(u), self.u_layout.spec)
        parameters = () if self.p_layout is None else (pytree.tree_unflatten(list(p), self.p_layout.spec),)
        with self.held:
            leaves = _derivative(self.f(t, state, *parameters), self.u_layout)
        _check_derivative(leaves, u)
        return leaves


def prepare_callback(prob: Any) -> tuple[CallbackProgram, CallbackRHS]:
    """A problem's f as it is called back, with the tensors it captured; what `trace.prepare` is to the compiled route.

    Args:
        prob: anything with f, u0, tspan and p as an `ODEProblem` has them.

    Raises:
        InvalidInputError: f returned another structure, shape or dtype than u0 has.
        Exception: whatever f itself raises, unchanged.
    """
    u, u_layout = flatten(prob.u0)
    p, p_layout = ([], None) if prob.p is None else flatten(prob.p)
    t = torch.as_tensor(prob.tspan[0], dtype=u[0].dtype, device=u[0].device).detach()
    u, p = [x.detach() for x in u], [x.detach() for x in p]
    program = CallbackProgram(prob.f, t, u, p, u_layout, p_layout, [], object(), Held(prob.f))
    program.captured = parameters_of(prob.f, lambda: program.apply(t, [x.clone() for x in u], [x.clone() for x in p]))
    return program, CallbackRHS(program)


class CallbackRHS:
    """f and its derivatives on flat float64 vectors.

    Attributes:
        n, m: sizes of the flat state and of the flat parameter vector.
        lowered: an engine's own forms of it. raised: what f raised last, for the engine to raise again.
    """

    def __init__(self, program: CallbackProgram):
        self.n, self.m, self.signature = program.u_layout.size, sum(map(count, program.parameters)), None
        self.lowered: dict[Any, Any] = {}
        self.raised: BaseException | None = None
        self._inputs = _Inputs(program)
        self._graph: tuple[tuple, _Graph] | None = None
        self._looked_at: set[tuple[str, int]] = set()

    def f(self, t: float, u: np.ndarray, p: np.ndarray) -> np.ndarray:
        """(n,): du/dt."""
        with torch.no_grad():
            return to_numpy(_Arguments(self._inputs, t, u, p).run())

    def vjp(self, t: float, u: np.ndarray, p: np.ndarray, v: np.ndarray) -> np.ndarray:
        """(n,): v times the Jacobian in u."""
        return self._pull(t, u, p, "u", v)

    def vjp_p(self, t: float, u: np.ndarray, p: np.ndarray, v: np.ndarray) -> np.ndarray:
        """(m,): v times the Jacobian in p."""
        return self._pull(t, u, p, "p", v)

    def jac(self, t: float, u: np.ndarray, p: np.ndarray) -> np.ndarray:
        """(n, n): the Jacobian in u, one pull a row, which any f allows."""
        return np.stack([self._pull(t, u, p, "u", row) for row in np.eye(self.n)])

    def tgrad(self, t: float, u: np.ndarray, p: np.ndarray) -> np.ndarray:
        """(n,): the derivative in t at fixed u; by differences where f takes t out of torch, as in `math.sin(t)`."""
        if self._at(t, u, p).reaches("t"):
            return np.concatenate([self._pull(t, u, p, "t", row) for row in np.eye(self.n)])
        step = _step(self._inputs.dtype) * (1 + abs(t))
        return (self.f(t + step, u, p) - self.f(t, u, p)) / step

    def _pull(self, t: float, u: np.ndarray, p: np.ndarray, name: str, v: np.ndarray) -> np.ndarray:
        graph = self._at(t, u, p)
        for i in graph.unreached(name):
            if (name, i) not in self._looked_at:
                self._looked_at.add((name, i))
                self._refuse_hidden(t, u, p, name, i)
        return graph.pull(name, v)

    def _refuse_hidden(self, t: float, u: np.ndarray, p: np.ndarray, name: str, place: int) -> None:
        """Raises if f's result changes with a leaf that torch says it does not depend on."""
        moved = {"u": u.copy(), "p": p.copy()}
        x = moved[name][self._inputs.slices(name)[place]]
        x += _step(self._inputs.dtype) * (1 + np.abs(x))
        if not np.array_equal(self.f(t, u, p), self.f(t, moved["u"], moved["p"]), equal_nan=True):
            raise UnsupportedError(
                f"f's result depends on {_WORDS[name]}, but torch cannot see how: its "
                "gradient would be zero.", got="f leaves torch: detach(), .data, .item() or numpy",
                expected="torch operations, or a torch.autograd.Function around what is not torch",
                fix="class Mine(torch.autograd.Function): ...  with forward and backward",
            )  # fmt: skip

    def _at(self, t: float, u: np.ndarray, p: np.ndarray) -> _Graph:
        """One run of f serves all derivatives at a point: solvers ask for several in turn."""
        key = (t, u.tobytes(), p.tobytes())
        if self._graph is None or self._graph[0] != key:
            self._graph = None  # the old graph goes before the new one comes
            self._graph = key, _Graph(self._inputs, t, u, p)
        return self._graph[1]


class _Inputs:
    """Makes f's arguments from flat vectors, and looks after the tensors f reaches for by itself.

    A captured leaf is left where it is, so that custom Functions and TorchScript, which cannot be handed another one,
    are differentiated too. A captured result of an earlier computation is replaced by a leaf of its value, and so is a
    leaf whose value is another one by now or in this call.
    """

    def __init__(self, program: CallbackProgram):
        self.program = program
        self.p_sizes = [count(x) for x in program.parameters]
        self.dtype, self.device = program.u[0].dtype, program.u[0].device
        self._own = sum(map(count, program.p))
        self._now = pack([real(x) for x in program.captured])
        self._versions = [x._version for x in program.captured]

    def slices(self, name: str) -> list[slice]:
        """Where each leaf of "u" or "p" lies in its flat vector."""
        sizes = self.program.u_layout.sizes if name == "u" else self.p_sizes
        ends = np.cumsum([0, *sizes])
        return [slice(a, b) for a, b in itertools.pairwise(ends)]

    def state(self, u: np.ndarray) -> list[torch.Tensor]:
        flat = torch.from_numpy(u).to(self.device, self.dtype, copy=True)
        layout = self.program.u_layout
        return [x.reshape(s) for x, s in zip(flat.split(layout.sizes), layout.shapes, strict=True)]

    def parameters(self, p: np.ndarray) -> tuple[list[torch.Tensor], dict[int, torch.Tensor]]:
        """All parameter leaves with the values of p, and which of them stand for captured tensors, by id."""
        program, flat = self.program, torch.from_numpy(p).split(self.p_sizes)
        pairs = zip(program.parameters, flat, strict=True)
        made = [restored(v, x) for x, v in pairs]
        own = len(program.p)
        if np.array_equal(p[self._own :], self._now) and self._versions == [x._version for x in program.captured]:
            made[own:] = [x if x.is_leaf else y for x, y in zip(program.captured, made[own:], strict=True)]
        replaced = {id(x): y for x, y in zip(program.captured, made[own:], strict=True) if x is not y}
        return made, replaced


class _Arguments:
    """f's arguments at one point, as tensors by name."""

    def __init__(self, inputs: _Inputs, t: float, u: np.ndarray, p: np.ndarray):
        parameters, self._replaced = inputs.parameters(p)
        time = torch.tensor(t, dtype=inputs.dtype, device=inputs.device)
        self.leaves = {"t": [time], "u": inputs.state(u), "p": parameters}
        self._program = inputs.program

    def run(self) -> torch.Tensor:
        """(n,): f's result."""
        program, state = self._program, self.leaves["u"]
        versions = [x._version for x in state]
        with Substitute(self._replaced) if self._replaced else nullcontext():
            leaves = program.apply(self.leaves["t"][0], state, self.leaves["p"][: len(program.p)])
        if versions != [x._version for x in state]:
            raise InvalidInputError("f changes its state in place.", got="u was written to",
                                    fix="x = x + 1 instead of x += 1, or work on u.clone()")  # fmt: skip
        return torch.cat([self._replaced.get(id(x), x).reshape(-1) for x in leaves])


class _Graph:
    """One run of f as autograd saw it, and the products with its Jacobians."""

    def __init__(self, inputs: _Inputs, t: float, u: np.ndarray, p: np.ndarray):
        self._arguments = _Arguments(inputs, t, u, p)
        self._known = {id(x) for xs in self._arguments.leaves.values() for x in xs}
        with torch.enable_grad():
            self._du = self._differentiable(self._arguments)
            reached = leaves_of(self._du)
            strangers = [x for x in reached if id(x) not in self._known]
            if strangers:
                self._refuse_captured(strangers)
        self._reached = set(map(id, reached))

    @staticmethod
    def _differentiable(arguments: _Arguments) -> torch.Tensor:
        for xs in arguments.leaves.values():
            for x in xs:
                x.requires_grad_()
        return arguments.run()

    def _refuse_captured(self, strangers: Sequence[torch.Tensor]) -> None:
        """A leaf that another run of f meets again was not made in f: its gradient would be lost."""
        again = set(map(id, leaves_of(self._arguments.run())))
        for x in strangers:
            if id(x) in again:
                raise UnsupportedError(
                    "f uses a tensor that requires grad, but did not at the start of the solve: its gradient would be "
                    "lost.", got=f"a tensor of shape {list(x.shape)}", expected="it to be known before the solve",
                    fix="hand it over as p: pysciml.ODEProblem(f, u0, tspan, p), with f(t, u, p)",
                )  # fmt: skip

    def reaches(self, name: str) -> bool:
        return any(id(x) in self._reached for x in self._arguments.leaves[name])

    def unreached(self, name: str) -> list[int]:
        """The places of the leaves that f's result does not depend on, as far as torch can see."""
        return [i for i, x in enumerate(self._arguments.leaves[name]) if id(x) not in self._reached]

    def pull(self, name: str, v: np.ndarray) -> np.ndarray:
        """v times the Jacobian in the leaves of that name."""
        leaves = self._arguments.leaves[name]
        size = sum(map(count, leaves))
        if not self.reaches(name):
            return np.zeros(size)
        seed = torch.from_numpy(v).to(self._du)
        found = torch.autograd.grad(self._du, leaves, seed, retain_graph=True, allow_unused=True)
        return pack([real(torch.zeros_like(x) if g is None else g)
                     for x, g in zip(leaves, found, strict=True)])  # fmt: skip


def _step(dtype: torch.dtype) -> float:
    return 1e-7 if dtype is torch.float64 else 1e-3
