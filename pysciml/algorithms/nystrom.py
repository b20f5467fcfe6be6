"""Runge-Kutta-Nyström methods: for second-order equations, x'' = f(x, x', t), taken as such.

They solve a `SecondOrderODEProblem`. A plain ODEProblem does not say which of its states are velocities.
"""

from __future__ import annotations

from pysciml.algorithms.base import Algorithm

_HAIRER = 'Hairer, Norsett and Wanner, "Solving Ordinary Differential Equations I", Springer (1993), II.14'
_DORMAND = 'Dormand, El-Mikkawy and Prince, "Families of Runge-Kutta-Nyström formulae", IMA J. Numer. Anal. 7 (1987)'
_RABIEI = 'Rabiei, Ismail, Norazak and Emadi, "Accelerated Runge-Kutta Nyström method ...", AIP Conf. Proc. 1522 (2013)'
_ERKN = (
    'Demba, Senu and Ismail, "A symplectic embedded Runge-Kutta-Nyström pair that integrates the harmonic oscillator '
    'exactly", Math. Comput. Appl. 21 (2016)'
)


class Nystrom(Algorithm, package="OrdinaryDiffEqRKN", problem="second_order"):
    """Runge-Kutta-Nyström methods."""


class Nystrom4(Nystrom, order=4, velocity=True, adaptive=False, reference=_HAIRER):
    """Order 4 where the acceleration depends on the velocity."""


class FineRKN4(
    Nystrom,
    order=4,
    velocity=True,
    reference='Fine, "Low order practical Runge-Kutta-Nyström methods", Computing 38 (1987)',
):
    """Order 4(3) where the acceleration depends on the velocity."""


class FineRKN5(
    Nystrom,
    order=5,
    velocity=True,
    reference='Fine, "Low order practical Runge-Kutta-Nyström methods", Computing 38 (1987)',
):
    """Order 5(4) where the acceleration depends on the velocity."""


class Nystrom4VelocityIndependent(Nystrom, order=4, adaptive=False, reference=_HAIRER):
    """Order 4 where the acceleration does not depend on the velocity."""


class Nystrom5VelocityIndependent(Nystrom, order=5, adaptive=False, reference=_HAIRER):
    """Order 5 where the acceleration does not depend on the velocity."""


class IRKN3(Nystrom, order=3, adaptive=False, reference=_RABIEI):
    """Order 3 in two steps, with few evaluations of f."""


class IRKN4(Nystrom, order=4, adaptive=False, reference=_RABIEI):
    """Order 4 in two steps, with few evaluations of f."""


class DPRKN4(Nystrom, order=4, reference=_DORMAND):
    """Order 4(3) where the acceleration does not depend on the velocity."""


class DPRKN5(Nystrom, order=5, reference=_DORMAND):
    """Order 5(4) where the acceleration does not depend on the velocity."""


class DPRKN6(Nystrom, order=6, reference=_DORMAND):
    """Order 6(4) with dense output: the first choice where the acceleration does not depend on the velocity."""


class DPRKN6FM(Nystrom, order=6, reference=_DORMAND):
    """Order 6(4) with smaller error than `DPRKN6`, without its dense output."""


class DPRKN8(Nystrom, order=8, reference=_DORMAND):
    """Order 8(6), for orbits at tight tolerances."""


class DPRKN12(Nystrom, order=12, reference=_DORMAND):
    """Order 12(10), for orbits at very tight tolerances."""


class ERKN4(Nystrom, order=4, reference=_ERKN):
    """Order 4(3), exact on the harmonic oscillator."""


class ERKN5(Nystrom, order=5, reference=_ERKN):
    """Order 5(4), exact on the harmonic oscillator."""


class ERKN7(Nystrom, order=7, reference=_ERKN):
    """Order 7(5), exact on the harmonic oscillator."""
