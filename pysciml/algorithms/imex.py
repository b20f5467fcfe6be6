"""Methods for split problems, du/dt = f1(u) + f2(u): implicit in the first part, explicit in the second.

`KenCarp3`, `KenCarp4`, `KenCarp47`, `KenCarp5` and `KenCarp58` take such a problem too, and a plain one as well.
"""

from __future__ import annotations

from pysciml.algorithms.implicit import ImplicitAlgorithm

_ASCHER_1995 = (
    'Ascher, Ruuth and Wetton, "Implicit-explicit methods for time-dependent partial differential equations", '
    "SIAM J. Numer. Anal. 32 (1995)"
)
_ASCHER_1997 = (
    'Ascher, Ruuth and Spiteri, "Implicit-explicit Runge-Kutta methods for time-dependent partial differential '
    'equations", Appl. Numer. Math. 25 (1997)'
)


class IMEX(ImplicitAlgorithm, problem="split", adaptive=False):
    """Implicit-explicit methods."""


class IMEXEuler(IMEX, order=1, package="OrdinaryDiffEqBDF", reference=_ASCHER_1995):
    """Backward Euler in the stiff part, forward Euler in the other."""


class IMEXEulerARK(IMEX, order=1, package="OrdinaryDiffEqBDF", reference=_ASCHER_1997):
    """`IMEXEuler` in the form of a Runge-Kutta method."""


class SBDF2(IMEX, order=2, package="OrdinaryDiffEqBDF", reference=_ASCHER_1995):
    """Semi-implicit BDF of order 2."""


class SBDF3(IMEX, order=3, package="OrdinaryDiffEqBDF", reference=_ASCHER_1995):
    """Semi-implicit BDF of order 3."""


class SBDF4(IMEX, order=4, package="OrdinaryDiffEqBDF", reference=_ASCHER_1995):
    """Semi-implicit BDF of order 4."""


class CNAB2(IMEX, order=2, package="OrdinaryDiffEqIMEXMultistep", reference=_ASCHER_1995):
    """Crank-Nicolson in the stiff part, Adams-Bashforth in the other."""


class CNLF2(IMEX, order=2, package="OrdinaryDiffEqIMEXMultistep", reference=_ASCHER_1995):
    """Crank-Nicolson in the stiff part, leapfrog in the other."""


class ARS343(IMEX, order=3, adaptive=True, package="OrdinaryDiffEqSDIRK", reference=_ASCHER_1997):
    """Additive Runge-Kutta of order 3, L-stable in the stiff part."""
