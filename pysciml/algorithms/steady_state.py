"""Methods for steady states: the roots of f, or the end of its flow."""

from __future__ import annotations

from dataclasses import dataclass

from pysciml.algorithms.base import Algorithm, check_adaptive, check_problem
from pysciml.errors import InvalidInputError


@dataclass(frozen=True)
class RootFinder(Algorithm, problem="steady_state", package="NonlinearSolve"):
    """Methods that solve 0 = f(u) with the Jacobian of f, which pysciml derives from f."""


@dataclass(frozen=True)
class NewtonRaphson(
    RootFinder, order=0, embedded="casadi",
    reference='Nocedal and Wright, "Numerical Optimization", Springer (2006), chapter 11; here: CasADi\'s `newton`',
):  # fmt: skip
    """Newton's method: quadratic near a root, with the sparsity of the Jacobian; needs a good guess."""


@dataclass(frozen=True)
class TrustRegion(
    RootFinder, order=0, embedded="scipy",
    reference='Powell, "A hybrid method for nonlinear equations" (1970); here: MINPACK\'s `hybrj` by SciPy',
):  # fmt: skip
    """Newton's method kept to steps that its model is right for: from further away, for up to a thousand states."""


@dataclass(frozen=True)
class SSRootfind(
    Algorithm, order=0, problem="steady_state", package="SteadyStateDiffEq", embedded="scipy",
    reference='Pal et al., "NonlinearSolve.jl", arXiv 2403.16341',
):  # fmt: skip
    """The steady state as a root of f, which may be one that f flows away from.

    Args:
        alg: how the root is found: `TrustRegion()` (when None) or `NewtonRaphson()`.
    """

    alg: Algorithm | None = None

    def __post_init__(self):
        if self.alg is not None and not isinstance(self.alg, RootFinder):
            raise InvalidInputError("SSRootfind needs a method for roots.", got=f"{self.alg!r:.80}",
                                    expected="TrustRegion, NewtonRaphson or None",
                                    fix="pysciml.SSRootfind(pysciml.TrustRegion())")  # fmt: skip

    @property
    def parts(self) -> tuple[Algorithm, ...]:
        return (self.alg or TrustRegion(),)


@dataclass(frozen=True)
class DynamicSS(
    Algorithm, order=0, problem="steady_state", embedded="ode",
    reference='Kelley and Keyes, "Convergence analysis of pseudo-transient continuation", SINUM 35 (1998)',
):  # fmt: skip
    """Follows du/dt = f(u) from u0 until it stands still: finds only what f flows into, and that from which u0 is.

    Args:
        alg: the solver on the way, for an `ODEProblem`; None takes the engine's default. Stiff ones (`CVODE_BDF`,
            `Rodas5P`) take ever larger steps near the end. tspan: the time after which it gives up;
            None waits as long as steps last.
    """

    alg: Algorithm | None = None
    tspan: float | None = None

    def __post_init__(self):
        if self.alg is not None:
            if not isinstance(self.alg, Algorithm):
                raise InvalidInputError("DynamicSS needs a solver for ODEs.", got=f"{self.alg!r:.80}",
                                        fix="pysciml.DynamicSS(pysciml.CVODE_BDF())")  # fmt: skip
            check_problem(self.alg)
            check_adaptive(self.name, self.alg)
        if self.tspan is not None and not self.tspan > 0:
            raise InvalidInputError("the time after which DynamicSS gives up must be positive.",
                                    got=f"tspan={self.tspan!r}", fix="pysciml.DynamicSS(tspan=1e6)")  # fmt: skip
