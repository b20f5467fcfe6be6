"""Lotka and Volterra's equations with the interaction unknown, as in arXiv 2001.04385; notebook 02 tells it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import pysciml as ps
from notebooks.studies.row import Row, coefficient_error, is_exact, refitted, relative_error

ALPHA, BETA, GAMMA, DELTA = 1.3, 0.9, 0.8, 1.8
U0 = torch.tensor([0.44249296, 4.6280594], dtype=torch.float64)
TRUE = {"dx": {"x y": -BETA}, "dy": {"x y": GAMMA}}
HORIZON = 20.0  # how far is extrapolated
SOLVER = {"reltol": 1e-6, "abstol": 1e-8}
UNIT = 2.0  # of both states, about the size of their swings
EXACT = {"reltol": 1e-10, "abstol": 1e-10}
LBFGS = ps.Stage("LBFGS", 300, tolerance=1e-4)


def true_interaction(u: torch.Tensor) -> torch.Tensor:
    """(..., 2): what is to be found, at states (..., 2)."""
    return torch.stack([-BETA * u[..., 0] * u[..., 1], GAMMA * u[..., 0] * u[..., 1]], dim=-1)


class PreyAndPredator(torch.nn.Module):
    """Prey that grow and predators that die at known rates, and what the two do to each other: `interaction(u)`."""

    def __init__(self, interaction: Callable):
        super().__init__()
        self.interaction = interaction

    def forward(self, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        x, y = u
        return torch.stack([ALPHA * x, -DELTA * y]) + self.interaction(u)


class Network(torch.nn.Module):
    """What stands in its place: two inputs, eight neurons, two outputs, all in units in which they are of order one."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return UNIT * self.layers(u / UNIT)


def truth(t: torch.Tensor) -> torch.Tensor:
    """The true states (k, 2) at times (k,)."""
    problem = ps.ODEProblem(PreyAndPredator(true_interaction), U0, (0.0, float(t[-1])))
    return ps.solve(problem, saveat=t, **EXACT).u.detach()


def measured(noise: float, seed: int, span: float = 5.0, step: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    """Times (k,) and states (k, 2) with noise of this share of each state's mean."""
    t = torch.linspace(0, span, round(span / step) + 1, dtype=torch.float64)
    u = truth(t)
    generator = torch.Generator().manual_seed(seed)
    return t, u + noise * u.mean(dim=0) * torch.randn(u.shape, generator=generator, dtype=torch.float64)


def fit(interaction: torch.nn.Module, t: torch.Tensor, data: torch.Tensor, start: torch.Tensor, **options: Any) -> Any:
    """Fits an interaction, and the first state along with it."""
    problem = ps.ODEProblem(PreyAndPredator(interaction), start.clone().requires_grad_(), (0.0, HORIZON))
    return ps.fit(problem, data, t, stages=LBFGS, progress="off", **SOLVER, **options)


def fit_network(t: torch.Tensor, data: torch.Tensor, seed: int, **options: Any) -> tuple[torch.nn.Module, Any]:
    """A network from the slopes of smoothed data, then from the solution."""
    torch.manual_seed(seed)
    net = Network()
    problem = ps.ODEProblem(PreyAndPredator(net), data[0], (0.0, float(t[-1])))
    ps.pretrain(problem, data, t, params=net, stages=LBFGS, progress="off")
    return net, fit(net, t, data, data[0], **options)


def search(states: torch.Tensor, missing: torch.Tensor) -> ps.Law:
    """A law for (k, 2) values of the missing terms: cubic polynomials, the threshold by cross-validation."""
    return ps.discover(states, missing, library=3, names=("x", "y"), targets=("dx", "dy"), bootstraps=2)


def along(result: Any, t: torch.Tensor) -> torch.Tensor:
    """The fitted solution at times of the span of the data, and no further."""
    with torch.no_grad():
        return ps.solve(result.prob.remake(tspan=(0.0, float(t[-1]))), saveat=t, **result.options).u


def sindy(t: torch.Tensor, data: torch.Tensor, known: bool = True, window: int = 11) -> ps.Law:
    """The same search on slopes by smoothed finite differences; `known`: told all that the network is told.

    window: points of the filter that smooths, by cubics; pysindy takes 11 unless told otherwise.
    """
    import pysindy

    slopes = pysindy.SmoothedFiniteDifference(smoother_kws={"window_length": window, "polyorder": 3})
    du = torch.from_numpy(np.array(slopes(data.numpy(), float(t[1] - t[0]))))
    u = torch.from_numpy(np.array(slopes.smoothed_x_))
    return search(u, du - u * torch.tensor([ALPHA, -DELTA], dtype=torch.float64) if known else du)


WHOLE = {"dx": {"x": ALPHA, **TRUE["dx"]}, "dy": {"y": -DELTA, **TRUE["dy"]}}


@dataclass(frozen=True)
class Recovery:
    """A network, the law read off it, and that law fitted again in the network's place, where it could be."""

    t: torch.Tensor
    data: torch.Tensor
    net: torch.nn.Module
    fitted: ps.FitResult
    law: ps.Law
    module: torch.nn.Module | None = None
    again: ps.FitResult | None = None

    @property
    def final(self) -> ps.Law:
        return self.law if self.module is None else refitted(self.law, self.module)


def recover(noise: float = 0.005, seed: int = 0, span: float = 5.0, step: float = 0.1, **options: Any) -> Recovery:
    """The way of notebook 02, from the data to the law. options: `engine`, of `ps.fit`."""
    t, data = measured(noise, seed, span, step)
    net, fitted = fit_network(t, data, seed, **options)
    states = along(fitted, torch.linspace(0, span, 201, dtype=torch.float64))
    with torch.no_grad():
        law = search(states, net(states))
    if not law.coefficients.any():
        return Recovery(t, data, net, fitted, law)
    module = law.module()
    try:
        return Recovery(t, data, net, fitted, law, module, fit(module, t, data, states[0], **options))
    except ps.FitError:  # a wrong law may grow without bound from the start
        return Recovery(t, data, net, fitted, law)


def extrapolated(interaction: Callable, fitted: ps.FitResult, **options: Any) -> float:
    """How wrong a model is from the end of the data to the horizon; infinite where it cannot be solved."""
    t = torch.linspace(0, HORIZON, 401, dtype=torch.float64)
    start, beyond = fitted.prob.u0.detach(), t > float(fitted.t[-1])
    problem = ps.ODEProblem(PreyAndPredator(interaction), start, (0.0, HORIZON))
    try:
        with torch.no_grad():
            u = ps.solve(problem, saveat=t, **SOLVER, **options).u
    except ps.SolveError:
        return float("inf")
    return relative_error(u[beyond], truth(t)[beyond])


def row(engine: str) -> Row:
    """The row of the table of recovered laws: notebook 02's data, timed when warm."""
    recover(engine=engine)
    begin = time.perf_counter()
    found = recover(engine=engine)
    seconds = time.perf_counter() - begin
    final = found.final
    return Row(
        "Lotka-Volterra (02)",
        engine,
        "; ".join(final.equations),
        is_exact(final, TRUE),
        coefficient_error(final, TRUE),
        extrapolated(final, found.again or found.fitted, engine=engine),
        seconds,
    )
