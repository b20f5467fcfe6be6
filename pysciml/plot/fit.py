"""Pictures of fits: the loss, the data and the solution, and what many fits agree on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from pysciml.plot.solution import plot_solution
from pysciml.plot.style import COLORS, INK, axes_of, chosen_of, columns, finish, labels, pen, pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_history(history: Any, ax: Axes | None = None) -> Axes:
    """The loss of every epoch, on a logarithmic scale, with the validation loss and where a new stage begins."""
    ax = axes_of(ax, (5.6, 3.8))
    epochs = range(len(history))
    ax.plot(epochs, history.loss, color=COLORS[0], linewidth=1.6, label="training")
    if history.validated:
        ax.plot(epochs, history.val_loss, color=COLORS[1], linewidth=1.6, label="validation")
    if all(x > 0 for x in history.loss):
        ax.set_yscale("log")
    starts = [i for i in epochs if i > 0 and (i == 1 or history.stage[i] != history.stage[i - 1])]
    for i in starts:
        if i > 1:
            ax.axvline(i - 0.5, color=INK, linewidth=0.8, linestyle=":", label="_stage")
        ax.annotate(
            history.stage[i],
            (max(i - 0.5, 0), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=9,
            color=INK,
        )
    return finish(ax, "epoch", "loss", legend=history.validated)


def plot_fit(result: Any, *, names: Sequence[str] | None = None, xlabel: str = "t", ylabel: str = "") -> Figure:
    """How a fit went and what it gave: the history, and beside it the data and the solution.

    Args:
        result: a FitResult. names: of the components. xlabel, ylabel: put the units here.

    The data used are filled dots, those held out are open. Where the data are of something that was observed of the
    state, or the loss had no data, the history stands alone.

    Raises:
        MissingExtraError: matplotlib is not installed. InvalidInputError: a wrong number of names.
    """
    plt = pyplot()
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
            _shade(axes[0, 1], t, out)
        finish(axes[0, 1], xlabel, ylabel)
    return fig


def plot_fan(
    fits: Any,
    ax: Axes | None = None,
    *,
    components: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    share: float = 0.9,
    points: int = 200,
    xlabel: str = "t",
    ylabel: str = "",
) -> Axes:
    """Where many fits go: the best as a line, the middle `share` and the middle half of all as bands, and the data.

    Args:
        fits: of `fit_many`, of one problem whose state is a vector. components, names, xlabel, ylabel: as of
            `plot_solution`. Times that were held out are shaded, and their data open.

    Raises:
        MissingExtraError: matplotlib is not installed. InvalidInputError: no such component; a wrong number of names.
    """
    best = fits.best
    t0, t1 = best.prob.span
    times = torch.linspace(t0, t1, points, dtype=torch.float64)
    states = fits.predict(times).flatten(2)
    ax = axes_of(ax, (6.4, 3.8))
    chosen = chosen_of(components, states.shape[2])
    known = labels(names, [f"u[{i}]" for i in chosen])
    for place, (i, name) in enumerate(zip(chosen, known, strict=True)):
        color = pen(place)["color"]
        for width, alpha in ((share, 0.16), (0.5, 0.26)):
            low, high = states[:, :, i].quantile(torch.tensor([(1 - width) / 2, (1 + width) / 2]).double(), dim=0)
            ax.fill_between(
                times.numpy(), low.numpy(), high.numpy(), color=color, alpha=alpha, linewidth=0, label="_band"
            )
        ax.plot(times, states[0, :, i], label=name, **pen(place))
    _shade(ax, best.t, best.held_out)
    if _comparable(best):
        _dots(ax, best.t, best.data, best.held_out, chosen)
    return finish(ax, xlabel, ylabel)


def _shade(ax: Axes, t: torch.Tensor, out: torch.Tensor) -> None:
    """Shades the end of the span where it was held out."""
    if bool(out.any()) and bool(out[int(out.int().argmax()) :].all()):
        first = int(out.int().argmax())
        start = float(t[first] + t[max(first - 1, 0)]) / 2
        ax.axvspan(start, float(t[-1]), color="#f0f0f0", zorder=0, label="_held out")
        middle, above = (start + float(t[-1])) / 2, ax.get_xaxis_transform()
        ax.text(middle, 1.01, "held out", transform=above, ha="center", va="bottom", color="#777777", fontsize=9)


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
    _dots(ax, t, data, out, chosen_of(None, columns(tuple(data)).shape[1]))
    if not first:
        for line in ax.lines:
            if line.get_label() in [other.get_label() for other in ax.lines[: ax.lines.index(line)]]:
                line.set_label("_again")


def _dots(ax: Axes, t: torch.Tensor, data: Any, out: torch.Tensor, chosen: Sequence[int]) -> None:
    """Data of the chosen components, open where held out."""
    values, t, out = columns(tuple(data)), t.detach().cpu(), out.cpu()
    for place, i in enumerate(chosen):
        color = pen(place)["color"]
        ax.plot(t[~out], values[~out, i], "o", color=color, markersize=4, label="_data")
        if out.any():
            ax.plot(t[out], values[out, i], "o", color=color, markerfacecolor="white", markersize=4, label="_held out")
