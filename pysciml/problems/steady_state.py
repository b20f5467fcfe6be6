"""Steady states, 0 = f(u), and implicit layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.problems.ode import ODEProblem
from pysciml.rhs.parameters import Inputs, leaf_names
from pysciml.under_compile import made_outside


@made_outside
@dataclass(frozen=True, eq=False)
class SteadyStateProblem:
    """0 = f(t, u) or f(t, u, p), of an f that does not depend on t: where du/dt = f stands still.

    Its solution depends on what is in f alone: gradients go to p, to parameters of modules and to tensors that f
    captured; in `u0`, which is a guess, the gradient is zero. Where that is not so, as with a quantity that f
    conserves, `backward` raises.

    Args:
        f: as of `ODEProblem`, `f(t, u)` or `f(t, u, p)`, whose t is zero; or an `ODEProblem`, whose steady state is
            asked for, and then nothing else.
        u0: where to look from, as of `ODEProblem`, real. Start warm with an earlier solution:
            `prob.remake(u0=sol.u.detach())`.
        p: as of `ODEProblem`.
        mass_matrix: as of `ODEProblem`; it changes the way that `DynamicSS` takes, and no steady state.

    `pysciml.solve` takes `alg` (`TrustRegion()`, `NewtonRaphson()`, `SSRootfind()` or `DynamicSS()`; None takes the
    first, for more than 200 states the second, and the last where these fail), `reltol`, `abstol`,
    `sensealg=SteadyStateAdjoint()`, `engine`, `route` and `maxiters`, and gives a `SteadyStateSolution`: u such that
    |f| <= abstol + reltol |u| in each state.

    Raises:
        InvalidInputError: what an `ODEProblem` refuses; from `solve`, an f that depends on t.
        UnsupportedError: complex numbers.
        SolveError: from `solve`, no steady state was found; from `backward`, it has no derivative.

    Reference: Bai, Kolter and Koltun, "Deep equilibrium models", NeurIPS 2019; Pal et al., "NonlinearSolve.jl",
    arXiv 2403.16341.

    Example:
        >>> import torch, pysciml as ps
        >>> k = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        >>> prob = ps.SteadyStateProblem(lambda t, u: k - u**2, torch.ones(1, dtype=torch.float64))
        >>> sol = ps.solve(prob, ps.NewtonRaphson(), engine="embedded")
        >>> sol.u.sum().backward()  # of the square root of k
        >>> round(sol.u.item(), 6), round(k.grad.item(), 6)
        (1.414214, 0.353553)
    """

    f: Any
    u0: Any = None
    p: Any = None
    mass_matrix: Any = None

    def __post_init__(self):
        if isinstance(self.f, ODEProblem):
            given = self.f
            if any(x is not None for x in (self.u0, self.p, self.mass_matrix)):
                raise InvalidInputError(
                    "the steady state of an ODEProblem takes u0, p and the mass matrix from it.",
                    got="an ODEProblem, and more", fix="SteadyStateProblem(prob), or SteadyStateProblem(f, u0, p)",
                )  # fmt: skip
            for name in ("f", "u0", "p", "mass_matrix"):
                object.__setattr__(self, name, getattr(given, name))
        if self.u0 is None:
            raise InvalidInputError("a SteadyStateProblem needs u0, where to look from.", got="u0=None",
                                    fix="pysciml.SteadyStateProblem(f, torch.zeros(2))")  # fmt: skip
        made = self.ode  # which checks all
        for name in ("u0", "p", "mass_matrix"):
            object.__setattr__(self, name, getattr(made, name))
        if any(x.is_complex() for x in (*self.inputs.u, *self.inputs.p)):
            raise UnsupportedError(
                "steady states of complex numbers are not solved for.", got="a complex u0 or p",
                expected="pairs of real ones",
                fix="u0=torch.view_as_real(u0), and in f: u = torch.view_as_complex(u)",
            )  # fmt: skip

    @cached_property
    def ode(self) -> ODEProblem:
        """The equation whose steady state this is."""
        return ODEProblem(self.f, self.u0, (0.0, 1.0), self.p, self.mass_matrix)

    @property
    def inputs(self) -> Inputs:
        """The tensors of the state and of p, and their structures."""
        return self.ode.inputs

    def remake(self, **changes: Any) -> SteadyStateProblem:
        """The same problem with some fields changed: `prob.remake(u0=sol.u.detach())`."""
        unknown = changes.keys() - self.__dataclass_fields__.keys()
        if unknown:
            raise InvalidInputError(f"a SteadyStateProblem has no field {sorted(unknown)[0]!r}.",
                                    got=", ".join(sorted(unknown)),
                                    expected=", ".join(self.__dataclass_fields__))  # fmt: skip
        return replace(self, **changes)

    def __repr__(self) -> str:
        leaves = pytree.tree_leaves(self.u0)
        names = leaf_names(self.u0, "u0")
        state = ", ".join(f"{n}: {list(x.shape)}" for n, x in zip(names, leaves, strict=True))
        f = getattr(self.f, "__name__", type(self.f).__name__)
        return f"SteadyStateProblem({f}, {state} {leaves[0].dtype})"
