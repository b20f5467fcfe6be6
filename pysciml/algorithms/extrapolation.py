"""Explicit extrapolation methods of any order, for very tight tolerances.

Left out: the implicit ones of the package (`ImplicitEulerExtrapolation` and its sisters), which stop with a MethodError
in their own code when a Jacobian comes with f.
"""

from __future__ import annotations

from pysciml.algorithms.base import Algorithm

_DEUFLHARD = (
    'Deuflhard, "Recent progress in extrapolation methods for ordinary differential equations", SIAM Rev. 27 (1985)'
)
_HAIRER_1 = 'Hairer, Norsett and Wanner, "Solving Ordinary Differential Equations I", Springer (1993), II.9'


class Extrapolation(Algorithm, package="OrdinaryDiffEqExtrapolation", variable_order=True):
    """Explicit extrapolation methods."""


class ExtrapolationMidpointDeuflhard(Extrapolation, order=22, reference=_DEUFLHARD):
    """The midpoint rule extrapolated, after Deuflhard, for non-stiff problems at very tight tolerances."""


class ExtrapolationMidpointHairerWanner(Extrapolation, order=22, reference=_HAIRER_1):
    """The midpoint rule extrapolated, after Hairer and Wanner's ODEX."""
