"""Neural ODEs over batches: the gradient in every weight, of small and large networks, by everyone.

u' = net(u), tanh networks 2-50-2 and 64-256-256-64, batches of 1, 64 and 1024, float64, t in [0, 1], 10 saved times,
tolerances 1e-6; the loss is the mean square of the saved states. One thread. "auto" is `pysciml.solve` as it comes,
which chooses engine and solver itself; `Tsit5` is what it takes where it takes Julia. torchode gives each member of the
batch steps of its own. The peak of memory, at the largest batch, is that of a process of its own: how much it grew from
before the problem was made to after two gradients.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import torch
import torchdiffeq

import pysciml as ps
from benchmarks import by_diffrax
from benchmarks.race import Result, Run, race
from benchmarks.report import Report
from pysciml.engines.select import engine_name

F64 = torch.float64
NETWORKS = {"2-50-2": (2, 50, 2), "64-256-256-64": (64, 256, 256, 64)}
BATCHES = (1, 64, 1024)
TIMES = torch.linspace(0.0, 1.0, 10, dtype=F64)
TOL = 1e-6
AUTO, PEER = "pysciml, auto", "torchdiffeq dopri5, direct"


class Network(torch.nn.Module):
    """du/dt = net(u), of any batch."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [x for a, b in itertools.pairwise(sizes) for x in (torch.nn.Linear(a, b), torch.nn.Tanh())]
        self.net = torch.nn.Sequential(*layers[:-1]).double()

    def forward(self, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return self.net(u)


def start(sizes: tuple[int, ...], batch: int) -> torch.Tensor:
    return torch.randn(batch, sizes[0], dtype=F64, generator=torch.Generator().manual_seed(1))


def gradient(net: torch.nn.Module, states: Callable[[], torch.Tensor]) -> Run:
    def run() -> torch.Tensor:
        net.zero_grad()
        states().square().mean().backward()
        return torch.cat([p.grad.reshape(-1) for p in net.parameters()])

    return run


def by_pysciml(sizes: tuple[int, ...], batch: int, alg=None, tol: float = TOL, **options) -> Run:
    net, u0 = Network(sizes), start(sizes, batch)
    prob = ps.ODEProblem(net, u0, (0.0, 1.0))
    return gradient(net, lambda: ps.solve(prob, alg, saveat=TIMES, reltol=tol, abstol=tol, **options).u)


def by_torchdiffeq(sizes: tuple[int, ...], batch: int, odeint: Callable) -> Run:
    net, u0 = Network(sizes), start(sizes, batch)
    return gradient(net, lambda: odeint(net, u0, TIMES, rtol=TOL, atol=TOL, method="dopri5"))


def by_torchode(sizes: tuple[int, ...], batch: int) -> Run:
    import torchode

    net, u0 = Network(sizes), start(sizes, batch)
    term = torchode.ODETerm(net)
    adjoint = torchode.AutoDiffAdjoint(torchode.Dopri5(term=term), torchode.IntegralController(TOL, TOL, term=term))
    times = TIMES.expand(batch, -1)
    return gradient(net, lambda: adjoint.solve(torchode.InitialValueProblem(y0=u0, t_eval=times)).ys)


def by_diffrax_tsit5(sizes: tuple[int, ...], batch: int) -> Run:
    import jax.numpy as jnp

    def f(t, u, p):
        for w, b in zip(p[:-2:2], p[1:-2:2], strict=True):
            u = jnp.tanh(u @ w.T + b)
        return u @ p[-2].T + p[-1]

    run = by_diffrax.gradient(f, "Tsit5", list(Network(sizes).parameters()), start(sizes, batch), TIMES)
    return partial(run, TOL)


def contestants(sizes: tuple[int, ...], batch: int) -> dict[str, Callable[[], Run]]:
    each: dict[str, Callable[..., Run]] = {
        PEER: partial(by_torchdiffeq, odeint=torchdiffeq.odeint),
        "torchdiffeq dopri5, adjoint": partial(by_torchdiffeq, odeint=torchdiffeq.odeint_adjoint),
        "torchode Dopri5": by_torchode,
        "pysciml DP5, eager": partial(by_pysciml, alg=ps.DP5(), engine="embedded"),
        AUTO: by_pysciml,
    }
    if by_diffrax.HERE:
        each["diffrax Tsit5, jit"] = by_diffrax_tsit5
    if engine_name("auto") == "julia":
        each["pysciml Tsit5, julia"] = partial(by_pysciml, alg=ps.Tsit5(), engine="julia")
        each["pysciml Tsit5, DirectAdjoint"] = partial(by_pysciml, alg=ps.Tsit5(), engine="julia",
                                                       sensealg=ps.DirectAdjoint())  # fmt: skip
    if batch * sizes[0] <= 64 and len(sizes) == 3:  # CasADi's own products take no BLAS
        each["pysciml CVODE_Adams, embedded"] = partial(by_pysciml, alg=ps.CVODE_Adams(), engine="embedded")
    return {name: partial(build, sizes, batch) for name, build in each.items()}


# A process of its own: the most it ever held, less what it held before the problem was made.
_MEMORY = """
import sys, torch
from benchmarks import neural_ode as case
from benchmarks.apart import forget_peak, peak
torch.set_num_threads(1)
small = case.contestants((2, 50, 2), 2)[sys.argv[1]]()
small()
forget_peak()
before = peak()
run = case.contestants(case.NETWORKS[sys.argv[2]], int(sys.argv[3]))[sys.argv[1]]()
run(), run()
print(peak() - before)
"""


def memory(name: str, network: str, batch: int) -> float:
    """MB, or NaN where it failed."""
    command = [sys.executable, "-c", _MEMORY, name, network, str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout.split()[-1]) / 2**20 if done.returncode == 0 else float("nan")


def main() -> None:
    torch.set_num_threads(1)
    report = Report("neural_ode", "Neural ODEs over batches")
    report.text(" ".join((__doc__ or "").split()))
    ratios: dict[str, dict[tuple[str, int], float]] = {}
    for network, sizes in NETWORKS.items():
        for batch in BATCHES:
            truth = by_pysciml(sizes, batch, ps.DP5(), 1e-9, engine="embedded")()
            found = race(contestants(sizes, batch), truth=truth, rounds=5, seconds=0.5)
            report.text(f"## {network}, batch {batch}")
            largest = batch == max(BATCHES)  # of the smaller ones nothing is seen beside what is loaded
            table(report, found, {name: memory(name, network, batch) if largest else float("nan") for name in found})
            for name, result in found.items():
                ratios.setdefault(name, {})[network, batch] = result.median / found[PEER].median
    report.text(f"Over {PEER}, the most of a size: {AUTO} {max(ratios[AUTO].values()):.2f} "
                f"(1.1 at most is what it should be).")  # fmt: skip
    report.figure(draw(ratios), "over_torchdiffeq")
    report.save()


def table(report: Report, found: dict[str, Result], memories: dict[str, float]) -> None:
    head = ("", "median ms", "best ms", "spread", "first s", "over torchdiffeq", "error", "peak MB")
    peer = found[PEER].median
    rows = [
        (name, 1e3 * r.median, 1e3 * r.best, f"{r.spread:.0%}", r.first, r.median / peer, r.error, memories[name])
        if not r.failed else (name, r.failed, *[""] * 6) for name, r in found.items()
    ]  # fmt: skip
    report.table(head, rows)


def draw(ratios: dict[str, dict[tuple[str, int], float]]):
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(9, 4.6), layout="constrained")
    places = [(network, batch) for network in NETWORKS for batch in BATCHES]
    width = 0.8 / len(ratios)
    for i, (name, values) in enumerate(ratios.items()):
        x = [k + (i - len(ratios) / 2 + 0.5) * width for k in range(len(places))]
        axis.bar(x, [values.get(place, float("nan")) for place in places], width, label=name)
    axis.axhline(1, color="k", linewidth=0.8)
    axis.set(yscale="log", ylabel="time over torchdiffeq's direct backprop", xticks=range(len(places)),
             xticklabels=[f"{network}\nbatch {batch}" for network, batch in places])  # fmt: skip
    figure.legend(*axis.get_legend_handles_labels(), fontsize=8, ncols=3, loc="outside lower center")
    return figure


if __name__ == "__main__":
    main()
