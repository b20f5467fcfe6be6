"""The demo's figure, in four panels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pysciml.demo.findings import Findings
from pysciml.demo.fitting import FIT_YEARS, interaction
from pysciml.demo.models import DTYPE
from pysciml.plot import COLORS, plot_law

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _GREY, _DASHED = "#333333", "#777777", (0, (4, 2))
_FLOW = COLORS[2]


def draw(found: Findings, figure: Figure) -> Figure:
    """Four panels on an empty figure."""
    axes = figure.subplots(2, 2, width_ratios=(1.25, 1))
    figure.get_layout_engine().set(wspace=0.05, hspace=0.06)  # type: ignore[union-attr, call-arg]
    panels = (_draw_years, _draw_phase, _draw_interaction, _draw_law)
    for letter, panel, ax in zip("abcd", panels, axes.flat, strict=True):
        title = panel(found, ax)
        ax.set_title(f"{letter}   {title}", loc="left", fontsize=11, fontweight="bold")
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_years(found: Findings, ax: Axes) -> str:
    data, start = found.data, float(found.data.source.years[0])
    times = torch.linspace(0, float(data.t[-1]), 400, dtype=DTYPE)
    curve, law = data.pelts(found.network.dense(times)), data.pelts(found.law_fit.dense(times))
    low, high = found.network_band(times)
    ax.axvspan(start + FIT_YEARS - 0.5, start + 20.4, color="#f0f0f0", zorder=0)
    ax.text(start + 18, 0.8, "held out", transform=ax.get_xaxis_transform(), ha="center", va="top", color=_GREY)
    for i, color in enumerate(COLORS[:2]):
        ax.fill_between(start + times, low[:, i], high[:, i], color=color, alpha=0.18, linewidth=0)
        ax.plot(start + times, curve[:, i], color=color, linewidth=2)
        ax.plot(start + times, law[:, i], color=color, linewidth=1.3, linestyle=_DASHED)
        _draw_pelts(ax, data.source.years, data.source.pelts[:, i], color)
    ax.text(1903.4, 84, "hares", color=COLORS[0], fontsize=12, fontweight="bold")
    ax.text(1904.4, 60, "lynx", color=COLORS[1], fontsize=12, fontweight="bold")
    ax.set(xlim=(start - 0.6, start + 20.4), ylim=(0, 122), ylabel="thousand pelts", xticks=range(1900, 1921, 5))
    keys = [
        ax.plot([], [], "o", color=_INK, label="data, fitted")[0],
        ax.plot([], [], "o", color=_INK, markerfacecolor="white", markeredgewidth=1.5, label="data, held out")[0],
        ax.plot([], [], color=_INK, linewidth=2, label="network, and 90% of its refits")[0],
        ax.plot([], [], color=_INK, linewidth=1.3, linestyle=_DASHED, label="recovered law")[0],
    ]
    ax.legend(handles=keys, frameon=False, fontsize=9, ncols=2, loc="upper left")
    return "Pelts: data, fit and forecast"


def _draw_pelts(ax: Axes, x: torch.Tensor, y: torch.Tensor, color: str) -> None:
    ax.plot(x[:FIT_YEARS], y[:FIT_YEARS], "o", color=color, markersize=6)
    ax.plot(x[FIT_YEARS:], y[FIT_YEARS:], "o", color=color, markersize=6, markerfacecolor="white", markeredgewidth=1.5)


def _draw_phase(found: Findings, ax: Axes) -> str:
    data = found.data
    hare, lynx = data.source.hare, data.source.lynx
    times = torch.linspace(0, float(data.t[-1]), 400, dtype=DTYPE)
    curve, fitted = data.pelts(found.network.dense(times)), times <= FIT_YEARS - 1
    _draw_field(found, ax)
    ax.plot(*curve[fitted].T, color=_FLOW, linewidth=2.2, label="network, fitted years")
    ax.plot(*curve[~fitted].T, color=_FLOW, linewidth=2.2, linestyle=(0, (2, 1)), label="network, forecast")
    ax.plot(hare, lynx, color=_INK, linewidth=0.7, alpha=0.5)
    _draw_pelts(ax, hare, lynx, _INK)
    for year, (dx, dy) in {0: (4, -11), 3: (6, 5), 5: (7, -3), 13: (6, 5), 15: (-31, 5)}.items():
        place = float(hare[year]), float(lynx[year])
        ax.annotate(f"{1900 + year}", place, xytext=(dx, dy), textcoords="offset points", fontsize=9)
    ax.set(xlabel="hares (thousand pelts)", ylabel="lynx (thousand pelts)", xlim=(0, 92), ylim=(0, 70))
    ax.legend(frameon=False, fontsize=9, loc="upper right")
    return "Round and round: the learned flow"


def _draw_field(found: Findings, ax: Axes) -> None:
    """The learned flow, faint, and only near where the curve has been: elsewhere nothing holds the network."""
    model, scale = found.network.model, found.data.scale
    hares, lynx = torch.linspace(1, 92, 60, dtype=DTYPE), torch.linspace(1, 70, 60, dtype=DTYPE)
    grid = torch.stack(torch.meshgrid(hares, lynx, indexing="xy"), dim=-1)
    with torch.no_grad():
        flow = grid * (model.per_head(grid / scale) + model.rates * torch.tensor([1.0, -1.0], dtype=DTYPE))
    visited = interaction(found.data, found.network)[0]
    near = torch.cdist((grid / scale).reshape(-1, 2), visited / scale).amin(1).reshape(60, 60) < 0.35
    dh, dl = (torch.where(near, flow[..., i], torch.nan).numpy() for i in range(2))
    ax.streamplot(hares.numpy(), lynx.numpy(), dh, dl, color="#cccccc", density=1.1, linewidth=0.8, arrowsize=0.8)


def _draw_interaction(found: Findings, ax: Axes) -> str:
    ax.axhline(0, color=_INK, linewidth=0.8)
    for one in found.again:
        pelts, effect = interaction(found.data, one)
        for i in range(2):
            ax.plot(pelts.prod(1), effect[:, i], color=COLORS[i], linewidth=0.7, alpha=0.25)
    pelts, effect = interaction(found.data, found.network)
    law = found.law(pelts)
    for i in range(2):
        ax.plot(pelts.prod(1), effect[:, i], color=COLORS[i], linewidth=2)
        ax.plot(pelts.prod(1), law[:, i], color="black", linewidth=1.3, linestyle=_DASHED)
    for i, (what, y, va) in enumerate((("taken from the hares", 0.03, "bottom"), ("given to the lynx", 0.97, "top"))):
        formula = found.law.equations[i].split(" = ")[1].replace("-", "−")
        text = f"{what}\n{formula}   (R² {float(found.law.r2[i]):.3f})"
        ax.text(0.03, y, text, transform=ax.transAxes, va=va, color=COLORS[i], fontsize=11, linespacing=1.5)
    keys = [
        ax.plot([], [], color=_INK, linewidth=2, label="network")[0],
        ax.plot([], [], color=_INK, linewidth=0.7, alpha=0.5, label="its refits")[0],
        ax.plot([], [], color="black", linewidth=1.3, linestyle=_DASHED, label="recovered law")[0],
    ]
    ax.legend(handles=keys, frameon=False, fontsize=9, loc="center right", bbox_to_anchor=(1, 0.53))
    ax.set(xlabel="H L   (hares × lynx, both in thousand pelts)", ylabel="thousand pelts a year", xlim=(0, None))
    return "What the network learned, where the curve goes"


def _draw_law(found: Findings, ax: Axes) -> str:
    states = interaction(found.data, found.network)[0]
    plot_law(found.law, ax, states=states)
    _draw_fitted(found, ax, found.law.library.evaluate(states).square().mean(0).sqrt())
    ax.set_xlabel("coefficient × size of its term (thousand pelts a year), 95% of refits")
    return "How sure: the candidate terms"


def _draw_fitted(found: Findings, ax: Axes, size: torch.Tensor) -> None:
    """The coefficients of the formula when it is fitted in the network's place, under those of plot_law."""
    value = found.law_fit.model.coefficients
    refits = torch.stack([one.model.coefficients for one in found.law_again])
    low, high = refits.quantile(torch.tensor([0.025, 0.975], dtype=DTYPE), dim=0)
    for i, j in value.nonzero().tolist():
        place = i * len(found.law.terms) + j + 0.32
        span = [float(low[i, j] * size[j]), float(high[i, j] * size[j])]
        ax.plot(span, [place, place], color=_GREY, linewidth=1.6)
        ax.plot([float(value[i, j] * size[j])], [place], "D", color=_GREY, markersize=4.5)
    keys = [
        ax.plot([], [], "o-", color=_INK, linewidth=3, markersize=7, label="as the network has it")[0],
        ax.plot([], [], "o", color=_INK, markerfacecolor="white", markersize=7, label="left out")[0],
        ax.plot([], [], "D-", color=_GREY, linewidth=1.6, markersize=4.5, label="fitted to the data itself")[0],
    ]
    ax.legend(handles=keys, frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(0.02, 0.48))
