"""Stiff problems and their gradients, work against precision: pysciml, diffrax, and the same written by hand in Julia.

The gradient is that of the mean square of all saved states, each over its own size (the largest it gets), in every rate
constant; its error is the relative distance to a reference of dL/d(ln p), so that a constant of 3e7 counts as much as
one of 0.04. Everyone has a relative tolerance and an absolute one, of a hundredth of it times the size of each state;
float64, one thread, warm, in rounds that are interleaved. What is written by hand in Julia has Julia's own clock, from
when its arrays are there until it has the gradient; and, once more, Python's, from a call with numpy's arrays to a
gradient in torch, as all others have.
"""

from __future__ import annotations

import functools
import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

import pysciml as ps
from benchmarks import by_diffrax
from benchmarks.race import Result, Run, at
from benchmarks.report import Report, shown
from benchmarks.stiff_by_hand import ByHand, load
from benchmarks.stiff_problems import PROBLEMS, StiffProblem
from pysciml.engines.select import engine_name

HAVE_JULIA = engine_name("auto") == "julia"
TIGHT = 1e-11  # of the reference
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
ERRORS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
SMALL = 1e-2  # of the relative tolerance and a state's size, for absolute tolerances
ROUNDS, SECONDS = 3, 0.08  # of each contestant at each tolerance, for one call at least
ENOUGH = 1.5  # seconds after which there are no more rounds
SLOW = 4.0  # seconds of a gradient after which there are no tighter tolerances
TOO_LONG = f"over {SLOW:g} s"

GAUSS, COLLOCATION = "pysciml Rodas5P, GaussAdjoint", "pysciml Rodas5P, CollocationAdjoint"
FBDF, CVODE = "pysciml FBDF, CollocationAdjoint", "pysciml CVODE_BDF, embedded"
KVAERNO = "diffrax Kvaerno5, jit"
FORWARD, ADJOINT = "by hand Rodas5P, ForwardDiff", "by hand Rodas5P, GaussAdjoint"
CALLED = "by hand Rodas5P, ForwardDiff, called from Python"
OURS, HAND = (GAUSS, COLLOCATION, FBDF, CVODE), (FORWARD, ADJOINT)

Builder = Callable[[float], Run]  # of a tolerance: what is timed, which gives dL/dp
Found = dict[str, dict[float, Result]]

NOT_MEASURED = (
    "By hand: ForwardDiff is its gradient through the solve, GaussAdjoint that of SciMLSensitivity with "
    "ReverseDiffVJP(true); for Allen-Cahn with a sparse Jacobian, which ForwardDiff fills by its colours. "
    "EnzymeVJP, which SciMLSensitivity takes where it can, is left out: Enzyme did not run where this was measured."
)


# Who takes part.


@functools.cache
def in_torch(problem: StiffProblem) -> Callable[..., torch.Tensor]:
    """f(t, u, p), one and the same for all solves, so that it is traced and compiled once."""
    return lambda t, u, p: problem.f(torch, t, u, p)


def by_pysciml(
    problem: StiffProblem, size: torch.Tensor, alg: Any, sensealg: Any, engine: str, tol: float
) -> Run:  # fmt: skip
    p = torch.tensor(problem.p, requires_grad=True)
    ts = torch.tensor(problem.times)
    prob = ps.ODEProblem(in_torch(problem), torch.tensor(problem.u0), (0.0, float(ts[-1])), p)
    settings = {"saveat": ts, "reltol": tol, "abstol": tol * SMALL * size, "sensealg": sensealg, "engine": engine}

    def run() -> torch.Tensor:
        loss = ((ps.solve(prob, alg, **settings).u / size) ** 2).mean()
        return torch.autograd.grad(loss, p)[0]

    return run


def by_kvaerno5(problem: StiffProblem, size: torch.Tensor) -> Builder:
    """Compiled by its first call, for all tolerances."""

    @functools.cache
    def compiled() -> Callable[[float], torch.Tensor]:
        import jax.numpy as jnp

        return by_diffrax.gradient(
            lambda t, u, p: problem.f(jnp, t, u, p[0]), "Kvaerno5", [torch.tensor(problem.p)],
            torch.tensor(problem.u0), torch.tensor(problem.times), 1 / size, SMALL * size, 2**15,
        )  # fmt: skip

    return lambda tol: lambda: compiled()(tol)


def by_hand(problem: StiffProblem, size: torch.Tensor, way: str) -> Builder:
    return lambda tol: ByHand(way, problem, 1 / size.numpy(), SMALL * size.numpy(), tol)


def contestants(problem: StiffProblem, size: torch.Tensor) -> dict[str, Builder]:
    mine = functools.partial(functools.partial, by_pysciml, problem, size)
    found: dict[str, Builder] = {}
    if HAVE_JULIA:
        found[GAUSS] = mine(ps.Rodas5P(), ps.GaussAdjoint(), "julia")
        found[COLLOCATION] = mine(ps.Rodas5P(), ps.CollocationAdjoint(), "julia")
        found[FBDF] = mine(ps.FBDF(), ps.CollocationAdjoint(), "julia")
    found[CVODE] = mine(ps.CVODE_BDF(), None, "embedded")
    if by_diffrax.HERE:
        found[KVAERNO] = by_kvaerno5(problem, size)
    if HAVE_JULIA:
        found[FORWARD], found[ADJOINT] = by_hand(problem, size, "by_forward"), by_hand(problem, size, "by_adjoint")
        found[CALLED] = lambda tol: found[FORWARD](tol).__call__  # of Python's clock
    return found


# What is true.


def sizes(problem: StiffProblem) -> torch.Tensor:
    """(n,): the largest of each state at the saved times. What it compiles is for it alone: first calls are first."""
    ts, p = torch.tensor(problem.times), torch.tensor(problem.p)
    f = lambda t, u, p: problem.f(torch, t, u, p)  # noqa: E731 - not that of the race, which would find it traced
    prob = ps.ODEProblem(f, torch.tensor(problem.u0), (0.0, float(ts[-1])), p)
    return ps.solve(prob, ps.CVODE_BDF(), saveat=ts, reltol=1e-6, abstol=1e-20, engine="embedded").u.abs().amax(0)


def reference(problem: StiffProblem, size: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    """The gradient at a tolerance far below all others, and by name how far others of such a tolerance are from it."""
    cvode = functools.partial(by_pysciml, problem, size, ps.CVODE_BDF(), None, "embedded")
    if not HAVE_JULIA:
        return cvode(TIGHT)(), {}
    checks: dict[str, Run] = {CVODE: cvode(1e-10), FORWARD: by_hand(problem, size, "by_forward")(1e-10)}
    truth = by_pysciml(problem, size, ps.Rodas5P(), ps.CollocationAdjoint(), "julia", TIGHT)()
    return truth, {name: checked(run, truth, problem) for name, run in checks.items()}


def checked(run: Run, truth: torch.Tensor, problem: StiffProblem) -> float:
    try:
        return distance(run(), truth, problem)
    except Exception:
        return math.nan


def distance(gradient: torch.Tensor, truth: torch.Tensor, problem: StiffProblem) -> float:
    """Of two gradients in ln p, over the second."""
    p = torch.tensor(problem.p)
    return float(((gradient - truth) * p).norm() / (truth * p).norm())


# The race.


@dataclass
class Entry:
    """A contestant at one tolerance."""

    result: Result
    run: Run | None = None
    gradient: torch.Tensor | None = None


def race(builders: dict[str, Builder]) -> dict[str, dict[float, Entry]]:
    """Everyone at all tolerances once, in order, then in rounds that are interleaved."""
    entries = {name: dict(line_up(builder)) for name, builder in builders.items()}
    for _ in range(ROUNDS):
        gc.collect()
        for entry in (entry for row in entries.values() for entry in row.values()):
            if entry.run is not None and sum(entry.result.times) < ENOUGH:
                entry.result.times += several(entry.run)
    return entries


def line_up(builder: Builder) -> Iterator[tuple[float, Entry]]:
    """The first calls of a contestant: the loosest tolerance has what is compiled, which the others find done."""
    slow = False
    for tol in TOLERANCES:
        if slow:
            yield tol, Entry(Result(failed=TOO_LONG))
            continue
        entry = begun(builder(tol))
        if entry.run is not None:
            entry.result.times.append(elapsed(entry.run) if tol == TOLERANCES[0] else entry.result.first)
            slow = entry.result.times[0] > SLOW
        yield tol, entry


def begun(run: Run) -> Entry:
    """A first call, which may fail: then that is told of."""
    result, gradient = Result(), None
    start = time.perf_counter()
    try:
        gradient = run().double()
    except Exception as error:
        result.failed = f"{type(error).__name__}: {why(error)}"
    result.first = time.perf_counter() - start
    if gradient is not None and not gradient.isfinite().all():
        result.failed = "the gradient is not finite"
    return Entry(result, None if result.failed else run, gradient)


def why(error: Exception) -> str:
    """What an error says in a line: its last that names one, where it tells of another's with all that called it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line.split(" ")[0] + " "]
    return (named or lines or [""])[-1 if named else 0]


def several(run: Run) -> list[float]:
    """Seconds of each call that fits in; the first of many finds caches that another has filled, and is left out."""
    times: list[float] = []
    end = time.perf_counter() + SECONDS
    while not times or time.perf_counter() < end:
        times.append(elapsed(run))
    return times[len(times) // 10 + 1 :] if len(times) > 3 else times


def elapsed(run: Run) -> float:
    """Seconds of a call, by the clock of the language that makes it."""
    start = time.perf_counter()
    run()
    return run.seconds if isinstance(run, ByHand) else time.perf_counter() - start


# What is told of it.


def curve(results: dict[float, Result]) -> list[tuple[float, float]]:
    return [(r.error, r.median) for r in results.values() if not r.failed]


def least(found: Found, names: Iterable[str], error: float) -> float:
    """The least time of these at which an error is reached; NaN where none reaches it."""
    times = [at(curve(found[name]), error) for name in names if name in found]
    return min((x for x in times if not math.isnan(x)), default=math.nan)


def ratios(found: Found) -> dict[str, list[float]]:
    """By what over what, at each of `ERRORS`."""
    pairs = {
        "diffrax over pysciml, best": ((KVAERNO,), OURS),
        "diffrax over pysciml, default": ((KVAERNO,), (GAUSS,)),
        "pysciml, best, over by hand, best": (OURS, HAND),
        "pysciml, best, over by hand, called from Python": (OURS, (CALLED,)),
        "pysciml, best, over by hand, GaussAdjoint": (OURS, (ADJOINT,)),
        "pysciml, default, over by hand, GaussAdjoint": ((GAUSS,), (ADJOINT,)),
    }
    return {name: [least(found, x, e) / least(found, y, e) for e in ERRORS] for name, (x, y) in pairs.items()}


def tell(report: Report, found: Found) -> None:
    """The two tables of a problem, and what failed."""
    rows = [(name, results[TOLERANCES[0]].first, *map(cell, results.values())) for name, results in found.items()]
    report.table(("ms ± spread, error, at reltol", "first call, s", *(f"{tol:.0e}" for tol in TOLERANCES)), rows)
    failures = [f"- {name} at {tol:.0e}: {r.failed:.200}" for name, results in found.items()
                for tol, r in results.items() if r.failed and r.failed != TOO_LONG]  # fmt: skip
    if failures:
        report.text("\n".join(["What failed:\n", *failures]))
    report.table(("ms at equal errors", *(f"{e:.0e}" for e in ERRORS)),
                 [(name, *(1e3 * at(curve(r), e) for e in ERRORS)) for name, r in found.items()]
                 + [(name, *values) for name, values in ratios(found).items()])  # fmt: skip


def cell(result: Result) -> str:
    if result.failed:
        return TOO_LONG if result.failed == TOO_LONG else "fails"
    spread = "" if math.isnan(result.spread) else f" ±{result.spread:.0%}"
    return f"{shown(1e3 * result.median)}{spread}, {result.error:.0e}"


def summary(report: Report, everything: dict[str, Found]) -> None:
    """What the targets are about: each ratio at its best and its worst over the errors that both reach."""
    report.text(
        "## Ratios of times at equal errors of 1e-3 to 1e-7, least to most\n\nThe targets: diffrax takes at least "
        "10 times as long on ROBER and HIRES, and pysciml at most 1.3 times as long as what is written by hand."
    )
    rows = {problem: ratios(found) for problem, found in everything.items()}
    names = list(next(iter(rows.values())))
    report.table(("", *names), [(problem, *(span(row[name]) for name in names)) for problem, row in rows.items()])


def span(values: list[float]) -> str:
    there = [x for x in values if not math.isnan(x)]
    return f"{shown(min(there))} .. {shown(max(there))}" if there else "-"


STYLES = {
    GAUSS: ("#1f77b4", "o", "-"), COLLOCATION: ("#08306b", "s", "-"), FBDF: ("#17becf", "^", "-"),
    CVODE: ("#2ca02c", "v", "-"), KVAERNO: ("#d62728", "D", "-"), FORWARD: ("#000000", "x", "--"),
    ADJOINT: ("#7f7f7f", "+", "--"), CALLED: ("#000000", "x", ":"),
}  # fmt: skip


def draw(everything: dict[str, Found]) -> Any:
    """Work against precision, a panel for each problem."""
    import matplotlib.pyplot as plt

    columns = min(3, len(everything))
    rows = -(-len(everything) // columns)
    size = (max(4 * columns, 8), 3.6 * rows + 0.8)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axis, (title, found) in zip(axes.flat, everything.items(), strict=False):
        for name, results in found.items():
            points = curve(results)
            color, marker, line = STYLES[name]
            axis.loglog([e for e, _ in points], [1e3 * t for _, t in points], color=color, marker=marker,
                        linestyle=line, markersize=4.5, linewidth=1.3, label=name)  # fmt: skip
        axis.set_title(title, fontsize=11)
        axis.grid(color="0.9", linewidth=0.6)
        axis.set_axisbelow(True)
    for axis in axes.flat[len(everything) :]:
        axis.remove()
    for axis in axes[-1]:
        axis.set_xlabel("relative error of the gradient")
    for row in axes:
        row[0].set_ylabel("ms a gradient")
    handles = {name: handle for axis in figure.axes
               for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}  # fmt: skip
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(4, columns + 1),
        fontsize=9,
        frameon=False,
    )
    return figure


def measured(report: Report, problem: StiffProblem) -> Found:
    report.text(f"## {problem.name}")
    size = sizes(problem)
    entries = race(contestants(problem, size))
    truth, checks = reference(problem, size)
    for entry in (entry for row in entries.values() for entry in row.values()):
        if entry.run is not None and entry.gradient is not None:
            entry.result.error = distance(entry.gradient, truth, problem)
    found = {name: {tol: entry.result for tol, entry in row.items()} for name, row in entries.items()}
    report.text("Reference: " + (f"{COLLOCATION}" if HAVE_JULIA else CVODE) + f" at {TIGHT:g}. "
                + "".join(f"{name} at 1e-10 is {x:.0e} from it. " for name, x in checks.items()))  # fmt: skip
    tell(report, found)
    return found


def main(*names: str) -> None:
    """All problems, or those whose names begin so."""
    torch.set_num_threads(1)
    report = Report("stiff", "Stiff problems: work against precision of gradients")
    report.text(" ".join((__doc__ or "").split()))
    report.text(by_diffrax.version() if by_diffrax.HERE else by_diffrax.LEFT_OUT)
    if HAVE_JULIA:
        load()
        report.text(NOT_MEASURED)
    chosen = [problem for problem in PROBLEMS if problem.name.startswith(names or "")]
    everything = {problem.name: measured(report, problem) for problem in chosen}
    summary(report, everything)
    report.figure(draw(everything), "work_precision")
    report.save()


if __name__ == "__main__":
    main()
