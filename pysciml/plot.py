"""Pictures of solutions, fits and laws. Each draws on the axes it is given, or on a new pyplot figure; none shows it.

No function touches matplotlib's settings: the style is set on the axes drawn on, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError, MissingExtraError
from pysciml.rhs.parameters import entry_names, leaf_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision, the darker ones first.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555", "#A6761D")
_DASHES = ("-", "--", "-.", ":")
_MOST = 12
_INK, _FAINT = "#333333", "#d9d9d9"


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
    ax = _axes(ax, (6.4, 3.8))
    times = _times(sol, points)
    with torch.no_grad():
        lines = _columns(sol(times))
    dots, known = _columns(sol.u), _component_names(sol.u)
    chosen = _chosen(components, len(known))
    names = _labels(names, [known[i] for i in chosen])
    t = sol.t.detach().cpu()
    for place, (i, name) in enumerate(zip(chosen, names, strict=True)):
        ax.plot(times, lines[:, i], label=name, **_pen(place))
        if markers:
            ax.plot(t, dots[:, i], "o", color=_pen(place)["color"], markersize=4, label="_dots")
    if components is None and len(known) > len(chosen):
        ax.set_title(f"the first {len(chosen)} of {len(known)} components", fontsize=10)
    return _finish(ax, xlabel, ylabel)


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
    ax = _axes(ax, (4.8, 4.4))
    known = _component_names(sol.u)
    i, j = _chosen(components, len(known))
    names = _labels(names, [known[i], known[j]])
    times = _times(sol, points)
    with torch.no_grad():
        x = _columns(sol(times))
    ax.plot(x[:, i], x[:, j], color=color, linewidth=1.8)
    ax.plot(x[:1, i], x[:1, j], "o", color=color, markerfacecolor="white", markersize=8, label="_start")
    return _finish(ax, names[0], names[1], legend=False)


def plot_history(history: Any, ax: Axes | None = None) -> Axes:
    """The loss of every epoch, on a logarithmic scale, with the validation loss and where a new stage begins."""
    ax = _axes(ax, (5.6, 3.8))
    epochs = range(len(history))
    ax.plot(epochs, history.loss, color=COLORS[0], linewidth=1.6, label="training")
    if history.validated:
        ax.plot(epochs, history.val_loss, color=COLORS[1], linewidth=1.6, label="validation")
    if all(x > 0 for x in history.loss):
        ax.set_yscale("log")
    starts = [i for i in epochs if i > 0 and (i == 1 or history.stage[i] != history.stage[i - 1])]
    for i in starts:
        if i > 1:
            ax.axvline(i - 0.5, color=_INK, linewidth=0.8, linestyle=":", label="_stage")
        ax.annotate(
            history.stage[i],
            (max(i - 0.5, 0), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=9,
            color=_INK,
        )
    return _finish(ax, "epoch", "loss", legend=history.validated)


def plot_fit(result: Any, *, names: Sequence[str] | None = None, xlabel: str = "t", ylabel: str = "") -> Figure:
    """How a fit went and what it gave: the history, and beside it the data and the solution.

    Args:
        result: a FitResult. names: of the components. xlabel, ylabel: put the units here.

    The data used are filled dots, those held out are open. Where the data are of something that was observed of the
    state, or the loss had no data, the history stands alone.

    Raises:
        MissingExtraError: matplotlib is not installed. InvalidInputError: a wrong number of names.
    """
    plt = _pyplot()
    comparable = _comparable(result)
    fig, axes = plt.subplots(
        1, 2 if comparable else 1, figsize=(10.5 if comparable else 5.6, 3.8), squeeze=False, layout="constrained"
    )
    plot_history(result.history, axes[0, 0])
    if comparable:
        several = isinstance(result.solution, list)
        as_list = lambda x: x if several else [x]  # noqa: E731
        for sol, t, data, out in zip(
            *map(as_list, (result.solution, result.t, result.data, result.held_out)), strict=True
        ):
            _plot_data(axes[0, 1], sol, t, data, out, names)
        _finish(axes[0, 1], xlabel, ylabel)
    return fig


def plot_law(law: Any, ax: Axes | None = None, *, states: torch.Tensor | None = None) -> Axes:
    """The coefficients of a law with their intervals, and how often each term was kept.

    Args:
        law: from `pysciml.discovery.discover`. states: (n, d) to weigh the terms at: a coefficient times the root mean
            square of its term, so that all terms share one scale. None draws the coefficients as they are.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    ax = _axes(ax, (5.6, 0.32 * len(law.targets) * len(law.terms) + 1.2))
    size = torch.ones(len(law.terms)) if states is None else law.library.evaluate(states).square().mean(0).sqrt()
    rows = [(i, j) for i in range(len(law.targets)) for j in range(len(law.terms))]
    for place, (i, j) in enumerate(rows):
        value, low, high, inclusion = (float(x[i, j]) for x in (law.coefficients, law.low, law.high, law.inclusion))
        scale, kept = float(size[j]), value != 0
        color = COLORS[i % len(COLORS)]
        ax.plot(
            [low * scale, high * scale],
            [place, place],
            color=color,
            linewidth=3,
            alpha=0.9 if kept else 0.35,
            solid_capstyle="round",
            label="_interval",
        )
        ax.plot(
            [value * scale],
            [place],
            "o",
            color=color,
            markersize=7,
            markerfacecolor=color if kept else "white",
            label="_value",
        )
        ax.annotate(
            f"{inclusion:.0%}",
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=_INK if inclusion >= 0.5 else "#888888",
        )
    ax.axvline(0, color=_INK, linewidth=0.8, label="_zero")
    ax.set_yticks(range(len(rows)), [f"{law.targets[i]}:  {law.terms[j]}" for i, j in rows])
    ax.invert_yaxis()
    ax.annotate(
        "kept in",
        (1.01, 1.0),
        xycoords="axes fraction",
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=9,
        color=_INK,
    )
    return _finish(ax, "coefficient" if states is None else "coefficient × size of its term", "", legend=False)


def _times(sol: Any, points: int) -> torch.Tensor:
    t0, t1 = (float(t) for t in sol.prob.tspan)
    return torch.linspace(t0, t1, points, dtype=torch.float64)


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "plotting") from error
    return plt


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    if ax is not None:
        return ax
    return _pyplot().subplots(figsize=size, layout="constrained")[1]


def _finish(ax: Axes, xlabel: str, ylabel: str, legend: bool = True) -> Axes:
    """The house style, on these axes alone."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color=_FAINT, linewidth=0.6)
    ax.set_axisbelow(True)
    if legend and ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False)
    return ax


def _pen(place: int) -> dict[str, Any]:
    return {
        "color": COLORS[place % len(COLORS)],
        "linestyle": _DASHES[place // len(COLORS) % len(_DASHES)],
        "linewidth": 1.8,
    }


def _columns(state: Any) -> torch.Tensor:
    """(k, n): every component of a pytree of (k, ...) leaves."""
    return torch.cat([x.detach().cpu().reshape(len(x), -1).double() for x in pytree.tree_leaves(state)], dim=1)


def _component_names(state: Any) -> list[str]:
    """`u[0]`, `u[1]`, or `u['x'][0]`, for every column of `_columns`."""
    leaves = zip(leaf_names(state, "u"), pytree.tree_leaves(state), strict=True)
    return [entry for name, leaf in leaves for entry in entry_names(name, leaf.shape[1:])]


def _chosen(components: Sequence[int] | None, count: int) -> list[int]:
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


def _labels(names: Sequence[str] | None, known: list[str]) -> list[str]:
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


def _comparable(result: Any) -> bool:
    """Whether the data are of the states themselves."""
    if result.prob is None or not result.data:
        return False
    several = isinstance(result.solution, list)
    sol, data = (result.solution[0], result.data[0]) if several else (result.solution, result.data)
    return bool(data) and [x.shape for x in data] == [x.shape for x in pytree.tree_leaves(sol.u)]


def _plot_data(ax: Axes, sol: Any, t: torch.Tensor, data: Any, out: torch.Tensor, names: Sequence[str] | None) -> None:
    """One solution as lines, its data as dots."""
    first = not ax.lines
    plot_solution(sol, ax, names=names, markers=False)
    values, t, out = _columns(tuple(data)), t.detach().cpu(), out.cpu()
    for place in _chosen(None, values.shape[1]):
        color = _pen(place)["color"]
        ax.plot(t[~out], values[~out, place], "o", color=color, markersize=4, label="_data")
        if out.any():
            ax.plot(
                t[out], values[out, place], "o", color=color, markerfacecolor="white", markersize=4, label="_held out"
            )
    if not first:
        for line in ax.lines:
            if line.get_label() in [other.get_label() for other in ax.lines[: ax.lines.index(line)]]:
                line.set_label("_again")
