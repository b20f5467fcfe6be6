"""Stabilised explicit methods: many stages for stability along the negative real axis, no Jacobian.

For large, mildly stiff problems whose Jacobian has real eigenvalues, as discretised diffusion. The largest
eigenvalue is estimated as they go. `RKL2` and `RKG2` converged with order 1 where f depends on t.
"""

from __future__ import annotations

from dataclasses import dataclass

from pysciml.algorithms.base import Algorithm
from pysciml.errors import InvalidInputError

_MOISA = 'Moisa, "A family of two-step second order Runge-Kutta-Chebyshev methods", J. Comput. Appl. Math. 446 (2024)'
_MEYER = 'Meyer, Balsara and Aslam, "A stabilized Runge-Kutta-Legendre method ...", J. Comput. Phys. 257 (2014)'
_SKARAS = 'Skaras, Saxton, Meyer and Aslam, "Super-time-stepping schemes for parabolic equations ...", JCP 425 (2021)'


class StabilizedRK(Algorithm, package="OrdinaryDiffEqStabilizedRK"):
    """Explicit methods of many stages."""


@dataclass(frozen=True)
class ROCK(StabilizedRK):
    """Orthogonal Runge-Kutta-Chebyshev methods.

    Args:
        min_stages, max_stages: bounds on the stages of a step, 0 <= min_stages <= max_stages <= 200; a stiffer problem
            takes more of them.
    """

    min_stages: int = 0
    max_stages: int = 200

    def __post_init__(self):
        if not 0 <= self.min_stages <= self.max_stages <= 200 or self.max_stages < 1:
            raise InvalidInputError(
                f"{self.name} has between 1 and 200 stages.",
                got=f"min_stages={self.min_stages!r}, max_stages={self.max_stages!r}",
                fix=f"pysciml.{self.name}(max_stages=200)",
            )


class ROCK2(
    ROCK,
    order=2,
    reference='Abdulle and Medovikov, "Second order Chebyshev methods based on orthogonal polynomials", '
    "Numer. Math. 90 (2001)",
):
    """Order 2, for large diffusion problems at loose tolerances."""


class ROCK4(
    ROCK,
    order=4,
    reference='Abdulle, "Fourth order Chebyshev methods with recurrence relation", SIAM J. Sci. Comput. 23 (2002)',
):
    """Order 4, for large diffusion problems at medium tolerances."""


class RKC(
    StabilizedRK,
    order=2,
    reference='Sommeijer, Shampine and Verwer, "RKC: an explicit solver for parabolic PDEs", JCAM 88 (1998)',
):
    """Order 2, Sommeijer's RKC, for large diffusion problems at loose tolerances."""


class RKL1(StabilizedRK, order=1, reference=_MEYER):
    """Order 1 on Legendre polynomials, monotone, for diffusion in astrophysical flow."""


class RKL2(StabilizedRK, order=2, autonomous=True, reference=_MEYER):
    """Order 2 on Legendre polynomials, monotone, for diffusion in astrophysical flow."""


class RKG1(StabilizedRK, order=1, reference=_SKARAS):
    """Order 1 on Gegenbauer polynomials, monotone with Dirichlet boundaries too."""


class RKG2(StabilizedRK, order=2, autonomous=True, reference=_SKARAS):
    """Order 2 on Gegenbauer polynomials, monotone with Dirichlet boundaries too."""


class RKMC2(StabilizedRK, order=2, reference=_MOISA):
    """Order 2, a monotone Chebyshev method for diffusion."""


class TSRKC2(StabilizedRK, order=2, reference=_MOISA):
    """Order 2 in two steps, with a longer stability interval than `RKC`."""


class TSRKC3(
    StabilizedRK,
    order=3,
    reference='Moisa, "Third order two-step Runge-Kutta-Chebyshev methods", J. Comput. Appl. Math. 457 (2025)',
):
    """Order 3 in two steps, for diffusion at medium tolerances."""


class SERK2(
    StabilizedRK,
    order=2,
    reference='Kleefeld and Martín-Vaquero, "SERK2v2: a new second-order stabilized explicit Runge-Kutta method for '
    'stiff problems", Numer. Methods Partial Differ. Equ. 29 (2013)',
):
    """Order 2 with up to 250 stages, for very large eigenvalues."""


class ESERK4(
    StabilizedRK,
    order=4,
    reference='Martín-Vaquero and Kleefeld, "Extrapolated stabilized explicit Runge-Kutta methods", JCP 326 (2016)',
):
    """Order 4 by extrapolation, for very large eigenvalues."""


class ESERK5(
    StabilizedRK,
    order=5,
    reference='Martín-Vaquero and Kleefeld, "ESERK5: a fifth-order extrapolated stabilized explicit Runge-Kutta '
    'method", J. Comput. Appl. Math. 356 (2019)',
):
    """Order 5 by extrapolation, for very large eigenvalues."""
