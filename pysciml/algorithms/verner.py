"""Verner's explicit Runge-Kutta pairs, for non-stiff problems at tight tolerances."""

from __future__ import annotations

from pysciml.algorithms.base import Algorithm


class Verner(
    Algorithm,
    package="OrdinaryDiffEqVerner",
    reference='Verner, "Numerically optimal Runge-Kutta pairs with interpolants", Numer. Algorithms 53 (2010)',
):
    """Verner's "most efficient" pairs."""


class Vern6(Verner, order=6):
    """Verner's "most efficient" 6(5), for tolerances around 1e-7. In the julia engine."""


class Vern7(Verner, order=7):
    """Verner's "most efficient" 7(6), for tolerances around 1e-9. In the julia engine."""


class Vern8(Verner, order=8):
    """Verner's "most efficient" 8(7), for tolerances around 1e-11. In the julia engine."""


class Vern9(Verner, order=9):
    """Verner's "most efficient" 9(8), for tolerances below 1e-12. In the julia engine."""
