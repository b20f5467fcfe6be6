"""All steps of the demo but the words and the figure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pysciml.demo.fitting import (
    FIT_YEARS,
    Data,
    Fitted,
    choose_decay,
    find_law,
    fit_again,
    fit_law,
    fit_network,
    lotka_volterra,
)
from pysciml.discovery import Law

REFITS = 20


@dataclass(frozen=True, eq=False)
class Findings:
    """All that the demo finds.

    Attributes:
        data: the pelts. decay: the chosen weight decay. validation: error on 1912-1915 of each that was tried.
        network, again: the fit, and its refits to resampled data. law: the formula. law_fit, law_again: the formula in
            the network's place, and its refits. baseline: Lotka-Volterra.
    """

    data: Data
    decay: float
    validation: dict[float, float]
    network: Fitted
    again: list[Fitted]
    law: Law
    law_fit: Fitted
    law_again: list[Fitted]
    baseline: Fitted

    def forecasts(self) -> dict[str, torch.Tensor]:
        """Log scaled pelts (21, 2) by name; the first two need no model."""
        u = self.data.u
        same, cycle = u.clone(), u.clone()
        same[FIT_YEARS:] = u[FIT_YEARS - 1]
        cycle[FIT_YEARS:] = u[FIT_YEARS - 10 : FIT_YEARS - 5]
        return {
            "no change from 1915": same,
            "as ten years before": cycle,
            "Lotka-Volterra": self.baseline.u,
            "network": self.network.u,
            "recovered law": self.law_fit.u,
        }

    def network_band(self, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pelts (n, 2) between which nine tenths of the network's refits lie, at times (n,)."""
        refits = torch.stack([self.data.pelts(one.dense(times)) for one in self.again])
        low, high = refits.quantile(torch.tensor([0.05, 0.95], dtype=refits.dtype), dim=0)
        return low, high

    def errors(self) -> dict[str, tuple[float, float, float, float]]:
        """Root mean square errors: thousand pelts, fitted and forecast; logarithms, fitted and forecast."""
        spans = slice(0, FIT_YEARS), slice(FIT_YEARS, None)
        measures = self.data.pelt_error, self.data.log_error
        return {name: tuple(f(u, years) for f in measures for years in spans) for name, u in self.forecasts().items()}  # type: ignore[misc]


def explore(
    epochs: int = 150, refits: int = REFITS, say: Callable[..., object] = print, progress: str | None = None
) -> Findings:
    """Everything the demo does but the figure.

    Args:
        epochs: of Adam, and at most of L-BFGS, in each full fit. refits: to resampled data. say: gets the lines of each
            step. progress: of the main fit, as of `pysciml.fit`.
    """
    data = Data.load()
    say(_INTRODUCTION)
    say("1. How much freedom? Fit 1900-1911 with three strengths of weight decay, look at 1912-1915:")
    decay, validation = choose_decay(data, epochs)
    taken = {decay: "  <- taken"}
    say(*[f"   {d:g}: off by a factor of {math.exp(e):.2f}{taken.get(d, '')}" for d, e in validation.items()])
    say("2. Fit the network, the two rates and the first state to 1900-1915: Adam, then L-BFGS; adjoint gradients.")
    network = fit_network(data, FIT_YEARS, decay, epochs, progress)
    history = network.result.history
    seconds = sum(history.time)
    say(f"   loss {history.loss[0]:.3g} -> {network.result.loss:.3g}, {len(history) - 1} epochs, {seconds:.1f} s")
    say("   The same with Lotka and Volterra's equations, as the baseline.")
    baseline = lotka_volterra(data, epochs)
    say(f"3. How sure? Fit it {refits} times more, to data as they might have been (a residual bootstrap).")
    again = fit_again(data, network, decay, epochs, refits)
    say("4. Sparse regression (pysindy) of what the network learned on H, L, H², H L, L², where the fitted curve goes.")
    law = find_law(data, network, again)
    say("5. Put the formula in the network's place, and fit its coefficients to the data, as often.")
    law_fit = fit_law(data, law, network, epochs)
    law_again = fit_again(data, law_fit, 0.0, epochs, refits)
    return Findings(data, decay, validation, network, again, law, law_fit, law_again, baseline)


_INTRODUCTION = """What do lynx do to hares, and hares for lynx?
Pelts of the Hudson's Bay Company, 1900-1920. H, L: thousand pelts of hare and of lynx a year.
    dH/dt =  growth H + H n1(H, L)        known: hares grow, lynx die, at two rates to be fitted
    dL/dt = -death  L + L n2(H, L)        unknown: n1 and n2, a small network
1900-1915 are fitted; 1916-1920 are held out and forecast.
"""
