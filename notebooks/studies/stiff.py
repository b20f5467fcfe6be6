"""Robertson's kinetics with the rate law of one reaction unknown; notebook 05 tells it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

import pysciml as ps
from notebooks.studies.row import Row, is_exact, refitted, relative_error

K1, K2, K3 = 0.04, 3e7, 1e4
SIGMA, UNIT = 0.02, 1e-5
START = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
T = torch.logspace(-3.5, 4, 32, dtype=torch.float64)
LATER = torch.logspace(4, 7, 16, dtype=torch.float64)[1:]
TRUE = {"log κ": {"1": math.log(K2 * UNIT), "log B": 1.0}}
LIBRARY = {"1": torch.ones_like, "log B": lambda x: x, "(log B)²": lambda x: x**2}


def solver(engine: str) -> dict[str, Any]:
    """Options of `ps.solve`; each species has an absolute tolerance of its own."""
    abstol = torch.tensor([1e-9, 1e-13, 1e-11], dtype=torch.float64)
    alg = ps.Rodas5P() if engine == "julia" else ps.CVODE_BDF()
    return {"alg": alg, "reltol": 1e-6, "abstol": abstol, "engine": engine}


class Robertson(torch.nn.Module):
    """A to B, B + C to A + C, and B to C at the rate B κ(B)."""

    def __init__(self, kappa: Callable):
        super().__init__()
        self.kappa = kappa

    def forward(self, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        a, b, c = u
        forth, back, made = K1 * a, K3 * b * c, b * self.kappa(b)
        return torch.stack([back - forth, forth - back - made, made])


def log_b(b: torch.Tensor) -> torch.Tensor:
    """Logarithm of B in its unit, also where a solver's error made it less than nothing."""
    return torch.log(b.clamp(min=1e-12) / UNIT)


class Network(torch.nn.Module):
    """log κ as a network of log B."""

    def __init__(self, width: int = 8):
        super().__init__()
        layers = torch.nn.Linear(1, width), torch.nn.Tanh(), torch.nn.Linear(width, 1)
        self.net = torch.nn.Sequential(*layers).double()
        with torch.no_grad():
            self.net[2].weight.mul_(0.1)
            self.net[2].bias.zero_()

    def forward(self, b: torch.Tensor) -> torch.Tensor:
        return 100 * torch.exp(self.net((log_b(b) / 2 + 1)[..., None])[..., 0])


class PowerLaw(torch.nn.Module):
    """log κ as a law of log B."""

    def __init__(self, law: torch.nn.Module):
        super().__init__()
        self.law = law

    def forward(self, b: torch.Tensor) -> torch.Tensor:
        return torch.exp(self.law(log_b(b)[..., None])[..., 0])


def simulate(kappa: Callable, t: torch.Tensor, engine: str) -> torch.Tensor:
    """States (k, 3) at times (k,)."""
    problem = ps.ODEProblem(Robertson(kappa), START, (0.0, float(t[-1])))
    with torch.no_grad():
        return ps.solve(problem, saveat=t, **solver(engine)).u


def logs(u: torch.Tensor) -> torch.Tensor:
    """Logarithms of states, on whose scale all species count alike."""
    return u.clamp(min=1e-14).log()


def loss(predicted: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Mean square of relative errors."""
    return (logs(predicted) - logs(observed)).square().mean()


def fit(kappa: torch.nn.Module, data: torch.Tensor, engine: str, adam: int) -> None:
    """Fits κ to data (32, 3)."""
    stages = [ps.Stage("Adam", adam, lr=0.05), ps.Stage("LBFGS", 200, tolerance=1e-4)]
    problem = ps.ODEProblem(Robertson(kappa), START, (0.0, float(T[-1])))
    ps.fit(problem, data, T, loss=loss, stages=stages, progress="off", **solver(engine))


def recovered(engine: str, seed: int = 0) -> tuple[ps.Law, float]:
    """The law of log κ, fitted in the network's place, and its error in three further decades of time."""
    true = simulate(lambda b: K2 * b, torch.cat([T, LATER]), engine)
    noise = torch.randn(len(T), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    data = true[: len(T)] * torch.exp(SIGMA * noise)
    torch.manual_seed(seed)
    network = Network()
    fit(network, data, engine, adam=100)
    b = simulate(network, torch.logspace(-3.5, 4, 200, dtype=torch.float64), engine)[:, 1]
    with torch.no_grad():
        x, y = log_b(b)[:, None], network(b).log()
    law = ps.discover(x, y, library=LIBRARY, names=("log B",), targets=("log κ",))
    module = law.module()
    fit(PowerLaw(module), data, engine, adam=0)
    beyond = simulate(PowerLaw(module), LATER, engine)
    return refitted(law, module), relative_error(logs(beyond), logs(true[len(T) :]))


def _described(law: ps.Law, extrapolation: float) -> dict[str, Any]:
    """The law as a chemist writes it: a constant, and the order of the reaction, which has one B more than κ."""
    constant, order = math.exp(law.coefficient(0, "1")[0]), 1 + law.coefficient(0, "log B")[0]
    squared = law.coefficient(0, "(log B)²")[0]
    more = f" exp({squared:.3g} (log B)²)" if squared else ""
    return {
        "problem": "Robertson (05)",
        "equation": f"rate = {constant:.4g} B^{order:.3f}{more}, B in {UNIT:g}",
        "coefficient_errors": {"k2": abs(constant / (K2 * UNIT) - 1), "order": abs(order / 2 - 1)},
        "extrapolation_error": extrapolation,
    }


def recover(engine: str) -> dict[str, Any]:
    """What notebook 05 recovers: problem, equation, coefficient_errors by name, extrapolation_error, seconds, engine.

    The errors of coefficients are relative; that of the extrapolation is of the logarithms of all species, over the
    standard deviation of the truth's.
    """
    begin = time.perf_counter()
    found = _described(*recovered(engine))
    return {**found, "seconds": time.perf_counter() - begin, "engine": engine}


def row(engine: str) -> Row:
    """The row of the table of recovered laws, timed when warm."""
    recovered(engine)
    begin = time.perf_counter()
    law, extrapolation = recovered(engine)
    seconds = time.perf_counter() - begin
    found = _described(law, extrapolation)
    worst = max(found["coefficient_errors"].values())
    return Row(found["problem"], engine, found["equation"], is_exact(law, TRUE), worst, extrapolation, seconds)
