"""Fully implicit Runge-Kutta methods, for stiff problems at tight tolerances."""

from __future__ import annotations

from pysciml.algorithms.implicit import ImplicitAlgorithm

_HAIRER = 'Hairer and Wanner, "Stiff differential equations solved by Radau methods", J. Comput. Appl. Math. 111 (1999)'


class FIRK(ImplicitAlgorithm, dae=True, package="OrdinaryDiffEqFIRK"):
    """Fully implicit Runge-Kutta methods."""


class RadauIIA3(FIRK, order=3, reference=_HAIRER):
    """Radau IIA of order 3, for stiff problems at loose tolerances."""


class RadauIIA5(
    FIRK, order=5, reference='Hairer and Wanner, "Solving Ordinary Differential Equations II", Springer (1996), IV.8'
):
    """Fully implicit Runge-Kutta method of order 5, for stiff problems at tight tolerances."""


class RadauIIA9(FIRK, order=9, reference=_HAIRER):
    """Radau IIA of order 9, for stiff problems at very tight tolerances."""


class AdaptiveRadau(FIRK, order=13, variable_order=True, reference=_HAIRER):
    """Radau IIA of order 5 to 13, chosen as it goes, for stiff problems at any tight tolerance."""


class GaussLegendre(
    FIRK,
    order=4,
    dae=False,
    reference='Hairer, Lubich and Wanner, "Geometric Numerical Integration", Springer (2006), II.1',
):
    """Gauss-Legendre with two stages, symplectic and A-stable, for stiff Hamiltonian problems."""
