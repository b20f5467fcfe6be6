"""Explicit Runge-Kutta methods, for non-stiff problems."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from pysciml.algorithms.base import Algorithm


@dataclass(frozen=True)
class Tsit5(Algorithm):
    """Tsitouras 5(4): the first choice for non-stiff problems at everyday tolerances."""

    order: ClassVar[int] = 5
    package: ClassVar[str] = "OrdinaryDiffEqTsit5"
    torchdiffeq: ClassVar[str] = "Tsit5"
    embedded: ClassVar[str] = "torchdiffeq"
    reference: ClassVar[str] = 'Tsitouras, "Runge-Kutta pairs of order 5(4) ...", Comput. Math. Appl. 62 (2011)'


@dataclass(frozen=True)
class DP5(Algorithm):
    """Dormand-Prince 5(4), the method of ode45 and of torchdiffeq's `dopri5`."""

    order: ClassVar[int] = 5
    package: ClassVar[str] = "OrdinaryDiffEqLowOrderRK"
    torchdiffeq: ClassVar[str] = "dopri5"
    embedded: ClassVar[str] = "torchdiffeq"
    reference: ClassVar[str] = 'Dormand and Prince, "A family of embedded Runge-Kutta formulae", JCAM 6 (1980)'


@dataclass(frozen=True)
class BS3(Algorithm):
    """Bogacki-Shampine 3(2), for loose tolerances; torchdiffeq's `bosh3`."""

    order: ClassVar[int] = 3
    package: ClassVar[str] = "OrdinaryDiffEqLowOrderRK"
    torchdiffeq: ClassVar[str] = "bosh3"
    embedded: ClassVar[str] = "torchdiffeq"
    reference: ClassVar[str] = 'Bogacki and Shampine, "A 3(2) pair of Runge-Kutta formulas", Appl. Math. Lett. 2 (1989)'


@dataclass(frozen=True)
class Heun(Algorithm):
    """Heun's method of order 2 with Euler for the error; torchdiffeq's `adaptive_heun`."""

    order: ClassVar[int] = 2
    package: ClassVar[str] = "OrdinaryDiffEqLowOrderRK"
    torchdiffeq: ClassVar[str] = "adaptive_heun"
    embedded: ClassVar[str] = "torchdiffeq"
    reference: ClassVar[str] = 'Hairer, Norsett and Wanner, "Solving Ordinary Differential Equations I", II.1'


@dataclass(frozen=True)
class Euler(Algorithm):
    """Forward Euler with a fixed step `dt`."""

    order: ClassVar[int] = 1
    adaptive: ClassVar[bool] = False
    package: ClassVar[str] = "OrdinaryDiffEqLowOrderRK"
    torchdiffeq: ClassVar[str] = "euler"
    embedded: ClassVar[str] = "torchdiffeq"
    reference: ClassVar[str] = 'Hairer, Norsett and Wanner, "Solving Ordinary Differential Equations I", I.7'


@dataclass(frozen=True)
class TorchDiffEq(Algorithm):
    """Any method of torchdiffeq by its own name, for those SciML has no equal of (`rk4`, `dopri8`, `midpoint`, ...).

    Args:
        method: torchdiffeq's name. options: its `options` dictionary.
    """

    order: ClassVar[int] = 0
    embedded: ClassVar[str] = "torchdiffeq"
    reference: ClassVar[str] = 'Chen et al., "Neural ordinary differential equations", NeurIPS 2018'

    method: str = "dopri5"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f'TorchDiffEq("{self.method}")'


@dataclass(frozen=True)
class Vern6(Algorithm):
    """Verner's "most efficient" 6(5), for tolerances around 1e-7. In the julia engine."""

    order: ClassVar[int] = 6
    package: ClassVar[str] = "OrdinaryDiffEqVerner"
    reference: ClassVar[str] = (
        'Verner, "Numerically optimal Runge-Kutta pairs with interpolants", Numer. Algorithms 53 (2010)'
    )


@dataclass(frozen=True)
class Vern7(Vern6):
    """Verner's "most efficient" 7(6), for tolerances around 1e-9. In the julia engine."""

    order: ClassVar[int] = 7


@dataclass(frozen=True)
class Vern8(Vern6):
    """Verner's "most efficient" 8(7), for tolerances around 1e-11. In the julia engine."""

    order: ClassVar[int] = 8


@dataclass(frozen=True)
class Vern9(Vern6):
    """Verner's "most efficient" 9(8), for tolerances below 1e-12. In the julia engine."""

    order: ClassVar[int] = 9
