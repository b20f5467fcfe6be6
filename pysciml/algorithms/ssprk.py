"""Strong stability preserving Runge-Kutta methods, for conservation laws with shocks; explicit.

Left out: `SSPRK932`, `SSPRKMSVS32` and `SSPRKMSVS43`, which choose steps thousands of times too small.
"""

from __future__ import annotations

from pysciml.algorithms.base import Algorithm

_SHU = 'Shu and Osher, "Efficient implementation of essentially non-oscillatory shock-capturing schemes", JCP 77 (1988)'
_RUUTH = (
    'Ruuth, "Global optimization of explicit strong-stability-preserving Runge-Kutta methods", Math. Comput. 75 (2006)'
)
_HIGUERAS = (
    'Higueras and Roldán, "New third order low-storage SSP explicit Runge-Kutta methods", J. Sci. Comput. 79 (2019)'
)
_GOTTLIEB = (
    'Gottlieb, Ketcheson and Shu, "Strong Stability Preserving Runge-Kutta and Multistep Time Discretizations", '
    "World Scientific (2011)"
)
_CONDE = 'Fekete, Conde and Shadid, "Embedded pairs for optimal explicit SSP Runge-Kutta methods", JCAM 412 (2022)'
_KUBATKO = (
    'Kubatko, Yeager and Ketcheson, "Optimal strong-stability-preserving Runge-Kutta time discretizations for '
    'discontinuous Galerkin methods", J. Sci. Comput. 60 (2014)'
)


class SSPRK(Algorithm, package="OrdinaryDiffEqSSPRK"):
    """Strong stability preserving methods."""


class SSPRK22(SSPRK, order=2, adaptive=False, reference=_SHU):
    """Two stages, order 2: Shu and Osher's smallest."""


class KYKSSPRK42(SSPRK, order=2, adaptive=False, reference=_KUBATKO):
    """Four stages, order 2, made for discontinuous Galerkin methods."""


class SSPRK33(SSPRK, order=3, adaptive=False, reference=_SHU):
    """Three stages, order 3: the common choice for shocks."""


class SSPRK43(SSPRK, order=3, reference=_CONDE):
    """Four stages, order 3(2): the first choice for shocks with steps chosen as it goes."""


class SSPRK432(SSPRK, order=3, reference=_GOTTLIEB):
    """Four stages, order 3(2), with an older error estimate than `SSPRK43`."""


class SSPRK53(SSPRK, order=3, adaptive=False, reference=_RUUTH):
    """Five stages, order 3."""


class SSPRK53_2N1(SSPRK, order=3, adaptive=False, reference=_HIGUERAS):  # noqa: N801 - Julia's name
    """Five stages, order 3, in two registers of memory."""


class SSPRK53_2N2(SSPRK, order=3, adaptive=False, reference=_HIGUERAS):  # noqa: N801 - Julia's name
    """Five stages, order 3, in two registers of memory, a sister of `SSPRK53_2N1`."""


class SSPRK53_H(SSPRK, order=3, adaptive=False, reference=_HIGUERAS):  # noqa: N801 - Julia's name
    """Five stages, order 3, in little memory and with a larger region of stability."""


class SSPRK63(SSPRK, order=3, adaptive=False, reference=_RUUTH):
    """Six stages, order 3."""


class SSPRK73(SSPRK, order=3, adaptive=False, reference=_RUUTH):
    """Seven stages, order 3."""


class SSPRK83(SSPRK, order=3, adaptive=False, reference=_RUUTH):
    """Eight stages, order 3."""


class SSPRK54(SSPRK, order=4, adaptive=False, reference=_RUUTH):
    """Five stages, order 4."""


class SSPRK104(
    SSPRK,
    order=4,
    adaptive=False,
    reference='Ketcheson, "Highly efficient strong stability-preserving Runge-Kutta methods with low-storage '
    'implementations", SIAM J. Sci. Comput. 30 (2008)',
):
    """Ten stages, order 4, in little memory."""
