"""Explicit Runge-Kutta methods of order 7 to 14, for non-stiff problems at very tight tolerances.

Left out: `QPRK98`, which converged with order 1 on a forced Lotka-Volterra system where 9 is claimed, and
`PFRK87`, whose step control ran into the step limit on it.
"""

from __future__ import annotations

from pysciml.algorithms.base import Algorithm


class HighOrderRK(Algorithm, package="OrdinaryDiffEqHighOrderRK"):
    """Explicit Runge-Kutta methods of order 7 and 8."""


class TanYam7(
    HighOrderRK,
    order=7,
    reference="Tanaka, Muramatsu and Yamashita, on nine-stage Runge-Kutta methods of order 7, Trans. IPSJ 33 (1992)",
):
    """Tanaka-Yamashita 7(6), an alternative to `Vern7`."""


class DP8(
    HighOrderRK,
    order=8,
    reference='Hairer, Norsett and Wanner, "Solving Ordinary Differential Equations I", Springer (1993)',
):
    """Dormand-Prince 8(5,3), the method of Hairer's DOP853."""


class TsitPap8(
    HighOrderRK,
    order=8,
    reference='Tsitouras and Papakostas, "Cheap error estimation for Runge-Kutta methods", '
    "SIAM J. Sci. Comput. 20 (1999)",
):
    """Tsitouras-Papakostas 8(7), an alternative to `Vern8`."""


class Feagin(
    Algorithm,
    package="OrdinaryDiffEqFeagin",
    reference='Feagin, "High-order explicit Runge-Kutta methods using m-symmetry", Neural Parallel Sci. Comput. 20 '
    "(2012)",
):
    """Feagin's methods, whose order pays where tolerances go beyond double precision."""


class Feagin10(Feagin, order=10):
    """Feagin's 10(8), for tolerances below 1e-13."""


class Feagin12(Feagin, order=12):
    """Feagin's 12(10), for tolerances below 1e-13."""


class Feagin14(Feagin, order=14):
    """Feagin's 14(12), for tolerances below 1e-13."""


class KuttaPRK2p5(
    Algorithm,
    order=5,
    adaptive=False,
    package="OrdinaryDiffEqPRK",
    reference='Jackson and Norsett, "The potential for parallelism in Runge-Kutta methods", '
    "SIAM J. Numer. Anal. 32 (1995)",
):
    """A five-stage method of order 5 whose stages can be computed by two processors."""
