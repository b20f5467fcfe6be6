"""Singly diagonally implicit Runge-Kutta methods, for stiff problems of medium size.

`Kvaerno3`, `Kvaerno4`, `Kvaerno5`, `SSPSDIRK2` and `ESDIRK547L2SA2` take f at the wrong time in a stage (the tables of
the first three in OrdinaryDiffEqSDIRK 2 say c2 = gamma where the stage ends at 2 gamma, that of the fourth c = 1 for
both of its stages): right where f does not depend on t, of order 1 to 3 where it does. They are offered for the former.

Left out: `SDIRK22` (the trapezoidal rule under another name), `ESDIRK325L2SA`, `ESDIRK659L2SA` (known upstream to be
unstable), and methods that are of use for split problems only; those are in `imex`.
"""

from __future__ import annotations

from pysciml.algorithms.implicit import ImplicitAlgorithm

_HAIRER = 'Hairer and Wanner, "Solving Ordinary Differential Equations II", Springer (1996), IV.6'
_KVAERNO = (
    'Kværnø, "Singly diagonally implicit Runge-Kutta methods with an explicit first stage", BIT Numer. Math. 44 (2004)'
)
_KENNEDY_2003 = 'Kennedy and Carpenter, "Additive Runge-Kutta schemes ...", Appl. Numer. Math. 44 (2003)'
_KENNEDY_2016 = (
    'Kennedy and Carpenter, "Diagonally implicit Runge-Kutta methods for ODEs: a review", NASA TM-219173 (2016)'
)
_KENNEDY_2019 = (
    'Kennedy and Carpenter, "Higher-order additive Runge-Kutta schemes for ordinary differential equations", '
    "Appl. Numer. Math. 136 (2019)"
)
_ESDIRK = (
    'Kennedy and Carpenter, "Diagonally implicit Runge-Kutta methods for stiff ODEs", Appl. Numer. Math. 146 (2019)'
)


class SDIRK(ImplicitAlgorithm, package="OrdinaryDiffEqSDIRK"):
    """Singly diagonally implicit Runge-Kutta methods."""


class ImplicitEuler(SDIRK, order=1, dae=True, reference=_HAIRER):
    """Backward Euler, the most robust of all, for very stiff or rough problems at very loose tolerances."""


class ImplicitMidpoint(SDIRK, order=2, adaptive=False, reference=_HAIRER):
    """The implicit midpoint rule, symplectic, with fixed steps."""


class Trapezoid(SDIRK, order=2, dae=True, reference='Vladimirescu, "The SPICE Book", Wiley (1994)'):
    """The trapezoidal rule, symmetric and without damping, for stiff oscillations at loose tolerances."""


class TRBDF2(
    SDIRK,
    order=2,
    reference='Hosea and Shampine, "Analysis and implementation of TR-BDF2", Appl. Numer. Math. 20 (1996)',
):
    """Trapezoidal rule with BDF2, an ESDIRK method of order 2, for stiff problems at loose tolerances."""


class SDIRK2(SDIRK, order=2, reference=_KENNEDY_2016):
    """Two-stage method of order 2, L-stable, for stiff problems at loose tolerances."""


class SSPSDIRK2(
    SDIRK,
    order=2,
    adaptive=False,
    autonomous=True,
    reference='Ketcheson, Macdonald and Gottlieb, "Optimal implicit strong stability preserving Runge-Kutta methods", '
    "Appl. Numer. Math. 59 (2009)",
):
    """Order 2, strong stability preserving, for stiff advection with fixed steps."""


class Kvaerno3(SDIRK, order=3, autonomous=True, reference=_KVAERNO):
    """ESDIRK method of order 3(2), stiffly accurate, for stiff problems at loose tolerances."""


class Kvaerno4(SDIRK, order=4, autonomous=True, reference=_KVAERNO):
    """ESDIRK method of order 4(3), stiffly accurate, for stiff problems at medium tolerances."""


class Kvaerno5(SDIRK, order=5, autonomous=True, reference=_KVAERNO):
    """ESDIRK method of order 5(4), stiffly accurate, for stiff problems at tighter tolerances."""


class KenCarp3(SDIRK, order=3, reference=_KENNEDY_2003):
    """ESDIRK method of order 3(2) for stiff problems at loose tolerances."""


class KenCarp4(SDIRK, order=4, reference=_KENNEDY_2003):
    """ESDIRK method of order 4(3) for stiff problems at medium tolerances."""


class KenCarp47(SDIRK, order=4, reference=_KENNEDY_2019):
    """ESDIRK method of order 4(3) with seven stages, more accurate a step than `KenCarp4`."""


class KenCarp5(SDIRK, order=5, reference=_KENNEDY_2003):
    """ESDIRK method of order 5(4) for stiff problems at tighter tolerances."""


class KenCarp58(SDIRK, order=5, reference=_KENNEDY_2019):
    """ESDIRK method of order 5(4) with eight stages, more accurate a step than `KenCarp5`."""


class Cash4(
    SDIRK, order=4, reference='Cash, "Diagonally implicit Runge-Kutta formulae with error estimates", IMA J. 24 (1979)'
):
    """SDIRK method of order 4(3), L-stable."""


class Hairer4(SDIRK, order=4, reference=_HAIRER):
    """SDIRK method of order 4(3), L-stable, stiffly accurate: Hairer and Wanner's SDIRK4."""


class Hairer42(SDIRK, order=4, reference=_HAIRER):
    """SDIRK method of order 4(3), L-stable, with other coefficients than `Hairer4`."""


class ESDIRK436L2SA2(SDIRK, order=4, reference=_ESDIRK):
    """Optimised ESDIRK method of order 4(3) with six stages, a successor of `KenCarp4`'s implicit part."""


class ESDIRK437L2SA(SDIRK, order=4, reference=_ESDIRK):
    """Optimised ESDIRK method of order 4(3) with seven stages."""


class ESDIRK54I8L2SA(SDIRK, order=5, reference=_ESDIRK):
    """Optimised ESDIRK method of order 5(4) with eight stages, a successor of `KenCarp5`'s implicit part."""


class ESDIRK547L2SA2(SDIRK, order=5, autonomous=True, reference=_ESDIRK):
    """Optimised ESDIRK method of order 5(4) with seven stages."""
