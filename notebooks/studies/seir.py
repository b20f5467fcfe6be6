"""An epidemic with the exposure unknown, seen through the ill and the recovered alone; notebook 03 tells it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

import pysciml as ps
from notebooks.studies.row import Row, coefficient_error, is_exact, refitted, relative_error

BETA, SIGMA, GAMMA = 0.6, 1 / 4, 1 / 5  # a day: exposure, the end of latency, recovery
N = 100.0  # all people: states are in per cent of them
TRUE = {"exposure": {"S I": BETA / N}}
U0 = torch.tensor([0.2, 0.1, 0.0], dtype=torch.float64)
END, LAST = 120, 30  # days: of the forecast, of the data
NOISE, LEAST = 0.02, 0.002  # standard deviation of a measurement: this part of it, and this many per cent of people
UNIT = torch.tensor([100.0, 10.0], dtype=torch.float64)
SOLVER = {"reltol": 1e-7, "abstol": 1e-9}
STAGE = ps.Stage("LBFGS", 300, tolerance=1e-5)


def true_exposure(x: torch.Tensor) -> torch.Tensor:
    """(..., 1): newly exposed a day, at (..., 2) susceptible and infectious."""
    return BETA / N * x[..., :1] * x[..., 1:]


class Epidemic(torch.nn.Module):
    """Exposed, infectious and recovered; who is left is susceptible. `exposure(x)` is what is not known."""

    def __init__(self, exposure: Callable):
        super().__init__()
        self.exposure = exposure

    def forward(self, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        E, I, R = u  # noqa: E741 - the letters of the field
        new = self.exposure(torch.stack([N - E - I - R, I]))[0]
        return torch.stack([new - SIGMA * E, SIGMA * E - GAMMA * I, GAMMA * I])


class Network(torch.nn.Module):
    """Without the infectious nobody is exposed: I times a network of S and I."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Tanh(), torch.nn.Linear(6, 1)).double()
        with torch.no_grad():
            self.layers[2].weight.mul_(0.3)
            self.layers[2].bias.fill_(0.5)  # an epidemic that grows, tamely

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[..., 1:] * self.layers(x / UNIT)


def truth(t: torch.Tensor) -> torch.Tensor:
    """The true states (k, 3) at days (k,)."""
    problem = ps.ODEProblem(Epidemic(true_exposure), U0, (0.0, float(END)))
    return ps.solve(problem, saveat=t, reltol=1e-10, abstol=1e-12).u.detach()


def measured(seed: int, last: int = LAST) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Days (k,), the ill and the recovered (k, 2) with noise, and its standard deviation (k, 2)."""
    t = torch.arange(last + 1, dtype=torch.float64)
    clean = truth(t)[:, 1:]
    sigma = NOISE * clean + LEAST
    generator = torch.Generator().manual_seed(seed)
    return t, clean + sigma * torch.randn(clean.shape, generator=generator, dtype=torch.float64), sigma


def fit(
    exposure: Callable, t: torch.Tensor, data: torch.Tensor, sigma: torch.Tensor, start: torch.Tensor, **options: Any
) -> ps.FitResult:
    """Fits an exposure and the first day's state to the ill and the recovered."""
    problem = ps.ODEProblem(Epidemic(exposure), start.clone().requires_grad_(), (0.0, float(END)))
    return ps.fit(problem, data, t, observe=lambda u: u[..., 1:], weights=1 / sigma**2, stages=STAGE,
                  progress="off", **SOLVER, **options)  # fmt: skip


def solution(result: ps.FitResult, end: float, count: int, **options: Any) -> ps.Solution:
    """The fitted epidemic to a day, at so many times."""
    with torch.no_grad():
        problem = result.prob.remake(tspan=(0.0, float(end)))
        return ps.solve(problem, saveat=torch.linspace(0, end, count, dtype=torch.float64), **SOLVER, **options)


def people(u: torch.Tensor) -> torch.Tensor:
    """(k, 2): the susceptible and the infectious of states (k, 3)."""
    return torch.stack([N - u.sum(dim=-1), u[..., 1]], dim=-1)


@dataclass(frozen=True)
class Recovery:
    """A network, the laws read off it, and for each of them (law, module, fit, BIC) in the network's place."""

    net: torch.nn.Module
    fitted: ps.FitResult
    found: list[tuple[ps.Law, torch.nn.Module, ps.FitResult, float]]

    @property
    def best(self) -> ps.FitResult:
        return min(self.found, key=lambda x: x[3])[2]

    @property
    def law(self) -> ps.Law:
        law, module, *_ = min(self.found, key=lambda x: x[3])
        return refitted(law, module)


def search(states: torch.Tensor, exposure: torch.Tensor) -> list[ps.Law]:
    """The laws for (k, 1) exposures at (k, 3) states, from many terms to few.

    Cubic, and as for the network nothing without the infectious.
    """
    options = {"library": 3, "exclude": ("1", "S", "S²", "S³"), "names": ("S", "I"), "targets": ("exposure",)}
    x = people(states)
    path = ps.discover(x, exposure, bootstraps=2, **options).path[0]
    return [ps.discover(x, exposure, threshold=c.threshold, bootstraps=2, **options) for c in path if c.terms]


def learn(seed: int = 0, last: int = LAST, **options: Any) -> tuple[torch.nn.Module, ps.FitResult]:
    """The network that was fitted. options: `engine`, of `ps.fit`."""
    t, data, sigma = measured(seed, last)
    torch.manual_seed(seed)
    net = Network()
    start = torch.stack([2 * data[0, 0], data[0, 0], torch.zeros_like(data[0, 0])])
    return net, fit(net, t, data, sigma, start, **options)


def recover(seed: int = 0, last: int = LAST, **options: Any) -> Recovery:
    """The way of notebook 03: laws read off the network, each fitted in its place, of which the data choose one."""
    t, data, sigma = measured(seed, last)
    net, fitted = learn(seed, last, **options)
    states = solution(fitted, last, 201, **options).u
    with torch.no_grad():
        laws = search(states, net(people(states)))
    found = []
    for law in laws:
        module = law.module()
        try:
            again = fit(module, t, data, sigma, fitted.prob.u0.detach(), **options)
        except ps.FitError:  # a wrong law may grow without bound from the start
            continue
        found.append((law, module, again, bic(again, len(module.names))))
    return Recovery(net, fitted, found)


def bic(fitted: ps.FitResult, terms: int) -> float:
    """The Bayesian information criterion where the noise is known; what all models share is left out."""
    count = fitted.data[0].numel()
    return count * fitted.loss + terms * math.log(count)


def row(engine: str) -> Row:
    """The row of the table of recovered laws: notebook 03's data, timed when warm."""
    recover(engine=engine)
    begin = time.perf_counter()
    found = recover(engine=engine)
    seconds = time.perf_counter() - begin
    days = torch.arange(END + 1, dtype=torch.float64)
    ahead = solution(found.best, END, END + 1, engine=engine).u
    return Row(
        "SEIR (03)",
        engine,
        "; ".join(found.law.equations),
        is_exact(found.law, TRUE),
        coefficient_error(found.law, TRUE),
        relative_error(ahead[LAST + 1 :], truth(days)[LAST + 1 :]),
        seconds,
    )
