"""Boundary value problems: du/dt = f(t, u) with conditions at several times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.problems.ode import ODEProblem, Time
from pysciml.problems.systems import System
from pysciml.rhs.functorch import number, numbers
from pysciml.rhs.parameters import Inputs, leaf_names
from pysciml.under_compile import made_outside


@made_outside
@dataclass(frozen=True, eq=False)
class BVProblem:
    """du/dt = f(t, u) or f(t, u, p) with bc(sol) = 0 or bc(sol, p) = 0, as many conditions as states.

    Gradients go to p, to parameters of modules and to tensors that f and bc captured, and to the ends of `tspan`; in
    the guess `u0` they are zero. They are those of the exact solution, by the implicit function theorem, to any order.

    Args:
        f: as of `ODEProblem`, in torch or a `JuliaFunction`. tspan, p: as of `ODEProblem`.
        bc: a torch function of `sol`, and of p if that is given: `sol(t)` is the state at a time of the span, in the
            structure of u0. It returns the residuals, a tensor or a pytree of them, as many numbers as a state has.
        u0: a guess: one state for all times; or a function of t, such as an earlier solution
            (`prob.remake(u0=sol)` starts warm); or with `times` the states then, each leaf (k, *shape). Real.
        times: (k,) the times of the states in u0, from tspan[0] to tspan[1].

    `pysciml.solve` takes `alg` (`MultiShooting()`, the default, `Shooting()`; with Julia also `MIRK4()`, ...),
    `saveat`, `reltol`, `abstol`, `sensealg`, `engine`, `route` and `maxiters`. It gives a `Solution`, of which
    `sol(t)` is differentiable too. `sensealg` is that of the flow between the times that the solution is kept at.

    Raises:
        InvalidInputError: what an `ODEProblem` refuses; times that do not fit; from `solve`, too many or too few
            residuals. UnsupportedError: complex numbers.
        SolveError: from `solve`, no solution was found; from `backward`, conditions that do not determine it.

    Reference: Ascher, Mattheij and Russell, "Numerical Solution of Boundary Value Problems for Ordinary Differential
    Equations", SIAM (1995).

    Example:
        The mean of the solution is given, and its value at the start:

        >>> import torch, pysciml as ps
        >>> mean = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        >>> f = lambda t, u: torch.stack([u[1], -u[0], u[0]])  # the last is the integral of the first
        >>> def bc(sol):
        ...     start, end = sol(0.0), sol(1.0)
        ...     return torch.stack([start[0] - 1.0, start[2], end[2] - mean])
        >>> prob = ps.BVProblem(f, bc, torch.ones(3, dtype=torch.float64), (0.0, 1.0))
        >>> sol = ps.solve(prob, ps.Shooting(), engine="embedded", reltol=1e-8, abstol=1e-8)
        >>> sol.u[0, 1].backward()  # u = cos t + v sin t, whose integral is sin 1 + v (1 - cos 1)
        >>> slope = (0.5 - torch.sin(torch.tensor(1.0))) / (1 - torch.cos(torch.tensor(1.0)))
        >>> abs(sol.u[0, 1].item() - slope.item()) < 1e-5, abs(mean.grad.item() - 2.1753) < 1e-3
        (True, True)
    """

    f: Callable
    bc: Any
    u0: Any
    tspan: tuple[Time, Time]
    p: Any = None
    times: Any = None

    def __post_init__(self):
        self._check_conditions()
        made = self.ode  # which checks all
        for name in ("tspan", "p"):
            object.__setattr__(self, name, getattr(made, name))
        if isinstance(self.f, System):
            raise UnsupportedError("a boundary value problem takes one f(t, u).", got=type(self.f).__name__,
                                   expected="f of the whole state", fix="def f(t, u): ...")  # fmt: skip
        if any(x.is_complex() for x in (*self.inputs.u, *self.inputs.p)):
            raise UnsupportedError(
                "boundary value problems of complex numbers are not solved.", got="a complex u0 or p",
                expected="pairs of real ones", fix="u0=torch.view_as_real(u0), and in f: torch.view_as_complex(u)",
            )  # fmt: skip
        if self.times is not None:
            self._check_times()

    def _check_conditions(self) -> None:
        if not callable(self.bc):
            raise InvalidInputError("bc must be callable.", got=type(self.bc).__name__, fix="def bc(sol): ...")

    def _check_times(self) -> None:
        given = numbers(torch.as_tensor(self.times, dtype=torch.float64))
        leaves = [] if callable(self.u0) else [torch.as_tensor(x) for x in pytree.tree_leaves(self.u0)]
        if not leaves or not _fit(given, leaves, self.span):
            raise InvalidInputError(
                "`times` are those of the states in u0, from the start of tspan to its end.",
                got=f"times of shape {list(given.shape)}, u0 of {[list(x.shape) for x in leaves] or 'a function'}",
                expected=f"k times from {self.span[0]:g} to {self.span[1]:g}, and k states",
                fix="times=torch.linspace(t0, t1, 11), u0=torch.zeros(11, 2)",
            )

    @cached_property
    def example(self) -> Any:
        """One state, as the guess has it at the start."""
        if callable(self.u0):
            t0 = self.tspan[0] if isinstance(self.tspan, (tuple, list)) else 0.0
            state = self.u0(torch.tensor(number(t0), dtype=torch.float64))
            return pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, state)
        if self.times is None:
            return self.u0
        return pytree.tree_map(lambda x: torch.as_tensor(x)[0], self.u0)

    @cached_property
    def ode(self) -> ODEProblem:
        """The equation between the conditions."""
        return ODEProblem(self.f, self.example, self.tspan, self.p)

    @property
    def inputs(self) -> Inputs:
        """The tensors of a state and of p, and their structures."""
        return self.ode.inputs

    @property
    def span(self) -> tuple[float, float]:
        """`tspan` as plain numbers."""
        return self.ode.span

    def remake(self, **changes: Any) -> BVProblem:
        """The same problem with some fields changed: `prob.remake(u0=sol)`."""
        unknown = changes.keys() - self.__dataclass_fields__.keys()
        if unknown:
            raise InvalidInputError(f"a {type(self).__name__} has no field {sorted(unknown)[0]!r}.",
                                    got=", ".join(sorted(unknown)),
                                    expected=", ".join(self.__dataclass_fields__))  # fmt: skip
        return replace(self, **({"times": None} if "u0" in changes else {}) | changes)

    def __repr__(self) -> str:
        leaves, names = self.inputs.u, leaf_names(self.example, "u0")
        state = ", ".join(f"{n}: {list(x.shape)}" for n, x in zip(names, leaves, strict=True))
        f = getattr(self.f, "__name__", type(self.f).__name__)
        return (f"{type(self).__name__}({f}, {state} {leaves[0].dtype}, "
                f"tspan=({self.span[0]:g}, {self.span[1]:g}))")  # fmt: skip


def _fit(ts: np.ndarray, leaves: list[torch.Tensor], span: tuple[float, float]) -> bool:
    """Whether times go from one end of the span to the other, one for each state."""
    if ts.ndim != 1 or ts.size < 2:
        return False
    onwards = ((ts[1:] - ts[:-1]) * (span[1] - span[0]) > 0).all()
    at_ends = abs(ts[[0, -1]] - span).max() <= 1e-9 * (abs(span[0]) + abs(span[1]))
    return bool(onwards and at_ends) and all(x.shape[:1] == ts.shape for x in leaves)


class TwoPointBVProblem(BVProblem):
    """A `BVProblem` whose conditions are at the two ends alone, which collocation methods want.

    Args:
        bc: a pair of functions of the states at the start and at the end, `(bca, bcb)` with `bca(ua)` and `bcb(ub)`,
            or one function of both, `bc(ua, ub)`; each takes p too if that is given. Together they return as many
            residuals as a state has. f, u0, tspan, p, times: as of `BVProblem`.

    `pysciml.solve` takes `Collocation4()`, the default, and what a `BVProblem` takes.

    Raises:
        As `BVProblem`.

    Reference: Ascher, Mattheij and Russell, "Numerical Solution of Boundary Value Problems for Ordinary Differential
    Equations", SIAM (1995); Kierzenka and Shampine, "A BVP solver based on residual control", ACM TOMS 27 (2001).

    Example:
        Bratu's problem, u'' + k exp(u) = 0, with its lower solution:

        >>> import torch, pysciml as ps
        >>> k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        >>> f = lambda t, u: torch.stack([u[1], -k * torch.exp(u[0])])
        >>> bc = (lambda ua: ua[0], lambda ub: ub[0])
        >>> prob = ps.TwoPointBVProblem(f, bc, torch.zeros(2, dtype=torch.float64), (0.0, 1.0))
        >>> sol = ps.solve(prob, ps.Collocation4(), saveat=[0.5], engine="embedded")
        >>> sol.u[0, 0].backward()
        >>> round(sol.u[0, 0].item(), 5), round(k.grad.item(), 4)
        (0.14054, 0.1592)
    """

    def _check_conditions(self) -> None:
        pair = isinstance(self.bc, (tuple, list)) and len(self.bc) == 2 and all(map(callable, self.bc))
        if not (pair or callable(self.bc)):
            raise InvalidInputError(
                "bc must be a function of both ends, or a pair of functions of one each.", got=f"{self.bc!r:.80}",
                fix="bc=(lambda ua: ua[0], lambda ub: ub[0] - 1.0)",
            )  # fmt: skip
