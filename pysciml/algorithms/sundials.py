"""SUNDIALS: variable-order multistep methods, in both engines (CasADi's copy here, Sundials.jl there)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pysciml.algorithms.base import Algorithm
from pysciml.errors import InvalidInputError

_HINDMARSH = (
    'Hindmarsh et al., "SUNDIALS: suite of nonlinear and differential/algebraic equation solvers", ACM TOMS 31 (2005)'
)
_METHODS = ("Newton", "Functional")
_LINEAR_SOLVERS = ("Dense", "GMRES", "BCG", "TFQMR")


@dataclass(frozen=True)
class SundialsAlgorithm(Algorithm):
    """The options all of SUNDIALS' methods share."""

    package: ClassVar[str] = "Sundials"
    embedded: ClassVar[str] = "sundials"
    reference: ClassVar[str] = _HINDMARSH

    max_order: int | None = None
    linear_solver: str = "Dense"
    krylov_dim: int = 0

    def __post_init__(self):
        self._check("linear_solver", _LINEAR_SOLVERS)
        if self.max_order is not None and not 1 <= self.max_order <= self.order:
            raise InvalidInputError(f"{self.name} has orders 1 to {self.order}.", got=f"max_order={self.max_order!r}",
                                    fix=f"{self.name}(max_order={self.order})")  # fmt: skip

    def _check(self, option: str, choices: tuple[str, ...]) -> None:
        if getattr(self, option) not in choices:
            raise InvalidInputError(
                f"{self.name} does not know that {option}.",
                got=f"{option}={getattr(self, option)!r}",
                expected=", ".join(choices),
                fix=f'{self.name}({option}="{choices[0]}")',
            )


@dataclass(frozen=True)
class CVODE_BDF(SundialsAlgorithm):  # noqa: N801 - Julia's name
    """Backward differentiation formulas, order 1 to 5, for stiff problems of any size.

    Args:
        method: "Newton" or "Functional" (fixed-point) iteration. linear_solver: "Dense" factorises the Jacobian
            (sparse where it is), "GMRES", "BCG" and "TFQMR" never form it. krylov_dim: largest Krylov space, 0 for
            SUNDIALS' choice. max_order: 1 to 5.
    """

    order: ClassVar[int] = 5
    stiff: ClassVar[bool] = True
    method: str = "Newton"

    def __post_init__(self):
        super().__post_init__()
        self._check("method", _METHODS)


@dataclass(frozen=True)
class CVODE_Adams(SundialsAlgorithm):  # noqa: N801 - Julia's name
    """Adams-Moulton formulas, order 1 to 12, for non-stiff problems with costly right-hand sides.

    Args: as for `CVODE_BDF`; `method` is "Functional" unless said otherwise.
    """

    order: ClassVar[int] = 12
    method: str = "Functional"

    def __post_init__(self):
        super().__post_init__()
        self._check("method", _METHODS)


@dataclass(frozen=True)
class IDA(SundialsAlgorithm):
    """Variable-order BDF for differential-algebraic equations, here with a diagonal mass matrix of index 1.

    Args: `linear_solver`, `krylov_dim` and `max_order` (1 to 5) as for `CVODE_BDF`.
    """

    order: ClassVar[int] = 5
    stiff: ClassVar[bool] = True
    dae: ClassVar[bool] = True
