"""The house style, and what all pictures share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError, MissingExtraError
from pysciml.rhs.parameters import entry_names, leaf_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, told apart with any colour vision, the darker ones first.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555", "#A6761D")
INK, FAINT = "#333333", "#d9d9d9"
_DASHES = ("-", "--", "-.", ":")
_MOST = 12


def pyplot() -> Any:
    """Matplotlib's pyplot.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "plotting") from error
    return plt


def axes_of(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The axes given, or those of a new figure."""
    if ax is not None:
        return ax
    return pyplot().subplots(figsize=size, layout="constrained")[1]


def finish(ax: Axes, xlabel: str, ylabel: str, legend: bool = True) -> Axes:
    """The house style, on these axes alone."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)
    if legend and ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False)
    return ax


def pen(place: int) -> dict[str, Any]:
    """How the line of a place in the legend looks."""
    return {
        "color": COLORS[place % len(COLORS)],
        "linestyle": _DASHES[place // len(COLORS) % len(_DASHES)],
        "linewidth": 1.8,
    }


def columns(state: Any) -> torch.Tensor:
    """(k, n): every component of a pytree of (k, ...) leaves."""
    return torch.cat([x.detach().cpu().reshape(len(x), -1).double() for x in pytree.tree_leaves(state)], dim=1)


def component_names(state: Any) -> list[str]:
    """`u[0]`, `u[1]`, or `u['x'][0]`, for every column of `columns`."""
    leaves = zip(leaf_names(state, "u"), pytree.tree_leaves(state), strict=True)
    return [entry for name, leaf in leaves for entry in entry_names(name, leaf.shape[1:])]


def chosen_of(components: Sequence[int] | None, count: int) -> list[int]:
    """The components to draw, of so many; None is the first twelve."""
    if components is None:
        return list(range(min(count, _MOST)))
    wrong = [i for i in components if not -count <= i < count]
    if wrong:
        raise InvalidInputError(
            f"there is no component {wrong[0]}.",
            got=f"components={list(components)}",
            expected=f"0 to {count - 1}",
            fix="components=(0,)",
        )
    return [i % count for i in components]


def labels(names: Sequence[str] | None, known: list[str]) -> list[str]:
    """The names given, one for each that is known, or those."""
    if names is None:
        return known
    if isinstance(names, str) or len(names) != len(known):
        raise InvalidInputError(
            "names must be one for each component drawn.",
            got=f"names={names!r:.60}",
            expected=f"{len(known)} names",
            fix="components=(0, 1) chooses which are drawn",
        )
    return list(names)


def times_of(sol: Any, points: int) -> torch.Tensor:
    """So many times of the span of a solution."""
    t0, t1 = (float(t) for t in sol.prob.tspan)
    return torch.linspace(t0, t1, points, dtype=torch.float64)
