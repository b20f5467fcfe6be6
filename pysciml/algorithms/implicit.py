"""Implicit one-step and multistep methods for stiff problems. All of them live in the julia engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pysciml.algorithms.base import Algorithm


@dataclass(frozen=True)
class Rosenbrock23(Algorithm):
    """Rosenbrock-W method of order 2(3), for stiff problems at loose tolerances; ode23s."""

    order: ClassVar[int] = 2
    stiff: ClassVar[bool] = True
    dae: ClassVar[bool] = True
    package: ClassVar[str] = "OrdinaryDiffEqRosenbrock"
    reference: ClassVar[str] = 'Shampine and Reichelt, "The MATLAB ODE Suite", SIAM J. Sci. Comput. 18 (1997)'


@dataclass(frozen=True)
class Rodas5P(Algorithm):
    """Rosenbrock method of order 5(4): the first choice for small stiff problems and mass matrices."""

    order: ClassVar[int] = 5
    stiff: ClassVar[bool] = True
    dae: ClassVar[bool] = True
    package: ClassVar[str] = "OrdinaryDiffEqRosenbrock"
    reference: ClassVar[str] = 'Steinebach, "Construction of Rosenbrock-Wanner method Rodas5P ...", BIT 63 (2023)'


@dataclass(frozen=True)
class TRBDF2(Algorithm):
    """Trapezoidal rule with BDF2, an ESDIRK method of order 2, for stiff problems at loose tolerances."""

    order: ClassVar[int] = 2
    stiff: ClassVar[bool] = True
    package: ClassVar[str] = "OrdinaryDiffEqSDIRK"
    reference: ClassVar[str] = (
        'Hosea and Shampine, "Analysis and implementation of TR-BDF2", Appl. Numer. Math. 20 (1996)'
    )


@dataclass(frozen=True)
class KenCarp4(Algorithm):
    """ESDIRK method of order 4(3) for stiff problems at medium tolerances."""

    order: ClassVar[int] = 4
    stiff: ClassVar[bool] = True
    package: ClassVar[str] = "OrdinaryDiffEqSDIRK"
    reference: ClassVar[str] = 'Kennedy and Carpenter, "Additive Runge-Kutta schemes ...", Appl. Numer. Math. 44 (2003)'


@dataclass(frozen=True)
class FBDF(Algorithm):
    """Fixed-leading-coefficient BDF of order 1 to 5, for large stiff problems."""

    order: ClassVar[int] = 5
    stiff: ClassVar[bool] = True
    dae: ClassVar[bool] = True
    package: ClassVar[str] = "OrdinaryDiffEqBDF"
    reference: ClassVar[str] = 'Shampine, "Solving 0 = F(t, y(t), y\'(t)) in Matlab", J. Numer. Math. 10 (2002)'


@dataclass(frozen=True)
class QNDF(Algorithm):
    """Quasi-constant-step numerical differentiation formulas of order 1 to 5; ode15s."""

    order: ClassVar[int] = 5
    stiff: ClassVar[bool] = True
    dae: ClassVar[bool] = True
    package: ClassVar[str] = "OrdinaryDiffEqBDF"
    reference: ClassVar[str] = 'Shampine and Reichelt, "The MATLAB ODE Suite", SIAM J. Sci. Comput. 18 (1997)'


@dataclass(frozen=True)
class RadauIIA5(Algorithm):
    """Fully implicit Runge-Kutta method of order 5, for stiff problems at tight tolerances."""

    order: ClassVar[int] = 5
    stiff: ClassVar[bool] = True
    dae: ClassVar[bool] = True
    package: ClassVar[str] = "OrdinaryDiffEqFIRK"
    reference: ClassVar[str] = 'Hairer and Wanner, "Solving Ordinary Differential Equations II", IV.8'
