"""Exponential integrators: they take the linear part of a problem exactly, by the exponential of a matrix.

Those of Rosenbrock type linearise f at every step and solve a plain ODEProblem whose f does not depend on t: on one
that does, every one of them converged with order 1 to 2. (`EPIRK5s3` did so on one that does not, and is left out.) The
others take a problem split into A u + g(u).
"""

from __future__ import annotations

from pysciml.algorithms.base import Algorithm

_TOKMAN = (
    'Tokman, Loffeld and Tranquilli, "New adaptive exponential propagation iterative methods of Runge-Kutta type", '
    "SIAM J. Sci. Comput. 34 (2012)"
)
_RAINWATER = (
    'Rainwater and Tokman, "A new approach to constructing efficient stiffly accurate EPIRK methods", JCP 323 (2016)'
)
_HOCHBRUCK = (
    'Hochbruck, Ostermann and Schweitzer, "Exponential Rosenbrock-type methods", SIAM J. Numer. Anal. 47 (2009)'
)
_REVIEW = 'Hochbruck and Ostermann, "Exponential integrators", Acta Numer. 19 (2010)'
_COX = 'Cox and Matthews, "Exponential time differencing for stiff systems", J. Comput. Phys. 176 (2002)'
_LAWSON = (
    'Lawson, "Generalized Runge-Kutta processes for stable systems with large Lipschitz constants", SINUM 4 (1967)'
)


class ExponentialRosenbrock(
    Algorithm, package="OrdinaryDiffEqExponentialRK", implicit=True, stiff=True, autonomous=True, adaptive=False
):
    """Exponential methods that linearise f at every step."""


class Exprb32(ExponentialRosenbrock, order=3, adaptive=True, reference=_HOCHBRUCK):
    """Order 3(2), for stiff problems of few states at loose tolerances."""


class Exprb43(ExponentialRosenbrock, order=4, adaptive=True, reference=_HOCHBRUCK):
    """Order 4(3), for stiff problems of few states at medium tolerances."""


class Exp4(
    ExponentialRosenbrock,
    order=4,
    reference='Hochbruck, Lubich and Selhofer, "Exponential integrators for large systems of differential equations", '
    "SIAM J. Sci. Comput. 19 (1998)",
):
    """Order 4, the first of its kind, for large stiff systems."""


class EPIRK4s3A(ExponentialRosenbrock, order=4, reference=_RAINWATER):
    """Order 4 with three stages, stiffly accurate."""


class EPIRK4s3B(ExponentialRosenbrock, order=4, reference=_RAINWATER):
    """Order 4 with three stages, stiffly accurate, a sister of `EPIRK4s3A`."""


class EXPRB53s3(ExponentialRosenbrock, order=5, reference=_RAINWATER):
    """Order 5 with three stages, stiffly accurate."""


class EPIRK5P1(ExponentialRosenbrock, order=5, reference=_TOKMAN):
    """Order 5, for large stiff systems."""


class EPIRK5P2(ExponentialRosenbrock, order=5, reference=_TOKMAN):
    """Order 5, a sister of `EPIRK5P1`."""


class ExponentialRK(Algorithm, package="OrdinaryDiffEqExponentialRK", problem="split", stiff=True, adaptive=False):
    """Exponential methods for problems split into a linear part and a rest."""


class LawsonEuler(ExponentialRK, order=1, reference=_LAWSON):
    """Euler on the transformed problem."""


class NorsettEuler(ExponentialRK, order=1, reference=_REVIEW):
    """Exponential Euler."""


class ETDRK2(ExponentialRK, order=2, reference=_COX):
    """Exponential time differencing of order 2."""


class ETDRK3(ExponentialRK, order=3, reference=_COX):
    """Exponential time differencing of order 3."""


class ETDRK4(ExponentialRK, order=4, reference=_COX):
    """Exponential time differencing of order 4: the common choice for spectral discretisations."""


class HochOst4(ExponentialRK, order=4, reference=_REVIEW):
    """Order 4 that stays of order 4 on stiff problems."""
