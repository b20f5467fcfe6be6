"""Symplectic integrators: they keep the energy of a Hamiltonian system over very long times.

They take positions and velocities apart: a `DynamicalODEProblem` or a `SecondOrderODEProblem`. `McAte42`, which its
package calls broken, is left out. For a plain problem, `ImplicitMidpoint` and `GaussLegendre` are symplectic.
"""

from __future__ import annotations

from pysciml.algorithms.base import Algorithm

_VERLET = 'Verlet, "Computer experiments on classical fluids I", Phys. Rev. 159 (1967)'
_MCLACHLAN = 'McLachlan and Atela, "The accuracy of symplectic integrators", Nonlinearity 5 (1992)'
_YOSHIDA = 'Yoshida, "Construction of higher order symplectic integrators", Phys. Lett. A 150 (1990)'
_KAHAN = 'Kahan and Li, "Composition constants for raising the orders of unconventional schemes", Math. Comp. 66 (1997)'
_HAIRER = 'Hairer, Lubich and Wanner, "Geometric Numerical Integration", Springer (2006)'


class Symplectic(Algorithm, package="OrdinaryDiffEqSymplecticRK", problem="dynamical", adaptive=False):
    """Symplectic methods with a fixed step."""


class SymplecticEuler(Symplectic, order=1, reference=_HAIRER):
    """Semi-implicit Euler, the simplest of all."""


class VelocityVerlet(Symplectic, order=2, problem="second_order", reference=_VERLET):
    """Velocity Verlet: the common choice of molecular dynamics."""


class VerletLeapfrog(Symplectic, order=2, reference=_VERLET):
    """Kick, drift, kick, with one evaluation of the force a step."""


class LeapfrogDriftKickDrift(Symplectic, order=2, reference=_VERLET):
    """Drift, kick, drift, with one evaluation of the force a step."""


class PseudoVerletLeapfrog(Symplectic, order=2, reference=_VERLET):
    """Leapfrog for forces that depend on the velocity."""


class McAte2(Symplectic, order=2, reference=_MCLACHLAN):
    """Order 2 with the least error."""


class Ruth3(
    Symplectic, order=3, reference='Ruth, "A canonical integration technique", IEEE Trans. Nucl. Sci. 30 (1983)'
):
    """Ruth's method of order 3."""


class McAte3(Symplectic, order=3, reference=_MCLACHLAN):
    """Order 3 with the least error."""


class CandyRoz4(
    Symplectic,
    order=4,
    reference='Candy and Rozmus, "A symplectic integration algorithm for separable Hamiltonians", JCP 92 (1991)',
):
    """Candy and Rozmus' method of order 4."""


class McAte4(Symplectic, order=4, reference=_MCLACHLAN):
    """Order 4 for quadratic kinetic energy."""


class CalvoSanz4(
    Symplectic, order=4, reference='Sanz-Serna and Calvo, "Numerical Hamiltonian Problems", Chapman and Hall (1994)'
):
    """Order 4 with the least error."""


class McAte5(Symplectic, order=5, reference=_MCLACHLAN):
    """Order 5 for quadratic kinetic energy."""


class Yoshida6(Symplectic, order=6, reference=_YOSHIDA):
    """Yoshida's method of order 6."""


class KahanLi6(Symplectic, order=6, reference=_KAHAN):
    """Order 6 with the least error."""


class McAte8(Symplectic, order=8, reference=_MCLACHLAN):
    """Order 8."""


class KahanLi8(Symplectic, order=8, reference=_KAHAN):
    """Order 8 with the least error, for orbits over very long times."""


class SofSpa10(
    Symplectic,
    order=10,
    reference='Sofroniou and Spaletta, "Derivation of symmetric composition constants for symmetric integrators", '
    "Optim. Methods Softw. 20 (2005)",
):
    """Order 10."""
