"""Data and fits: the pelts as the fits see them, fits of the models, and refits to resampled data."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pysciml.algorithms import CVODE_Adams
from pysciml.datasets import LynxHare, lynx_hare
from pysciml.demo.models import DTYPE, Known, LynxAndHare, Written
from pysciml.discovery import Law, discover
from pysciml.fit import FitResult, Stage, fit
from pysciml.problems import ODEProblem
from pysciml.solution import Solution
from pysciml.solve import solve

FIT_YEARS, TUNE_YEARS = 16, 12  # 1900-1915 are fitted, 1916-1920 forecast; 1912-1915 choose the weight decay
WEIGHT_DECAYS = (0.01, 0.03, 0.1)
SEED = 1900
SIDES = ("hares", "lynx")
NAMES = ("H", "L")
_OPTIONS: dict[str, Any] = {"alg": CVODE_Adams(), "reltol": 1e-6, "abstol": 1e-8}


@dataclass(frozen=True, eq=False)
class Data:
    """The pelts as the fits see them: years since 1900, and the logarithm of pelts over their mean."""

    source: LynxHare
    t: torch.Tensor
    scale: torch.Tensor
    u: torch.Tensor

    @classmethod
    def load(cls) -> Data:
        source = lynx_hare()
        scale = source.pelts[:FIT_YEARS].mean(0)
        return cls(source, source.years - source.years[0], scale, (source.pelts / scale).log())

    def pelts(self, u: torch.Tensor) -> torch.Tensor:
        return u.detach().exp() * self.scale

    def log_error(self, u: torch.Tensor, years: slice) -> float:
        return float((u - self.u)[years].square().mean().sqrt())

    def pelt_error(self, u: torch.Tensor, years: slice) -> float:
        return float((self.pelts(u) - self.source.pelts)[years].square().mean().sqrt())

    def problem(self, f: Known, u0: torch.Tensor | None = None) -> ODEProblem:
        """Over all years; the first state is fitted too, since the pelts of 1900 are no surer than the others."""
        start = (self.u[0] if u0 is None else u0).detach().clone().requires_grad_()
        return ODEProblem(f, start, (0.0, float(self.t[-1])))


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted model and its solution over all years."""

    model: Any
    solution: Solution
    result: FitResult

    @property
    def u(self) -> torch.Tensor:
        """(21, 2) log scaled pelts at the years of the data."""
        return self.solution.u.detach()

    def dense(self, times: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.solution(times)


def fit_model(
    data: Data,
    model: Known,
    years: int,
    stages: Sequence[Stage],
    decay: float = 0.0,
    u0: torch.Tensor | None = None,
    observed: torch.Tensor | None = None,
    progress: str | None = None,
) -> Fitted:
    """Fits the model and its first state to the first years, and solves it over all of them.

    Args:
        decay: of the squared weights of the network, in the loss. u0: to start from; None takes the pelts of 1900.
        observed: other log pelts to fit than the data's. progress: as of `pysciml.fit`.
    """

    def penalty(named: dict[str, torch.Tensor]) -> torch.Tensor:
        return decay * torch.cat([x.reshape(-1) for name, x in named.items() if "weight" in name]).square().sum()

    prob = data.problem(model, u0)
    observed = data.u if observed is None else observed
    result = fit(
        prob,
        observed[:years],
        data.t[:years],
        stages=list(stages),
        regularization=penalty if decay else None,
        progress=progress,
        **_OPTIONS,
    )
    with torch.no_grad():
        solution = solve(prob, saveat=data.t, **_OPTIONS)
    return Fitted(model, solution, result)


def stages(epochs: int) -> list[Stage]:
    """Adam, then L-BFGS until it no longer gains."""
    return [Stage("Adam", epochs, lr=0.02), Stage("LBFGS", epochs, tolerance=1e-4)]


def fit_network(data: Data, years: int, decay: float, epochs: int, progress: str | None = None) -> Fitted:
    """The network, from the same start each time."""
    torch.manual_seed(SEED)
    return fit_model(data, LynxAndHare(), years, stages(epochs), decay, progress=progress)


def choose_decay(data: Data, epochs: int) -> tuple[float, dict[float, float]]:
    """The weight decay that, fitted to 1900-1911, best forecasts 1912-1915; and the error of each."""
    errors = {}
    for decay in WEIGHT_DECAYS:
        u = fit_network(data, TUNE_YEARS, decay, epochs, "off").u
        errors[decay] = data.log_error(u, slice(TUNE_YEARS, FIT_YEARS))
    return min(errors, key=lambda decay: errors[decay]), errors


def resampled(data: Data, curve: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Log pelts as they might have been: the fitted curve plus its own residuals, drawn again.

    A residual bootstrap (Efron and Tibshirani 1993, section 9.4). Years are drawn whole, so what went wrong with hares
    and lynx in one year stays together.
    """
    generator = torch.Generator().manual_seed(SEED)
    residuals = (data.u - curve)[:FIT_YEARS]
    draws = (torch.randint(FIT_YEARS, (FIT_YEARS,), generator=generator) for _ in range(count))
    return [curve[:FIT_YEARS] + residuals[rows] for rows in draws]


def fit_again(data: Data, fitted: Fitted, decay: float, epochs: int, count: int) -> list[Fitted]:
    """The model fitted to resampled data, each time from where it is."""
    quick = [Stage("LBFGS", max(1, 2 * epochs // 5), tolerance=1e-4)]
    return [
        fit_model(data, copy.deepcopy(fitted.model), FIT_YEARS, quick, decay, fitted.u[0], observed, "off")
        for observed in resampled(data, fitted.u, count)
    ]


def interaction(data: Data, fitted: Fitted) -> tuple[torch.Tensor, torch.Tensor]:
    """(pelts, effect of the interaction in thousand pelts a year), (n, 2) each, along the fitted years."""
    times = torch.linspace(0, float(data.t[FIT_YEARS - 1]), 16 * (FIT_YEARS - 1) + 1, dtype=DTYPE)
    pelts = data.pelts(fitted.dense(times))
    with torch.no_grad():
        return pelts, pelts * fitted.model.per_head(pelts / data.scale)


def find_law(data: Data, fitted: Fitted, again: Sequence[Fitted]) -> Law:
    """The interaction as a formula of degree two in hares H and lynx L; without a constant, for nobody meets nobody."""
    inputs, outputs = interaction(data, fitted)
    return discover(
        inputs,
        outputs,
        library=2,
        exclude=("1",),
        names=NAMES,
        targets=SIDES,
        refits=[interaction(data, one) for one in again],
    )


def lotka_volterra(data: Data, epochs: int) -> Fitted:
    """Volterra's own equations, four rates and the first state fitted the same way: the baseline to beat."""
    start = torch.tensor([[-0.5 / float(data.scale[1])], [0.8 / float(data.scale[0])]], dtype=DTYPE)
    model = Written(lambda pelts: pelts.prod(-1, keepdim=True), start, None, data.scale)
    return fit_model(data, model, FIT_YEARS, stages(epochs), progress="off")


def fit_law(data: Data, law: Law, fitted: Fitted, epochs: int) -> Fitted:
    """The recovered formula in the network's place, fitted to the data once more, now without weight decay."""
    model = Written(law.library.evaluate, law.coefficients, fitted.model.rates, data.scale)
    return fit_model(data, model, FIT_YEARS, stages(epochs), u0=fitted.u[0], progress="off")
