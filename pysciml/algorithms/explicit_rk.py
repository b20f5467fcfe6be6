"""Explicit Runge-Kutta methods of order 1 to 6, for non-stiff problems.

Left out, because of what they did on a forced Lotka-Volterra system: `Alshina2`, `Alshina3`, `FRK65`, `SIR54` (and
`RKV76IIa` of Verner's package) choose steps thousands of times too small; `Anas5` and `RKM` converged with order 2 and
3 where 5 and 4 are claimed. `SplitEuler` takes split problems only, `ExplicitRK` a tableau of the user's own.
"""

from __future__ import annotations

from pysciml.algorithms.base import Algorithm

_HAIRER = 'Hairer, Norsett and Wanner, "Solving Ordinary Differential Equations I", Springer (1993)'
_OWREN = (
    'Owren and Zennaro, "Derivation of efficient, continuous, explicit Runge-Kutta methods", '
    "SIAM J. Sci. Stat. Comput. 13 (1992)"
)
_ALSHINA = (
    'Alshina, Zaks and Kalitkin, "Optimal first- to sixth-order accurate Runge-Kutta schemes", '
    "Comput. Math. Math. Phys. 48 (2008)"
)
_CAPUANO = (
    'Capuano et al., "Explicit Runge-Kutta schemes for incompressible flow with improved energy-conservation '
    'properties", J. Comput. Phys. 328 (2017)'
)


class Tsit5(
    Algorithm,
    order=5,
    package="OrdinaryDiffEqTsit5",
    torchdiffeq="Tsit5",
    embedded="torchdiffeq",
    reads_back=True,
    reference='Tsitouras, "Runge-Kutta pairs of order 5(4) ...", Comput. Math. Appl. 62 (2011)',
):
    """Tsitouras 5(4): the first choice for non-stiff problems at everyday tolerances."""


class LowOrderRK(Algorithm, package="OrdinaryDiffEqLowOrderRK"):
    """Explicit Runge-Kutta methods of low order."""


class Euler(LowOrderRK, order=1, adaptive=False, torchdiffeq="euler", embedded="torchdiffeq", reference=_HAIRER):
    """Forward Euler with a fixed step `dt`."""


class Heun(LowOrderRK, order=2, torchdiffeq="adaptive_heun", embedded="torchdiffeq", reference=_HAIRER):
    """Heun's method of order 2 with Euler for the error; torchdiffeq's `adaptive_heun`."""


class Midpoint(LowOrderRK, order=2, reference=_HAIRER):
    """The explicit midpoint rule with Euler for the error, for very loose tolerances."""


class Ralston(LowOrderRK, order=2, reference=_HAIRER):
    """The two-stage method of order 2 with the least error, with Euler for the error estimate."""


class BS3(
    LowOrderRK,
    order=3,
    torchdiffeq="bosh3",
    embedded="torchdiffeq",
    reference='Bogacki and Shampine, "A 3(2) pair of Runge-Kutta formulas", Appl. Math. Lett. 2 (1989)',
):
    """Bogacki-Shampine 3(2), for loose tolerances; torchdiffeq's `bosh3`."""


class OwrenZen3(LowOrderRK, order=3, reference=_OWREN):
    """Owren-Zennaro 3(2), for loose tolerances where the dense output matters most."""


class RK4(
    LowOrderRK,
    order=4,
    reference='Shampine, "Solving ODEs and DDEs with residual control", Appl. Numer. Math. 52 (2005)',
):
    """The classic method of order 4; with its steps chosen by the residual, or fixed by `dt`."""


class OwrenZen4(LowOrderRK, order=4, reference=_OWREN):
    """Owren-Zennaro 4(3), for medium tolerances where the dense output matters most."""


class Ralston4(
    LowOrderRK,
    order=4,
    adaptive=False,
    reference='Ralston, "Runge-Kutta methods with minimum error bounds", Math. Comput. 16 (1962)',
):
    """The four-stage method of order 4 with the least error bound."""


class PSRK3p5q4(LowOrderRK, order=3, adaptive=False, reference=_CAPUANO):
    """Pseudo-symplectic of order 3 that keeps energy to order 5, for incompressible flow."""


class PSRK3p6q5(LowOrderRK, order=3, adaptive=False, reference=_CAPUANO):
    """Pseudo-symplectic of order 3 that keeps energy to order 6, for incompressible flow."""


class PSRK4p7q6(LowOrderRK, order=4, adaptive=False, reference=_CAPUANO):
    """Pseudo-symplectic of order 4 that keeps energy to order 7, for incompressible flow."""


class DP5(
    LowOrderRK,
    order=5,
    torchdiffeq="dopri5",
    embedded="torchdiffeq",
    reference='Dormand and Prince, "A family of embedded Runge-Kutta formulae", JCAM 6 (1980)',
):
    """Dormand-Prince 5(4), the method of ode45 and of torchdiffeq's `dopri5`."""


class BS5(
    LowOrderRK,
    order=5,
    reference='Bogacki and Shampine, "An efficient Runge-Kutta (4,5) pair", Comput. Math. Appl. 32 (1996)',
):
    """Bogacki-Shampine 5(4) with two error estimates, for problems where a step's error is hard to judge."""


class OwrenZen5(LowOrderRK, order=5, reference=_OWREN):
    """Owren-Zennaro 5(4), for everyday tolerances where the dense output matters most."""


class RKO65(
    LowOrderRK,
    order=5,
    adaptive=False,
    reference='Tsitouras, "Explicit Runge-Kutta methods for starting integration of Lane-Emden problem", '
    "Appl. Math. Comput. 354 (2019)",
):
    """Tsitouras' six-stage method of order 5, made to start at the singular point of Lane-Emden problems."""


class MSRK5(LowOrderRK, order=5, adaptive=False, reference="Stepanov, arXiv:2202.08443 (2022)"):
    """Stepanov's method of order 5 with a small error constant."""


class MSRK6(LowOrderRK, order=6, adaptive=False, reference="Stepanov, arXiv:2202.08443 (2022)"):
    """Stepanov's method of order 6 with a small error constant."""


class Stepanov5(
    LowOrderRK,
    order=5,
    reference='Stepanov, "Embedded (4, 5) pairs of explicit 7-stage Runge-Kutta methods with FSAL property", '
    "Calcolo 59 (2022)",
):
    """Stepanov's 5(4), an alternative to `Tsit5` with a smaller error constant."""


class Alshina6(LowOrderRK, order=6, adaptive=False, reference=_ALSHINA):
    """A seven-stage method of order 6 with optimised coefficients."""
