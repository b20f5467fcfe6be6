"""Pictures of what was learned: a law's coefficients, and a learned term where the data have been."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from pysciml.errors import InvalidInputError
from pysciml.plot.style import COLORS, INK, axes_of, finish, labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_law(law: Any, ax: Axes | None = None, *, states: torch.Tensor | None = None) -> Axes:
    """The coefficients of a law with their intervals, and how often each term was kept.

    Of a law by symbolic regression, what there is instead: the formulas of each target, by loss over complexity, with
    the chosen one marked and written out.

    Args:
        law: from `discover` or `discover_symbolic`. states: (n, d) to weigh the terms at: a coefficient times the root
            mean square of its term, so that all terms share one scale. None draws the coefficients as they are.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    if hasattr(law, "fronts"):
        return _fronts(law, axes_of(ax, (5.6, 3.8)))
    ax = axes_of(ax, (5.6, 0.32 * len(law.targets) * len(law.terms) + 1.2))
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
            color=INK if inclusion >= 0.5 else "#888888",
        )
    ax.axvline(0, color=INK, linewidth=0.8, label="_zero")
    ax.set_yticks(range(len(rows)), [f"{law.targets[i]}:  {law.terms[j]}" for i, j in rows])
    ax.invert_yaxis()
    ax.annotate(
        "kept in",
        (1.01, 1.0),
        xycoords="axes fraction",
        xytext=(0, 4),
        textcoords="offset points",
        fontsize=9,
        color=INK,
    )
    return finish(ax, "coefficient" if states is None else "coefficient × size of its term", "", legend=False)


def _fronts(law: Any, ax: Axes) -> Axes:
    """A step line a target, a dot a formula. A loss of nothing is drawn a decade below the least that is something."""
    nothing = 0.1 * min((f.loss for front in law.fronts for f in front if f.loss > 0), default=1.0)
    for i, (equation, front, chosen) in enumerate(zip(law.equations, law.fronts, law.chosen, strict=True)):
        color = COLORS[i % len(COLORS)]
        x, y = [f.complexity for f in front], [max(f.loss, nothing) for f in front]
        ax.plot(x, y, color=color, linewidth=1.4, drawstyle="steps-post", alpha=0.6, label="_front")
        ax.plot(x, y, "o", color=color, markersize=6, markerfacecolor="white", label="_formulas")
        ax.plot(x[chosen], y[chosen], "o", color=color, markersize=max(10 - 2 * i, 5), label=equation)  # one on another
    ax.set_yscale("log")
    ax.locator_params(axis="x", integer=True)
    finish(ax, "complexity", "loss", legend=False)
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))  # formulas are long: above the axes
    return ax


def plot_term(
    term: Callable[[torch.Tensor], torch.Tensor],
    states: torch.Tensor,
    ax: Axes | None = None,
    *,
    inputs: Sequence[int] = (0,),
    output: int = 0,
    names: Sequence[str] | None = None,
    truth: Callable[[torch.Tensor], torch.Tensor] | None = None,
    label: str = "learned",
    ylabel: str = "",
) -> Axes:
    """A learned term over one state or two, and where the data have been: beyond that nothing holds it.

    Of one state it is a line, dashed where no state was visited, with a tick below for each state visited. Of two it is
    a map of colours, with the states visited as dots. Other states stay at their medians.

    Args:
        term: from states (k, d) to values (k,) or (k, outputs). states: (n, d) that were visited: `sol.u`.
        inputs: one state or two, by place. output: which of the values. names: of these states. truth: a term to draw
            beside it, if it is known. label: of the term. ylabel: what its value is.

    Raises:
        MissingExtraError: matplotlib is not installed. InvalidInputError: other than one or two inputs; no such state.
    """
    states = states.detach().cpu().double().reshape(-1, states.shape[-1])
    if len(inputs) not in (1, 2) or any(not 0 <= i < states.shape[1] for i in inputs):
        raise InvalidInputError("a term is drawn over one state or two.", got=f"inputs={tuple(inputs)}",
                                expected=f"places from 0 to {states.shape[1] - 1}", fix="inputs=(0,)")  # fmt: skip
    known = labels(names, [f"u[{i}]" for i in inputs])
    if len(inputs) == 2:
        return _map(term, states, axes_of(ax, (5.4, 4.2)), inputs, output, known, ylabel)
    ax = axes_of(ax, (5.4, 3.6))
    (i,) = inputs
    low, high = float(states[:, i].min()), float(states[:, i].max())
    reach = 0.25 * (high - low) or 1.0
    x = torch.linspace(low - reach, high + reach, 400, dtype=torch.float64)
    inside = (x >= low) & (x <= high)
    if truth is not None:
        ax.plot(x, _values(truth, states, inputs, x[:, None], output), color=INK, linewidth=1.2, label="true")
    y = _values(term, states, inputs, x[:, None], output)
    ax.plot(x[inside], y[inside], color=COLORS[0], linewidth=2, label=label)
    for side in (x < low, x > high):
        ax.plot(x[side], y[side], color=COLORS[0], linewidth=1.4, linestyle=(0, (4, 2)), alpha=0.6, label="_beyond")
    ax.plot(states[:, i], torch.zeros(len(states)), "|", color=INK, markersize=7, alpha=0.5,
            transform=ax.get_xaxis_transform(), clip_on=False, label="_visited")  # fmt: skip
    return finish(ax, known[0], ylabel, legend=truth is not None)


def _map(term: Callable, states: torch.Tensor, ax: Axes, inputs: Sequence[int], output: int, names: Sequence[str],
         ylabel: str) -> Axes:  # fmt: skip
    low, high = states[:, inputs].min(dim=0).values, states[:, inputs].max(dim=0).values
    reach = 0.1 * (high - low)
    x, y = (torch.linspace(float(a), float(b), 80, dtype=torch.float64)
            for a, b in zip(low - reach, high + reach, strict=True))  # fmt: skip
    grid = torch.cartesian_prod(x, y)
    values = _values(term, states, inputs, grid, output).reshape(80, 80).T
    most = float(values.abs().max()) or 1.0
    drawn = ax.pcolormesh(
        *(v.numpy() for v in (x, y, values)), cmap="RdBu_r", vmin=-most, vmax=most, shading="gouraud", rasterized=True
    )
    ax.plot(states[:, inputs[0]], states[:, inputs[1]], ".", color=INK, markersize=4, label="_visited")
    ax.figure.colorbar(drawn, ax=ax, label=ylabel)
    finish(ax, names[0], names[1], legend=False).grid(visible=False)
    return ax


def _values(term: Callable, states: torch.Tensor, inputs: Sequence[int], at: torch.Tensor, output: int) -> torch.Tensor:
    """The term at other values (k, inputs) of some states, the others at their medians."""
    whole = states.median(dim=0).values.repeat(len(at), 1)
    whole[:, list(inputs)] = at
    with torch.no_grad():
        found = term(whole)
    return (found if found.dim() == 1 else found[:, output]).detach().cpu()
