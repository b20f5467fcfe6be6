"""Case (f): how the time of a gradient grows with parameters, span, saved times and states, and its memory with steps.

The gradient is that of the mean square of the saved states, in every parameter; float64, one thread, tolerances 1e-6.
From point to point one thing grows: the width of a 2-h-h-2 tanh network that is the whole right-hand side; the span,
or the times saved, of an oscillator with a 2-16-16-2 network; the states of a ring of coupled oscillators, each with a
stiffness of its own that is learned.
"""

from __future__ import annotations

import functools
import gc
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import by_diffrax
from benchmarks.apart import apart, forget_peak, peak, say
from benchmarks.race import Result, Run, race
from benchmarks.report import Report
from pysciml.engines.select import engine_name

TOL, D = 1e-6, torch.float64
WIDTHS = (7, 30, 97, 313, 997)  # 1e2 to 1e6 parameters
SPANS = (2.0, 10.0, 50.0, 200.0)
SAVED = (2, 20, 200, 1000)
RINGS = (2, 16, 128, 1024)  # oscillators, of two states each
DENSE = 32  # states up to which CollocationAdjoint takes part: it solves stages times states equations a step
ROUNDS, SECONDS = 2, 0.3
WHY = (
    "On wide networks pysciml is behind XLA from 10,000 parameters on, and behind torchdiffeq near 1,000,000: a "
    "gradient in all weights is written down at each evaluation on the way back and added up, so that the time is that "
    "of memory, where torch and XLA add products of whole layers in place. What is chosen without an algorithm solves "
    "by one of order 7, and takes twice as long there."
)
LONG = (30.0, 100.0, 300.0, 1000.0, 2000.0)  # spans, of 64 oscillators, of the part on memory
LEAST = 0.1  # MiB


class Network(torch.nn.Module):
    """u' = net(u) - u, a network of two hidden layers."""

    def __init__(self, width: int, scale: float = 1.0) -> None:
        super().__init__()
        layers = [torch.nn.Linear(2, width), torch.nn.Tanh(), torch.nn.Linear(width, width), torch.nn.Tanh(),
                  torch.nn.Linear(width, 2)]  # fmt: skip
        self.net, self.scale = torch.nn.Sequential(*layers).double(), scale

    def forward(self, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return self.net(u) - u

    def in_jax(self, t, u, p):
        return _network_in_jax(u, p) - u


class Oscillator(Network):
    """A harmonic oscillator and a tenth of a network."""

    def __init__(self) -> None:
        super().__init__(16)

    def forward(self, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return torch.stack([u[1], -u[0]]) + 0.1 * (self.net(u) - u)

    def in_jax(self, t, u, p):
        import jax.numpy as jnp

        return jnp.stack([u[1], -u[0]]) + 0.1 * (_network_in_jax(u, p) - u)


class Ring(torch.nn.Module):
    """Oscillators with a stiffness each, and springs with a cubic term to their neighbours; places, then speeds."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.stiffness = torch.nn.Parameter(torch.linspace(0.5, 1.5, count, dtype=D))
        self.spring = torch.nn.Parameter(torch.tensor(0.5, dtype=D))

    def forward(self, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        x, v = u[: len(u) // 2], u[len(u) // 2 :]
        stretch = torch.roll(x, -1) - x
        pull = self.spring * (stretch + 0.1 * stretch**3)
        return torch.cat([v, pull - torch.roll(pull, 1) - self.stiffness * x])

    def in_jax(self, t, u, p):
        import jax.numpy as jnp

        stiffness, spring = p
        x, v = jnp.split(u, 2)
        stretch = jnp.roll(x, -1) - x
        pull = spring * (stretch + 0.1 * stretch**3)
        return jnp.concatenate([v, pull - jnp.roll(pull, 1) - stiffness * x])


def _network_in_jax(u, p):
    import jax.numpy as jnp

    w1, b1, w2, b2, w3, b3 = p
    return w3 @ jnp.tanh(w2 @ jnp.tanh(w1 @ u + b1) + b2) + b3


@dataclass(frozen=True)
class Case:
    """A problem: a module, an initial state and the times saved."""

    model: Any
    u0: torch.Tensor
    times: torch.Tensor

    @property
    def parameters(self) -> list[torch.Tensor]:
        return list(self.model.parameters())


def case(model: Callable[[], Any], span: float, saved: int, states: int = 2) -> Case:
    torch.manual_seed(0)
    u0 = torch.cat([torch.cos(torch.arange(states // 2, dtype=D)), torch.zeros(states // 2, dtype=D)])
    return Case(model(), u0, torch.linspace(0.0, span, saved, dtype=D))


def ring(count: int, span: float = 5.0, saved: int = 11) -> Case:
    return case(lambda: Ring(count), span, saved, 2 * count)


PANELS: dict[str, tuple[str, list[tuple[float, Callable[[], Case]]]]] = {
    "parameters": ("parameters (span 1, 11 times saved)", [
        (h * h + 6 * h + 2, functools.partial(case, functools.partial(Network, h), 1.0, 11)) for h in WIDTHS]),
    "span": ("span (11 times saved)", [(t, functools.partial(case, Oscillator, t, 11)) for t in SPANS]),
    "saved": ("times saved (span 10)", [(k, functools.partial(case, Oscillator, 10.0, k)) for k in SAVED]),
    "states": ("states (span 5, 11 times saved)", [(2 * n, functools.partial(ring, n)) for n in RINGS]),
}  # fmt: skip


# Contestants.


def in_torch(case: Case, states: Callable[[], torch.Tensor]) -> Run:
    def run() -> torch.Tensor:
        case.model.zero_grad()
        (states() ** 2).mean().backward()
        return torch.cat([p.grad.reshape(-1) for p in case.parameters if p.grad is not None])

    return run


def by_pysciml(case: Case, alg: str = "", sensealg: str = "", engine: str = "auto", **settings: Any) -> Run:
    import pysciml as ps

    prob = ps.ODEProblem(case.model, case.u0, (0.0, float(case.times[-1])))
    options: dict[str, Any] = {"engine": engine, "reltol": TOL, "abstol": TOL, "saveat": case.times}
    if sensealg:
        options["sensealg"] = getattr(ps, sensealg)(**settings)
    chosen = getattr(ps, alg)() if alg else None
    return in_torch(case, lambda: ps.solve(prob, chosen, **options).u)


def by_torchdiffeq(case: Case, name: str, tol: float = TOL, method: str = "dopri5") -> Run:
    import torchdiffeq

    solve = getattr(torchdiffeq, name)
    return in_torch(case, lambda: solve(case.model, case.u0, case.times, rtol=tol, atol=tol, method=method))


def by_diffrax_tsit5(case: Case) -> Run:
    found = by_diffrax.gradient(case.model.in_jax, "Tsit5", case.parameters, case.u0, case.times)
    return functools.partial(found, TOL)


def by_diffrax_long(case: Case) -> Run:
    """For spans of more steps than `by_diffrax.gradient` allows; compiled before it is called."""
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    times, u0 = jnp.asarray(case.times.numpy()), jnp.asarray(case.u0.numpy())
    p = [jnp.asarray(x.detach().numpy()) for x in case.parameters]

    def loss(p):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(case.model.in_jax), diffrax.Tsit5(), 0.0, times[-1], None, u0, p,
            saveat=diffrax.SaveAt(ts=times), max_steps=2**15, adjoint=diffrax.RecursiveCheckpointAdjoint(),
            stepsize_controller=diffrax.PIDController(rtol=TOL, atol=TOL),
        )  # fmt: skip
        return jnp.mean(solution.ys**2)

    compiled = jax.jit(jax.grad(loss)).lower(p).compile()
    return lambda: torch.tensor(float(jax.block_until_ready(compiled(p))[0].sum()))


JULIA = functools.partial(by_pysciml, alg="Tsit5", engine="julia")
CONTESTANTS: dict[str, Callable[[Case], Run]] = {
    "pysciml Tsit5, GaussAdjoint": functools.partial(JULIA, sensealg="GaussAdjoint"),
    "pysciml Tsit5, CollocationAdjoint": functools.partial(JULIA, sensealg="CollocationAdjoint"),
    "pysciml Tsit5, DirectAdjoint": functools.partial(JULIA, sensealg="DirectAdjoint"),
    "pysciml as it chooses": by_pysciml,
    "pysciml CVODE_Adams, embedded": functools.partial(by_pysciml, alg="CVODE_Adams", engine="embedded"),
    "diffrax Tsit5, jit": by_diffrax_tsit5,
    "torchdiffeq dopri5, direct": functools.partial(by_torchdiffeq, name="odeint"),
    "torchdiffeq dopri5, adjoint": functools.partial(by_torchdiffeq, name="odeint_adjoint"),
}
MEMORY: dict[str, Callable[[Case], Run]] = {
    "pysciml Tsit5, GaussAdjoint": CONTESTANTS["pysciml Tsit5, GaussAdjoint"],
    "pysciml Tsit5, CollocationAdjoint": CONTESTANTS["pysciml Tsit5, CollocationAdjoint"],
    "pysciml Tsit5, DirectAdjoint": CONTESTANTS["pysciml Tsit5, DirectAdjoint"],
    "pysciml Tsit5, InterpolatingAdjoint(checkpoints=100)":
        functools.partial(JULIA, sensealg="InterpolatingAdjoint", checkpoints=100),
    "pysciml Tsit5, BacksolveAdjoint": functools.partial(JULIA, sensealg="BacksolveAdjoint"),
    "pysciml CVODE_Adams, embedded": CONTESTANTS["pysciml CVODE_Adams, embedded"],
    "pysciml CVODE_Adams, embedded, InterpolatingAdjoint(checkpoints=100)": functools.partial(
        by_pysciml, alg="CVODE_Adams", engine="embedded", sensealg="InterpolatingAdjoint", checkpoints=100),
    "diffrax Tsit5, RecursiveCheckpointAdjoint": by_diffrax_long,
    "torchdiffeq dopri5, direct": CONTESTANTS["torchdiffeq dopri5, direct"],
    "torchdiffeq dopri5, adjoint": CONTESTANTS["torchdiffeq dopri5, adjoint"],
}  # fmt: skip


def present(names: Sequence[str]) -> list[str]:
    julia = engine_name("auto") == "julia"
    return [name for name in names
            if (julia or "Tsit5" not in name or "pysciml" not in name)
            and (by_diffrax.HERE or not name.startswith("diffrax"))]  # fmt: skip


# Time.


def timed(panel: str) -> list[tuple[float, dict[str, Result]]]:
    found = []
    for x, make in PANELS[panel][1]:
        print(f"  {panel} {x:g}", file=sys.stderr)
        one = make()
        truth = by_torchdiffeq(one, "odeint", 1e-10, "dopri8")().clone()
        names = [name for name in present(list(CONTESTANTS)) if "Collocation" not in name or len(one.u0) <= DENSE]
        # A problem of its own for each, so that nobody's gradients are another's.
        builds = {name: functools.partial(on, make, name) for name in names}
        found.append((x, race(builds, truth=truth, rounds=ROUNDS, seconds=SECONDS)))
    return found


def on(make: Callable[[], Case], name: str) -> Run:
    return CONTESTANTS[name](make())


def tables(report: Report, panel: str, found: list[tuple[float, dict[str, Result]]]) -> None:
    report.text(f"## {PANELS[panel][0]}")
    names = list(dict.fromkeys(name for _, results in found for name in results))
    head = ["median ms (spread)", *(f"{x:,g}" for x, _ in found)]
    report.table(head, [[name, *(cell(results.get(name)) for _, results in found)] for name in names])
    for title, value in (("first call s", lambda r: r.first), ("error", lambda r: r.error)):
        report.table([title, *head[1:]], [
            [name, *(value(results[name]) if name in results else "-" for _, results in found)] for name in names
        ])  # fmt: skip


def cell(result: Result | None) -> str:
    if result is None:
        return "left out: dense"
    if result.failed:
        return result.failed
    spread = f" ({result.spread:.0%})" if len(result.times) > 2 else ""
    return f"{1e3 * result.median:.3g}{spread}"


def figure(found: dict[str, list[tuple[float, dict[str, Result]]]]) -> Any:
    from pysciml.plot.style import finish, pen, pyplot

    shape, axes = pyplot().subplots(2, 2, figsize=(11, 8.5), layout="constrained")
    for ax, (panel, points) in zip(axes.flat, found.items(), strict=True):
        for i, name in enumerate(CONTESTANTS):
            line = [(x, results[name].median) for x, results in points if name in results and results[name].times]
            if line:
                ax.loglog(*zip(*line, strict=True), marker="o", markersize=4, label=name, **pen(i))
        finish(ax, PANELS[panel][0], "seconds of a gradient", legend=False)
    handles, labels = axes.flat[-1].get_legend_handles_labels()
    every = dict(zip(labels, handles, strict=True))
    for ax in axes.flat:
        every |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    shape.legend(every.values(), every.keys(), loc="outside lower center", ncols=3, frameon=False)
    return shape


# Memory, each contestant in a process of its own.


def alone(name: str) -> None:
    """Says the most memory held since a gradient of the first span, by which all is compiled, as spans grow."""
    torch.set_num_threads(1)
    MEMORY[name](ring(64, LONG[0]))()
    say(ready=True)
    gc.collect()
    before = forget_peak()
    for span in LONG[1:]:
        run = MEMORY[name](ring(64, span))
        start = time.perf_counter()
        run()
        say(span=span, seconds=time.perf_counter() - start, held=max(peak() - before, 0))


def memory(report: Report) -> Any:
    """The table, and the figure."""
    from pysciml.plot.style import finish, pen, pyplot

    report.text("## Memory of the adjoints")
    shape, ax = pyplot().subplots(figsize=(11, 6.5), layout="constrained")
    rows: list[list[Any]] = []
    spans = LONG[1:]
    for i, name in enumerate(present(list(MEMORY))):
        print(f"  memory {name}", file=sys.stderr)
        said = apart("benchmarks.growth", name)
        lines = {line["span"]: line for line in said.lines if "span" in line}
        failed = next((span for span in spans if span not in lines), None)
        cells = [lines[x]["held"] / 2**20 if x in lines else (said.failed if x == failed else "-") for x in spans]
        rows.append([name, *cells, lines[spans[-1]]["seconds"] if spans[-1] in lines else "-"])
        points = [(x, max(lines[x]["held"] / 2**20, LEAST)) for x in spans if x in lines]
        if points:
            ax.loglog(*zip(*points, strict=True), marker="o", markersize=4, label=name, **pen(i))
    report.table(["MiB, by span", *(f"{x:g}" for x in spans), f"s at {spans[-1]:g}"], rows)
    report.text(
        f"A ring of 64 oscillators, 11 times saved; a span of {spans[-1]:g} is {steps_of(spans[-1]):,} steps. The most "
        f"that a process of its own has held beyond what it held after a gradient of a span of {LONG[0]:g}: what is "
        "kept for the way back, and the garbage that a collector has not yet found. The seconds are those of one "
        "gradient. "
        f"What is under {LEAST:g} MiB is drawn there."
    )
    finish(ax, "span (64 oscillators)", "MiB held for one gradient", legend=False)
    shape.legend(loc="outside lower center", ncols=2, frameon=False)
    return shape


def steps_of(span: float) -> int:
    """The steps of a span, as Tsit5 makes them."""
    import pysciml as ps

    one = ring(64, span)
    with torch.no_grad():
        prob = ps.ODEProblem(one.model, one.u0, (0.0, span))
        return int(ps.solve(prob, ps.Tsit5() if engine_name("auto") == "julia" else ps.CVODE_Adams(),
                            saveat=one.times, reltol=TOL, abstol=TOL).stats.naccept)  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    report = Report("growth", "How the cost of a gradient grows")
    report.text(str(__doc__).split("\n\n", 1)[1].replace("\n", " ").strip())
    found = {panel: timed(panel) for panel in PANELS}
    for panel, points in found.items():
        tables(report, panel, points)
    report.text(
        "The first call holds all that is compiled for it, of the first point Julia's start too. The error is the "
        "relative distance of the gradient to torchdiffeq's by dopri8 at 1e-10, straight through its steps. "
        f"CollocationAdjoint takes part up to {DENSE} states: it solves stages times states equations a step."
    )
    report.text(WHY)
    report.figure(figure(found), "time")
    report.figure(memory(report), "memory")
    report.save()


if __name__ == "__main__":
    main()
