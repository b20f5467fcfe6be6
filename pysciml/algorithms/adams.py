"""Adams methods: multistep, few evaluations of f a step, for non-stiff problems whose f is expensive.

Left out: `AN5` and the `JVODE` methods, which their package calls experimental and which missed their tolerance by
factors of 1e3 to 1e5 here. `CVODE_Adams` is of their kind.
"""

from __future__ import annotations

from pysciml.algorithms.base import Algorithm

_HAIRER = 'Hairer, Norsett and Wanner, "Solving Ordinary Differential Equations I", Springer (1993), III'


class Adams(Algorithm, package="OrdinaryDiffEqAdamsBashforthMoulton", reference=_HAIRER):
    """Adams methods."""


class VCABM(Adams, order=12, variable_order=True):
    """Adams-Moulton of order 1 to 12 with variable coefficients: the first choice where f is expensive."""


class VCABM3(Adams, order=3):
    """Adams-Moulton of order 3 with variable coefficients, for loose tolerances."""


class VCABM4(Adams, order=4):
    """Adams-Moulton of order 4 with variable coefficients, for medium tolerances."""


class VCABM5(Adams, order=5):
    """Adams-Moulton of order 5 with variable coefficients, for everyday tolerances."""


class VCAB3(Adams, order=3):
    """Adams-Bashforth of order 3 with variable coefficients, for loose tolerances."""


class VCAB4(Adams, order=4):
    """Adams-Bashforth of order 4 with variable coefficients, for medium tolerances."""


class VCAB5(Adams, order=5):
    """Adams-Bashforth of order 5 with variable coefficients, for everyday tolerances."""


class AB3(Adams, order=3, adaptive=False):
    """Adams-Bashforth with three steps, started by Ralston's method."""


class AB4(Adams, order=4, adaptive=False):
    """Adams-Bashforth with four steps, started by a Runge-Kutta method."""


class AB5(Adams, order=5, adaptive=False):
    """Adams-Bashforth with five steps, started by a Runge-Kutta method."""


class ABM32(Adams, order=3, adaptive=False):
    """Adams-Bashforth-Moulton of order 3, predicting and correcting once."""


class ABM43(Adams, order=4, adaptive=False):
    """Adams-Bashforth-Moulton of order 4, predicting and correcting once."""


class ABM54(Adams, order=5, adaptive=False):
    """Adams-Bashforth-Moulton of order 5, predicting and correcting once."""
