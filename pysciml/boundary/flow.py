"""The flow of f between two times: an initial value problem, differentiable in its state, in f and in the times.

A flow is taken in the time x from 0 to 1, du/dx = h f(t + h x, u), with t and h among the parameters: all parts of a
span then are one problem, which is compiled, and whose solvers are built, once. A right-hand side in Julia's own text
is solved in its own time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch.utils import _pytree as pytree

from pysciml.algorithms import Algorithm
from pysciml.problems import ODEProblem
from pysciml.rhs.captured import Substituted
from pysciml.rhs.julia_source import JuliaFunction
from pysciml.rhs.parameters import Layout, real, restored
from pysciml.sensitivity import SensitivityAlgorithm
from pysciml.solution import Stats
from pysciml.solve_ode import solve_ode


class Stretched:
    """f in the time x: `stretched(x, u, p)` with p = (t, h, own parameters, captured tensors)."""

    def __init__(self, f: Callable, captured: Sequence[torch.Tensor]):
        self.f, self.captured, self.inner_functions = f, list(captured), (f,)

    def __call__(self, x: torch.Tensor, u: Any, p: Any) -> Any:
        t, h, own, others = p
        f = Substituted(self.f, self.captured, others) if others else self.f
        du = f(t + h * x, u, *own)
        return pytree.tree_map(lambda d: h * d, du)

    @property
    def __name__(self) -> str:
        return getattr(self.f, "__name__", type(self.f).__name__)


@dataclass(eq=False)
class Flow:
    """Solves from one time to another.

    Attributes:
        prob: the equation, of plain values. captured: plain tensors that f captured. alg, reltol, abstol, sensealg,
            engine, route: of the solves. parts: what they counted.
    """

    prob: ODEProblem
    captured: list[torch.Tensor]
    alg: Algorithm | None
    reltol: Any
    abstol: Any
    sensealg: SensitivityAlgorithm | None
    engine: str
    route: str | None
    parts: list[Stats] = field(default_factory=list)

    def __post_init__(self):
        f = self.prob.f
        self._stretched = None if isinstance(f, JuliaFunction) else Stretched(f, self.captured)

    @property
    def layout(self) -> Layout:
        return self.prob.inputs.u_layout

    def state(self, flat: torch.Tensor) -> Any:
        """A flat state (..., n) as f has it."""
        return self.layout.unflatten(flat.to(self.prob.inputs.u[0]))

    def own(self, leaves: Sequence[torch.Tensor]) -> tuple:
        """The parameters that f and bc are called with, of their leaves."""
        layout = self.prob.inputs.p_layout
        return () if layout is None else (layout.build(list(leaves)),)

    def __call__(self, u: torch.Tensor, t: torch.Tensor, h: torch.Tensor, places: torch.Tensor,
                 parameters: Sequence[torch.Tensor], until: float = 1.0) -> torch.Tensor:  # fmt: skip
        """The states (k, n) at the times t + h * places, from u (n,) at t; all float64.

        Args:
            places: (k,) rising from 0 to `until`. parameters: leaves of p, then what stands for captured tensors.
        """
        own = self.own(parameters[: len(self.prob.inputs.p)])
        others = list(parameters[len(self.prob.inputs.p) :])
        options: dict[str, Any] = {"reltol": self.reltol, "abstol": self.abstol, "sensealg": self.sensealg,
                                   "engine": self.engine, "route": self.route}  # fmt: skip
        if self._stretched is not None:
            like = self.prob.inputs.u[0]
            p = (t.to(like), h.to(like), own, others)
            prob = ODEProblem(self._stretched, self.state(u), (0.0, until), p)
            sol = solve_ode(prob, self.alg, saveat=places, **options)
        else:
            f = _with_holes_of(cast("JuliaFunction", self.prob.f), self.captured, others)
            prob = ODEProblem(f, self.state(u), (t, t + until * h), *own)
            sol = solve_ode(prob, self.alg, saveat=t + h * places, **options)
        self.parts.append(sol.stats)
        leaves = pytree.tree_leaves(sol.u)
        return torch.cat([x.reshape(places.numel(), -1).to("cpu", torch.float64) for x in leaves], dim=1)


def unpacked(flat: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The tensors of a flat float64 vector, in the shapes and dtypes of others; differentiable."""
    pieces = flat.split([real(x).numel() for x in like])
    return [_restored(v, x) for v, x in zip(pieces, like, strict=True)]


def _restored(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if like.is_complex():
        return restored(values, like)
    return values.reshape(like.shape).to(like.device, like.dtype)


def _with_holes_of(f: JuliaFunction, captured: Sequence[torch.Tensor], others: Sequence[torch.Tensor]) -> JuliaFunction:
    """A Julia source whose holes have other tensors in the place of those that they captured."""
    if not captured:
        return f
    other = copy.copy(f)
    other.holes = {name: replace(hole, module=Substituted(hole.module, captured, others))
                   for name, hole in f.holes.items()}  # fmt: skip
    return other
