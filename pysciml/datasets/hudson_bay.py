"""Lynx and hare pelts of the Hudson's Bay Company, 1900 to 1920."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources

import torch


@dataclass(frozen=True, eq=False)
class LynxHare:
    """Yearly pelts of hare and lynx.

    Attributes:
        years: (21,) calendar years, 1900.0 to 1920.0. hare, lynx: (21,) pelts in that year, in thousands.
        names, units, source: for labels and citations.
    """

    years: torch.Tensor
    hare: torch.Tensor
    lynx: torch.Tensor
    names: tuple[str, str] = ("hare", "lynx")
    units: str = "thousand pelts"
    source: str = field(default="", repr=False)

    @property
    def pelts(self) -> torch.Tensor:
        """(21, 2): hare, then lynx."""
        return torch.stack([self.hare, self.lynx], dim=1)

    def __len__(self) -> int:
        return len(self.years)

    def __repr__(self) -> str:
        return f"LynxHare({len(self)} years, {self.years[0]:.0f} to {self.years[-1]:.0f}, {self.units})"


def lynx_hare() -> LynxHare:
    """The Hudson Bay lynx-hare data: yearly pelts in thousands, 1900 to 1920, float64.

    Pelts brought in are a proxy for the animals alive: trapping effort, prices and the year a pelt was booked in all
    stand between the two, so expect observation errors of a fifth or so.

    Source: C. Elton and M. Nicholson, "The ten-year cycle in numbers of the lynx in Canada", Journal of Animal Ecology
    11, 215-244 (1942); E. P. Odum, "Fundamentals of Ecology", Saunders (1953); the numbers as commonly tabulated.

    Example:
        >>> from pysciml.datasets import lynx_hare
        >>> data = lynx_hare()
        >>> data.years[0].item(), data.hare[0].item(), data.lynx[0].item()
        (1900.0, 30.0, 4.0)
    """
    text = resources.files("pysciml.datasets").joinpath("hudson_bay.csv").read_text("utf-8")
    lines = text.splitlines()
    rows = [[float(x) for x in line.split(",")] for line in lines if line[:1].isdigit()]
    years, hare, lynx = torch.tensor(rows, dtype=torch.float64).unbind(1)
    source = " ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))
    return LynxHare(years.clone(), hare.clone(), lynx.clone(), source=source)
