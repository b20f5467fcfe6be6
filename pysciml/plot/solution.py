"""Pictures of solutions: over time, one component against another, and the solver's steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from pysciml.errors import InvalidInputError
from pysciml.plot.style import COLORS, axes_of, chosen_of, columns, component_names, finish, labels, pen, times_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_solution(
    sol: Any,
    ax: Axes | None = None,
    *,
    names: Sequence[str] | None = None,
    components: Sequence[int] | None = None,
    xlabel: str = "t",
    ylabel: str = "",
    points: int = 400,
    markers: bool = True,
) -> Axes:
    """Each component over time: a line from the dense output, dots at the saved times.

    Args:
        sol: a Solution. ax: where to draw; None makes a figure.
        names: of the components drawn. components: which to draw, counted through the flattened state; None draws
            the first 12. xlabel, ylabel: put the units here. points: of each line. markers: whether to draw the dots.

    Raises:
        MissingExtraError: matplotlib is not installed. InvalidInputError: no such component; a wrong number of names.
    """
    ax = axes_of(ax, (6.4, 3.8))
    times = times_of(sol, points)
    with torch.no_grad():
        lines = columns(sol(times))
    dots, known = columns(sol.u), component_names(sol.u)
    chosen = chosen_of(components, len(known))
    names = labels(names, [known[i] for i in chosen])
    t = sol.t.detach().cpu()
    for place, (i, name) in enumerate(zip(chosen, names, strict=True)):
        ax.plot(times, lines[:, i], label=name, **pen(place))
        if markers:
            ax.plot(t, dots[:, i], "o", color=pen(place)["color"], markersize=4, label="_dots")
    if components is None and len(known) > len(chosen):
        ax.set_title(f"the first {len(chosen)} of {len(known)} components", fontsize=10)
    return finish(ax, xlabel, ylabel)


def plot_phase(
    sol: Any,
    ax: Axes | None = None,
    *,
    components: tuple[int, int] = (0, 1),
    names: Sequence[str] | None = None,
    points: int = 600,
    color: str = COLORS[0],
) -> Axes:
    """A phase portrait: one component against another, the start marked with a ring.

    Raises:
        MissingExtraError: matplotlib is not installed. InvalidInputError: no such component; a wrong number of names.
    """
    ax = axes_of(ax, (4.8, 4.4))
    known = component_names(sol.u)
    i, j = chosen_of(components, len(known))
    names = labels(names, [known[i], known[j]])
    times = times_of(sol, points)
    with torch.no_grad():
        x = columns(sol(times))
    ax.plot(x[:, i], x[:, j], color=color, linewidth=1.8)
    ax.plot(x[:1, i], x[:1, j], "o", color=color, markerfacecolor="white", markersize=8, label="_start")
    return finish(ax, names[0], names[1], legend=False)


def plot_steps(sol: Any, ax: Axes | None = None, *, xlabel: str = "t", color: str = COLORS[0]) -> Axes:
    """How long the solver's steps were, over time, both logarithmic where that shows more.

    Args:
        sol: a Solution that has the solver's own steps: of `solve(prob, save_everystep=True)`.

    Raises:
        MissingExtraError: matplotlib is not installed. InvalidInputError: fewer than two steps.
    """
    t = sol.t.detach().cpu()
    if len(t) < 3:
        raise InvalidInputError("there are no steps to draw.", got=f"{len(t)} saved times",
                                fix="pysciml.solve(prob, save_everystep=True)")  # fmt: skip
    ax = axes_of(ax, (6.4, 3.4))
    lengths = t.diff().abs()
    ax.step(t[1:], lengths, where="pre", color=color, linewidth=1.4)
    ax.plot(t[1:], lengths, ".", color=color, markersize=3, label="_steps")
    ax.set_yscale("log")
    if float(t[0]) >= 0 and float(t[-1]) > 1e3 * float(t[1:][t[1:] > 0].min()):
        ax.set_xscale("log")
    return finish(ax, xlabel, "length of the step", legend=False)
