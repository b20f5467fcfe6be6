"""SUNDIALS: variable-order multistep methods in both engines (CasADi's copy here, Sundials.jl there), and ARKODE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pysciml.algorithms.base import Algorithm, check_choice, check_max_order
from pysciml.errors import InvalidInputError

_HINDMARSH = (
    'Hindmarsh et al., "SUNDIALS: suite of nonlinear and differential/algebraic equation solvers", ACM TOMS 31 (2005)'
)
_METHODS = ("Newton", "Functional")
_LINEAR_SOLVERS = ("Dense", "GMRES", "BCG", "TFQMR")


@dataclass(frozen=True)
class SundialsAlgorithm(
    Algorithm, package="Sundials", embedded="sundials", reference=_HINDMARSH, variable_order=True, implicit=True
):
    """The options that SUNDIALS' multistep methods share."""

    max_order: int | None = None
    linear_solver: str = "Dense"
    krylov_dim: int = 0

    def __post_init__(self):
        check_choice(self, "linear_solver", _LINEAR_SOLVERS)
        check_max_order(self, self.max_order)


@dataclass(frozen=True)
class CVODE_BDF(SundialsAlgorithm, order=5, stiff=True):  # noqa: N801 - Julia's name
    """Backward differentiation formulas, order 1 to 5, for stiff problems of any size.

    Args:
        method: "Newton" or "Functional" (fixed-point) iteration. linear_solver: "Dense" factorises the Jacobian
            (sparse where it is), "GMRES", "BCG" and "TFQMR" never form it. krylov_dim: largest Krylov space, 0 for
            SUNDIALS' choice. max_order: 1 to 5.
    """

    method: str = "Newton"

    def __post_init__(self):
        super().__post_init__()
        check_choice(self, "method", _METHODS)


@dataclass(frozen=True)
class CVODE_Adams(SundialsAlgorithm, order=12):  # noqa: N801 - Julia's name
    """Adams-Moulton formulas, order 1 to 12, for non-stiff problems with costly right-hand sides.

    Args:
        method: "Functional" (fixed-point) or "Newton" iteration. linear_solver, krylov_dim: as for `CVODE_BDF`.
        max_order: 1 to 12.
    """

    method: str = "Functional"

    def __post_init__(self):
        super().__post_init__()
        check_choice(self, "method", _METHODS)


@dataclass(frozen=True)
class IDA(SundialsAlgorithm, order=5, stiff=True, dae=True, residual=True):
    """Variable-order BDF for differential-algebraic equations of index 1: a `DAEProblem`, or a mass matrix.

    Args:
        linear_solver, krylov_dim, max_order: as for `CVODE_BDF`, max_order 1 to 5.
    """


@dataclass(frozen=True)
class ARKODE(
    Algorithm,
    order=5,
    package="Sundials",
    implicit=True,
    stiff=True,
    reference='Reynolds et al., "ARKODE: a flexible IVP solver infrastructure for one-step methods", TOMS 49 (2023)',
):
    """SUNDIALS' Runge-Kutta methods, implicit (for stiff problems) or explicit, of a given order. In the julia engine.

    Args:
        stiffness: "Implicit" or "Explicit". order_: 2 to 5 implicit, 2 to 8 explicit; Julia's `order`, the name of a
            trait here. A table of one's own choice is had as
            `JuliaAlgorithm("Sundials.ARKODE(Sundials.Implicit(), itable = Sundials.KVAERNO_7_4_5)")`.
        linear_solver, krylov_dim: as for `CVODE_BDF`.
    """

    ORDERS: ClassVar[dict[str, tuple[int, int]]] = {"Implicit": (2, 5), "Explicit": (2, 8)}

    stiffness: str = "Implicit"
    order_: int = 4
    linear_solver: str = "Dense"
    krylov_dim: int = 0

    def __post_init__(self):
        check_choice(self, "stiffness", tuple(self.ORDERS))
        check_choice(self, "linear_solver", _LINEAR_SOLVERS)
        low, high = self.ORDERS[self.stiffness]
        if not low <= self.order_ <= high:
            raise InvalidInputError(f"ARKODE has orders {low} to {high} for {self.stiffness.lower()} methods.",
                                    got=f"order_={self.order_!r}", fix="pysciml.ARKODE(order_=4)")  # fmt: skip
