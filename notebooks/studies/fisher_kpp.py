"""Fisher and KPP's equation by the method of lines, stencil and reaction unknown; notebook 04 tells it."""

from __future__ import annotations

import time
from typing import Any

import torch

import pysciml as ps
from notebooks.studies.row import Row, is_exact, refitted, relative_error

LENGTH, POINTS, FINER = 10.0, 64, 4
D, R = 0.25, 1.0
DX, SIGMA, FIT = LENGTH / POINTS, 0.01, 41
T = torch.linspace(0, 8, 81, dtype=torch.float64)
TRUE = {"R": {"u": R, "u²": -R}}


def solver(engine: str) -> dict[str, Any]:
    """Options of `ps.solve`."""
    alg = ps.Tsit5() if engine == "julia" else ps.CVODE_BDF()
    return {"alg": alg, "reltol": 1e-6, "abstol": 1e-8, "engine": engine}


def fine_grid(t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """The true equation on the grid that makes the data."""
    return D * (u.roll(1) - 2 * u + u.roll(-1)) / (DX / FINER) ** 2 + R * u * (1 - u)


def truth(engine: str) -> torch.Tensor:
    """The true states (81, 64) at the points of the coarse grid."""
    x = torch.arange(FINER * POINTS, dtype=torch.float64) * DX / FINER
    problem = ps.ODEProblem(fine_grid, torch.exp(-(((x - 4.0) / 0.8) ** 2)), (0.0, float(T[-1])))
    return ps.solve(problem, saveat=T, **solver(engine)).u[:, ::FINER].detach()


class ZeroSum(torch.nn.Module):
    """Keeps the sum of a stencil's weights at zero."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight - weight.mean(dim=-1, keepdim=True)

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        return weight


class Network(torch.nn.Module):
    """A reaction (..., 1) of states (..., 1) that is zero where there is nothing."""

    def __init__(self, width: int = 8):
        super().__init__()
        layers = torch.nn.Linear(1, width), torch.nn.Tanh(), torch.nn.Linear(width, 1, bias=False)
        self.net = torch.nn.Sequential(*layers).double()
        with torch.no_grad():
            self.net[2].weight.mul_(0.3)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return self.net(u) - self.net(torch.zeros_like(u))


class SpreadAndGrowth(torch.nn.Module):
    """A convolution between neighbours on a ring, and a reaction at each point."""

    def __init__(self, reaction: torch.nn.Module, stencil: torch.Tensor):
        super().__init__()
        self.stencil = torch.nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False).double()
        with torch.no_grad():
            self.stencil.weight.copy_(stencil.reshape(1, 1, 3))
        ps.constrain(self.stencil, weight=ZeroSum())
        self.reaction = reaction

    def forward(self, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return self.stencil(u[None, None])[0, 0] / DX**2 + self.reaction(u[:, None])[:, 0]

    @property
    def diffusivity(self) -> float:
        return float(self.stencil.weight.detach().flatten()[[0, 2]].mean())


def fit(model: torch.nn.Module, data: torch.Tensor, start: torch.Tensor, engine: str, adam: int) -> ps.FitResult:
    """Fits stencil, reaction and the first state."""
    stages = [ps.Stage("Adam", adam, lr=0.02), ps.Stage("LBFGS", 600, tolerance=1e-6, history_size=100)]
    problem = ps.ODEProblem(model, start.detach().clone().requires_grad_(), (0.0, float(T[-1])))
    return ps.fit(problem, data[:FIT], T[:FIT], stages=stages, progress="off", **solver(engine))


def solution(result: ps.FitResult, engine: str) -> torch.Tensor:
    """The fitted states (81, 64), forecast and all."""
    with torch.no_grad():
        return ps.solve(result.prob, saveat=T, **solver(engine)).u


def recovered(engine: str, seed: int = 0) -> tuple[ps.Law, float, float]:
    """The law with its coefficients fitted in the network's place, the diffusivity, and the error of the forecast."""
    true = truth(engine)
    noise = torch.randn(true.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    data = true + SIGMA * noise
    torch.manual_seed(seed)
    model = SpreadAndGrowth(Network(), torch.zeros(3, dtype=torch.float64))
    states = solution(fit(model, data, data[0], engine, adam=50), engine)[:FIT]
    with torch.no_grad():
        visited = states.reshape(-1, 1)
        law = ps.discover(visited, model.reaction(visited), library=3, exclude=("1",), names=("u",), targets=("R",))
    module = law.module()
    written = SpreadAndGrowth(module, model.stencil.weight.detach())
    again = fit(written, data, states[0], engine, adam=0)
    beyond = solution(again, engine)[FIT:]
    return refitted(law, module), written.diffusivity, relative_error(beyond, true[FIT:])


def _described(law: ps.Law, diffusivity: float, extrapolation: float) -> dict[str, Any]:
    errors = {f"R: {term}": abs(law.coefficient("R", term)[0] / value - 1) for term, value in TRUE["R"].items()}
    return {
        "problem": "Fisher-KPP (04)",
        "equation": f"u_t = {diffusivity:.4g} u_xx + R; {law.equations[0]}",
        "coefficient_errors": {"D": abs(diffusivity / D - 1), **errors},
        "extrapolation_error": extrapolation,
    }


def recover(engine: str) -> dict[str, Any]:
    """What notebook 04 recovers: problem, equation, coefficient_errors by name, extrapolation_error, seconds, engine.

    The errors of coefficients are relative; that of the extrapolation is over the standard deviation of the truth.
    """
    begin = time.perf_counter()
    found = _described(*recovered(engine))
    return {**found, "seconds": time.perf_counter() - begin, "engine": engine}


def row(engine: str) -> Row:
    """The row of the table of recovered laws, timed when warm; the diffusivity is among its coefficients."""
    recovered(engine)
    begin = time.perf_counter()
    law, *numbers = recovered(engine)
    seconds = time.perf_counter() - begin
    found = _described(law, *numbers)
    worst = max(found["coefficient_errors"].values())
    exact = is_exact(law, TRUE)
    return Row(found["problem"], engine, found["equation"], exact, worst, found["extrapolation_error"], seconds)
