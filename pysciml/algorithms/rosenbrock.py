"""Rosenbrock methods: linearly implicit, one factorisation a step; the first choice for small stiff problems.

Left out, because of what they did with right-hand sides of pysciml: `Rosenbrock32` and `Tsit5DA` converged with order 1
where 3 and 5 are claimed, `Rodas23W` with 2 where 3 is; `HybridExplicitImplicitRK` needs a tableau of the user's own.
All of them can be had as `JuliaAlgorithm`.
"""

from __future__ import annotations

from pysciml.algorithms.implicit import ImplicitAlgorithm

_SHAMPINE_REICHELT = 'Shampine and Reichelt, "The MATLAB ODE Suite", SIAM J. Sci. Comput. 18 (1997)'
_HAIRER = 'Hairer and Wanner, "Solving Ordinary Differential Equations II", Springer (1996), IV.7'
_RANG_2005 = 'Rang and Angermann, "New Rosenbrock W-methods of order 3 for PDAEs of index 1", BIT 45 (2005)'
_RANG_2014 = 'Rang, "An analysis of the Prothero-Robinson example ...", J. Comput. Appl. Math. 262 (2014)'
_RANG_2015 = 'Rang, "Improved traditional Rosenbrock-Wanner methods for stiff ODEs and DAEs", JCAM 286 (2015)'
_SANDU = (
    'Sandu et al., "Benchmarking stiff ODE solvers for atmospheric chemistry problems II", Atmos. Environ. 31 (1997)'
)
_STEINEBACH_1995 = (
    'Steinebach, "Order-reduction of ROW-methods for DAEs and method of lines applications", TH Darmstadt (1995)'
)
_STEINEBACH_2020 = (
    'Steinebach, "Improvement of Rosenbrock-Wanner method RODASP", in "Progress in Differential-Algebraic '
    'Equations II", Springer (2020)'
)
_STEINEBACH_2023 = 'Steinebach, "Construction of Rosenbrock-Wanner method Rodas5P ...", BIT 63 (2023)'
_KAPS_RENTROP = (
    'Kaps and Rentrop, "Generalized Runge-Kutta methods of order four with stepsize control for stiff ordinary '
    'differential equations", Numer. Math. 33 (1979)'
)
_VELDHUIZEN = 'van Veldhuizen, "D-stability and Kaps-Rentrop methods", Computing 32 (1984)'


class Rosenbrock(ImplicitAlgorithm, dae=True, package="OrdinaryDiffEqRosenbrock"):
    """Linearly implicit Runge-Kutta methods."""


class Rosenbrock23(Rosenbrock, order=2, reference=_SHAMPINE_REICHELT):
    """Rosenbrock-W method of order 2(3), for stiff problems at loose tolerances; ode23s."""


class ROS2(Rosenbrock, order=2, reference='Verwer et al., "A second-order Rosenbrock method ...", SISC 20 (1999)'):
    """Two stages of order 2, L-stable, for very loose tolerances."""


class ROS2PR(Rosenbrock, order=2, reference=_RANG_2014):
    """Order 2 without loss of order in the Prothero-Robinson problem, for very loose tolerances."""


class ROS2S(Rosenbrock, order=2, reference=_RANG_2015):
    """Order 2, stiffly accurate, for very loose tolerances."""


class ROS3(Rosenbrock, order=3, reference=_SANDU):
    """Order 3(2), L-stable, made for atmospheric chemistry at loose tolerances."""


class ROS3P(
    Rosenbrock, order=3, reference='Lang and Verwer, "ROS3P: an accurate third-order Rosenbrock solver", BIT 41 (2001)'
):
    """Order 3, A-stable, made for parabolic equations."""


class ROS3PR(Rosenbrock, order=3, reference=_RANG_2014):
    """Order 3 without loss of order in the Prothero-Robinson problem."""


class ROS3PRL(Rosenbrock, order=3, reference=_RANG_2015):
    """Order 3, stiffly accurate, without loss of order in the Prothero-Robinson problem."""


class ROS3PRL2(Rosenbrock, order=3, reference=_RANG_2014):
    """Order 3, stiffly accurate, `ROS3PRL` with smaller error constants."""


class Scholz4_7(Rosenbrock, order=3, reference=_RANG_2015):  # noqa: N801 - Julia's name
    """Order 3 after Scholz, without loss of order in the Prothero-Robinson problem."""


class Rodas3(Rosenbrock, order=3, reference=_SANDU):
    """Order 3(2), stiffly accurate, for loose tolerances."""


class Rodas3P(
    Rosenbrock,
    order=3,
    reference='Steinebach, "Rosenbrock methods within OrdinaryDiffEq.jl", J. Open Res. Softw. 12 (2024)',
):
    """Order 3(2), stiffly accurate, for loose tolerances where the dense output must stay stable."""


class ROS34PW1a(Rosenbrock, order=3, reference=_RANG_2005):
    """Rosenbrock-W method of order 3, for partial differential-algebraic equations."""


class ROS34PW1b(Rosenbrock, order=3, reference=_RANG_2005):
    """Rosenbrock-W method of order 3, a sister of `ROS34PW1a`."""


class ROS34PW2(Rosenbrock, order=3, reference=_RANG_2005):
    """Rosenbrock-W method of order 3, stiffly accurate, for partial differential-algebraic equations."""


class ROS34PRw(Rosenbrock, order=3, reference=_RANG_2015):
    """Rosenbrock-W method of order 3, stiffly accurate, without loss of order in the Prothero-Robinson problem."""


class ROS34PW3(Rosenbrock, order=4, reference=_RANG_2005):
    """Rosenbrock-W method of order 4, A-stable."""


class ROK4a(
    Rosenbrock,
    order=4,
    reference='Tranquilli and Sandu, "Rosenbrock-Krylov methods for large systems of differential equations", '
    "SIAM J. Sci. Comput. 36 (2014)",
):
    """Rosenbrock-Krylov method of order 4, made for large systems."""


class RosShamp4(Rosenbrock, order=4, reference='Shampine, "Implementation of Rosenbrock methods", ACM TOMS 8 (1982)'):
    """Shampine's choice of order 4, A-stable."""


class Veldd4(Rosenbrock, order=4, reference=_VELDHUIZEN):
    """Order 4, D-stable."""


class Velds4(Rosenbrock, order=4, reference=_VELDHUIZEN):
    """Order 4, A-stable."""


class GRK4T(Rosenbrock, order=4, reference=_KAPS_RENTROP):
    """Order 4 with small error, not A-stable: for mildly stiff problems."""


class GRK4A(Rosenbrock, order=4, reference=_KAPS_RENTROP):
    """Order 4, A-stable, with somewhat larger error than `GRK4T`."""


class Ros4LStab(Rosenbrock, order=4, reference=_HAIRER):
    """Order 4, L-stable."""


class RosenbrockW6S4OS(
    Rosenbrock,
    order=4,
    adaptive=False,
    reference='Jax, Bartel, Ehrhardt, Günther and Steinebach, "Rosenbrock-Wanner-type methods", Springer (2021)',
):
    """Rosenbrock-W method of order 4 with six stages, L-stable, fixed steps."""


class Rodas4(Rosenbrock, order=4, reference=_HAIRER):
    """Order 4(3), stiffly accurate: Hairer and Wanner's RODAS, for small stiff problems."""


class Rodas42(Rosenbrock, order=4, reference=_HAIRER):
    """Order 4(3), stiffly accurate, RODAS with other coefficients."""


class Rodas4P(Rosenbrock, order=4, reference=_STEINEBACH_1995):
    """Order 4(3), keeps its order on parabolic equations."""


class Rodas4P2(Rosenbrock, order=4, reference=_STEINEBACH_2020):
    """Order 4(3), keeps its order on parabolic equations and with inexact Jacobians of DAEs."""


class Rodas4PW(Rosenbrock, order=4, reference=_STEINEBACH_2020):
    """Order 4(3), as `Rodas4P`, with a W-method's tolerance for inexact Jacobians."""


class Rodas5(
    Rosenbrock,
    order=5,
    reference="Di Marzo, \"RODAS5(4): méthodes de Rosenbrock d'ordre 5(4) adaptées aux problèmes "
    'différentiels-algébriques", Université de Genève (1993)',
):
    """Order 5(4), stiffly accurate; `Rodas5P` is its successor."""


class Rodas5P(Rosenbrock, order=5, reference=_STEINEBACH_2023):
    """Rosenbrock method of order 5(4): the first choice for small stiff problems and mass matrices."""


class Rodas5Pe(Rosenbrock, order=5, reference=_STEINEBACH_2023):
    """`Rodas5P` with another embedded method for the error estimate."""


class Rodas5Pr(Rosenbrock, order=5, reference=_STEINEBACH_2023):
    """`Rodas5P` that also checks the residual of its dense output, where values between steps matter."""


class Rodas6P(
    Rosenbrock,
    order=6,
    reference='Steinebach, "Rosenbrock methods within OrdinaryDiffEq.jl", J. Open Res. Softw. 12 (2024)',
):
    """Order 6(5), stiffly accurate, for small stiff problems at tight tolerances."""
