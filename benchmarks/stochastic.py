"""Stochastic equations against torchsde, forward and gradient: its README's problem, and a neural one of 64 paths.

The README's: general noise, batch 32, 3 states, 2 Brownian motions, float32, "euler" with torchsde's own step of 1e-3,
20 saved times. The neural one: 64 paths of 2 states, drift 2-32-2 and diffusion 2-16-2 networks, diagonal noise,
float64, 100 steps, by "euler" and by the order 1.5 that each has ("srk" there, SRIW1 here, and SOSRI with its own
steps). The gradient is that of the mean square of all saved states in every weight. Rounds are interleaved; one thread,
but for the line that says otherwise: the same 64 paths as an ensemble on Julia's threads, each with steps of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
import torchsde

import pysciml as ps
from pysciml.engines.select import engine_name

Run = Callable[[bool], torch.Tensor]


class Readme(torch.nn.Module):
    """The equation of torchsde's README."""

    noise_type, sde_type = "general", "ito"

    def __init__(self) -> None:
        super().__init__()
        self.mu, self.sigma = torch.nn.Linear(3, 3), torch.nn.Linear(3, 6)

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.mu(y)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.sigma(y).view(y.shape[0], 3, 2)


class Neural(torch.nn.Module):
    """Drift and diffusion by networks."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self) -> None:
        super().__init__()
        self.drift = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2)).double()
        self.spread = torch.nn.Sequential(
            torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2), torch.nn.Sigmoid()
        ).double()

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.drift(y)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return 0.2 * self.spread(y)


def of(net: torch.nn.Module, solve: Callable[[], torch.Tensor]) -> Run:
    """The states, and with a gradient that of their mean square in all weights."""

    def run(gradient: bool) -> torch.Tensor:
        if not gradient:
            with torch.no_grad():
                return solve()
        net.zero_grad()
        solve().square().mean().backward()
        return torch.cat([p.grad.reshape(-1) for p in net.parameters() if p.grad is not None])

    return run


def readme() -> dict[str, Run]:
    torch.manual_seed(0)
    net, y0, ts = Readme(), torch.full((32, 3), 0.1), torch.linspace(0, 1, 20)
    found = {
        "torchsde sdeint, euler": of(net, lambda: torchsde.sdeint(net, y0, ts, method="euler")),
        "torchsde sdeint_adjoint, euler": of(net, lambda: torchsde.sdeint_adjoint(net, y0, ts, method="euler")),
        "pysciml sdeint, euler, embedded": of(net, lambda: ps.sdeint(net, y0, ts, method="euler", engine="embedded")),
    }
    if engine_name("auto") == "julia":
        found["pysciml sdeint, euler, julia"] = of(net, lambda: ps.sdeint(net, y0, ts, method="euler", engine="julia"))
        found["pysciml sdeint, LambaEM, julia, own steps"] = of(
            net, lambda: ps.sdeint(net, y0, ts, method="LambaEM", adaptive=True, rtol=1e-2, atol=1e-3, engine="julia")
        )
    return found


def neural() -> dict[str, Run]:
    torch.manual_seed(0)
    net, y0 = Neural(), torch.full((64, 2), 0.1, dtype=torch.float64)
    ts, step = torch.linspace(0, 1, 11, dtype=torch.float64), {"dt": 0.01}
    found = {
        f"torchsde sdeint, {name}": of(net, lambda name=name: torchsde.sdeint(net, y0, ts, method=name, **step))
        for name in ("euler", "srk")
    }
    if engine_name("auto") != "julia":
        return found
    for name, more in (("euler", step), ("SRIW1", step), ("SOSRI", {"adaptive": True, "rtol": 1e-2, "atol": 1e-3})):
        found[f"pysciml sdeint, {name}, julia" + (", own steps" if "rtol" in more else "")] = of(
            net, lambda name=name, more=more: ps.sdeint(net, y0, ts, method=name, engine="julia", **more))  # fmt: skip
    prob = ps.SDEProblem(lambda t, u: net.f(t, u), lambda t, u: net.g(t, u), y0[0], (0.0, 1.0))
    many = ps.EnsembleProblem(prob, u0=y0)
    found["pysciml ensemble, EM, julia, all threads"] = of(
        net, lambda: ps.solve_ensemble(many, ps.EM(), dt=0.01, saveat=ts, engine="julia").u)  # fmt: skip
    return found


def seconds(run: Run, gradient: bool, repeats: int) -> list[float]:
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(gradient)
        found.append(time.perf_counter() - start)
    return found


def measured(runs: dict[str, Run], rounds: int) -> tuple[dict, dict]:
    """Warm times by name and by whether with a gradient, and the seconds of the first of each."""
    first = {name: [seconds(run, gradient, 1)[0] for gradient in (False, True)] for name, run in runs.items()}
    warm: dict = {(name, gradient): [] for name in runs for gradient in (False, True)}
    for _ in range(rounds):
        for name, gradient in warm:
            many = "pysciml" in name and "embedded" not in name
            warm[name, gradient] += seconds(runs[name], gradient, 10 if many else 1)
    return first, warm


def main(rounds: int = 5) -> None:
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, torchsde {torchsde.__version__}; median ms, warm; x: torchsde euler over it")
    for title, runs in (("README", readme()), ("neural, 64 paths", neural())):
        first, warm = measured(runs, rounds)
        base = next(iter(runs))
        print(f"\n{title:44}{'forward':>9}{'x':>7}{'gradient':>10}{'x':>7}{'first s':>9}{'and s':>7}")
        for name in runs:
            forward, gradient = (median(warm[name, g]) for g in (False, True))
            ratios = [median(warm[base, g]) / x for g, x in ((False, forward), (True, gradient))]
            print(f"{name:44}{1e3 * forward:9.2f}{ratios[0]:7.1f}{1e3 * gradient:10.2f}{ratios[1]:7.1f}"
                  f"{first[name][0]:9.2f}{first[name][1]:7.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
