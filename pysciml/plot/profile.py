"""Pictures of how well data determine a parameter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pysciml.plot.style import COLORS, INK, axes_of, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_profile(profile: Any, ax: Axes | None = None, *, xlabel: str | None = None) -> Axes:
    """A profile likelihood: the deviance over the parameter, the interval shaded, its limit dashed.

    Args:
        profile: of `profile_likelihood`. xlabel: None is the parameter's name.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    ax = axes_of(ax, (5.0, 3.6))
    limit = profile.limit
    low, high = (x if math.isfinite(x) else end for x, end in
                 ((profile.low, profile.values[0]), (profile.high, profile.values[-1])))  # fmt: skip
    ax.axvspan(low, high, color=COLORS[0], alpha=0.12, linewidth=0, label="_interval")
    ax.axhline(limit, color=INK, linewidth=0.9, linestyle=(0, (4, 2)), label="_limit")
    ax.annotate(f"{profile.confidence:.0%}", (1.0, limit), xycoords=("axes fraction", "data"), xytext=(3, -3),
                textcoords="offset points", fontsize=9, color=INK)  # fmt: skip
    ax.plot(profile.values, profile.deviance, "o-", color=COLORS[0], linewidth=1.8, markersize=4)
    ax.plot([profile.best], [0.0], "o", color=COLORS[0], markerfacecolor="white", markersize=7, label="_best")
    ax.set_ylim(min(-0.05 * limit, ax.get_ylim()[0]), min(ax.get_ylim()[1], 4 * limit))
    return finish(ax, xlabel or profile.name, "deviance", legend=False)
