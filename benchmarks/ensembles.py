"""Case (d): thousands of independent Lorenz systems, forward and with a gradient, by everyone.

Each system has its own initial state and its own rho; t in [0, 2], the end saved, float64, tolerances 1e-6. The
gradient is that of the mean square of the ends, in all initial states and in the three parameters that all share. Each
contestant has a process of its own and two threads (but where it says one); a call may take 120 s and 12 GiB. The
smallest number of systems is solved at other tolerances too: work against precision.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.apart import GIBIBYTES, SECONDS, apart, peak, say
from benchmarks.race import Result, at
from benchmarks.report import Report
from pysciml.engines.select import engine_name

SIZES = (1_000, 10_000, 100_000)
SPAN, TOL = 2.0, 1e-6
TOLERANCES = (1e-4, 1e-5, TOL, 1e-7, 1e-8)  # of the smallest number of systems
ERRORS = (1e-4, 1e-5, 1e-6, 1e-7)  # relative, of the median system, at which times are compared
PART = 200  # of the loop's trajectories are solved; all cost the same
WARM = 4.0  # seconds of warm calls, for one call at least and five at most
ONCE = 20.0  # seconds from which a first call is the only one, and counts as a warm one
D = torch.float64


class Step(NamedTuple):
    """One thing to be measured: "forward" or "gradient", of so many systems, at this tolerance."""

    what: str
    n: int
    tol: float = TOL

    @classmethod
    def of(cls, text: str) -> Step:
        what, n, tol = text.split(":")
        return cls(what, int(n), float(tol))

    def __str__(self) -> str:
        return f"{self.what}:{self.n}:{self.tol}"


Run = Callable[[], torch.Tensor]
Found = dict[Step, dict[str, Any]]  # of a contestant: "result", "peak" and "errors"
Build = Callable[[str, int, float], Run]
OURS, LOOP = "pysciml Tsit5, DirectAdjoint, 2 threads", "SciPy RK45, a loop"


class Lorenz(torch.nn.Module):
    """sigma, rho and beta are shared; p is what a system adds to rho."""

    def __init__(self) -> None:
        super().__init__()
        self.k = torch.nn.Parameter(torch.tensor([10.0, 28.0, 8 / 3], dtype=D))

    def forward(self, t: torch.Tensor, u: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """Of one (3,) state and (1,) p, or of (n, 3) and (n, 1)."""
        x, y, z = u.unbind(-1)
        a, b, c = self.k
        return torch.stack([a * (y - x), x * (b + p[..., 0] - z) - y, x * y - c * z], dim=-1)


def members(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, 3) initial states and (n, 1) additions to rho; those of fewer are the first of more."""
    noise = torch.Generator().manual_seed(0)
    draws = torch.rand(max(SIZES), 4, dtype=D, generator=noise)[:n]
    return torch.tensor([0.0, 0.0, 15.0], dtype=D) + 20 * (draws[:, :3] - 0.5), 10 * draws[:, 3:] - 5


# Contestants: each makes, of a number of systems and a tolerance, the function to be timed. One that torch
# differentiates is a function (model, u0, p, tolerance) -> ends.


def in_torch(states: Callable[..., torch.Tensor], what: str, n: int, tol: float) -> Run:
    model, (u0, p) = Lorenz(), members(n)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return states(model, u0, p, tol)

    def gradient() -> torch.Tensor:
        model.zero_grad()
        start = u0.clone().requires_grad_()
        (states(model, start, p, tol) ** 2).mean().backward()
        assert start.grad is not None
        assert model.k.grad is not None
        return torch.cat([start.grad.reshape(-1), model.k.grad])

    return forward if what == "forward" else gradient


def by_pysciml(sensealg: str) -> Callable[..., torch.Tensor]:
    import pysciml as ps

    def states(model: Lorenz, u0: torch.Tensor, p: torch.Tensor, tol: float) -> torch.Tensor:
        prob = ps.ODEProblem(model, u0[0].detach(), (0.0, SPAN), p[0])
        sol = ps.solve_ensemble(ps.EnsembleProblem(prob, u0, p), ps.Tsit5(), executor="threads", engine="julia",
                                saveat=[SPAN], reltol=tol, abstol=tol, progress="off",
                                sensealg=getattr(ps, sensealg)())  # fmt: skip
        return sol.u[:, -1]

    return states


def by_torchdiffeq(name: str) -> Callable[..., torch.Tensor]:
    """The whole batch as one system: one step size for all."""
    import torchdiffeq

    solve, ts = getattr(torchdiffeq, name), torch.tensor([0.0, SPAN], dtype=D)

    def states(model: Lorenz, u0: torch.Tensor, p: torch.Tensor, tol: float) -> torch.Tensor:
        class Batch(torch.nn.Module):  # the adjoint finds its parameters
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
                return self.model(t, u, p)

        return solve(Batch(), u0, ts, rtol=tol, atol=tol, method="dopri5")[-1]

    return states


def by_torchode() -> Callable[..., torch.Tensor]:
    import torchode

    def states(model: Lorenz, u0: torch.Tensor, p: torch.Tensor, tol: float) -> torch.Tensor:
        term = torchode.ODETerm(lambda t, u, p: model(t, u, p), with_args=True)
        method = torchode.Tsit5(term=term)
        control = torchode.IntegralController(atol=tol, rtol=tol, term=term)
        solver = torchode.AutoDiffAdjoint(method, control).to(D)
        times = torch.zeros(len(u0), dtype=D), torch.full((len(u0),), SPAN, dtype=D)
        return solver.solve(torchode.InitialValueProblem(u0, *times, times[1][:, None]), args=p).ys[:, -1]

    return states


def by_diffrax(what: str, n: int, tol: float, devices: int = 1) -> Run:
    """vmap of one solve, compiled; on more devices an equal part on each."""
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    u0, p = (jnp.asarray(x.numpy()).reshape(devices, n // devices, -1) for x in members(n))
    k = jnp.asarray(Lorenz().k.detach().numpy())

    def f(t, u, args):
        (x, y, z), ((a, b, c), p) = u, args
        return jnp.stack([a * (y - x), x * (b + p[0] - z) - y, x * y - c * z])

    def end(u0, p, k):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(f), diffrax.Tsit5(), 0.0, SPAN, None, u0, (k, p), saveat=diffrax.SaveAt(t1=True),
            stepsize_controller=diffrax.PIDController(rtol=tol, atol=tol), max_steps=512,
        ).ys[-1]  # fmt: skip

    ends = jax.vmap(end, in_axes=(0, 0, None))

    def loss(u0, p, k):
        return jnp.sum(ends(u0, p, k) ** 2) / (3 * n)

    each = ends if what == "forward" else jax.grad(loss, argnums=(0, 2))
    compiled = jax.pmap(each, in_axes=(0, 0, None)) if devices > 1 else jax.jit(jax.vmap(each, in_axes=(0, 0, None)))

    def run() -> torch.Tensor:
        found = jax.block_until_ready(compiled(u0, p, k))
        if what == "forward":
            return torch.from_numpy(np.array(found)).reshape(n, 3)
        by_u0, by_k = (torch.from_numpy(np.array(x)) for x in found)
        return torch.cat([by_u0.reshape(-1), by_k.sum(0)])

    return run


def by_scipy(what: str, n: int, tol: float) -> Run:
    """A loop over `PART` systems."""
    from scipy.integrate import solve_ivp

    if what == "gradient":
        raise NotImplementedError("SciPy has no gradients")
    a, b, c = Lorenz().k.tolist()

    def f(t, u, p):
        x, y, z = u
        return a * (y - x), x * (b + p - z) - y, x * y - c * z

    u0, p = (x.numpy() for x in members(PART))

    def run() -> torch.Tensor:
        ends = [solve_ivp(f, (0.0, SPAN), u, args=(q,), t_eval=[SPAN], rtol=tol, atol=tol).y[:, -1]
                for u, (q,) in zip(u0, p, strict=True)]  # fmt: skip
        return torch.tensor(np.array(ends))

    return run


def of(make: Callable[..., Callable[..., torch.Tensor]], *args: str) -> Build:
    return lambda what, n, tol: in_torch(make(*args), what, n, tol)


_JULIA = {"PYTHON_JULIACALL_THREADS": "2"}
_XLA = "--xla_cpu_multi_thread_eigen=true intra_op_parallelism_threads=2"
CONTESTANTS: dict[str, tuple[Build, dict[str, str]]] = {
    OURS: (of(by_pysciml, "DirectAdjoint"), _JULIA),
    "pysciml Tsit5, DirectAdjoint, 1 thread": (of(by_pysciml, "DirectAdjoint"), {"PYTHON_JULIACALL_THREADS": "1"}),
    "pysciml Tsit5, GaussAdjoint, 2 threads": (of(by_pysciml, "GaussAdjoint"), _JULIA),
    "diffrax Tsit5, vmap": (by_diffrax, {"XLA_FLAGS": _XLA}),
    "diffrax Tsit5, vmap, pmap on 2 devices": (
        functools.partial(by_diffrax, devices=2),
        {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
    ),
    "torchode Tsit5": (of(by_torchode), {}),
    "torchdiffeq dopri5, one system, direct": (of(by_torchdiffeq, "odeint"), {}),
    "torchdiffeq dopri5, one system, adjoint": (of(by_torchdiffeq, "odeint_adjoint"), {}),
    LOOP: (by_scipy, {}),
}


# In a process of its own.


def alone(name: str, folder: str, *steps: str) -> None:
    """Runs the steps, "forward:1000:1e-06", of a contestant; says each time, and leaves what came out in the folder."""
    if name == "truth":
        return truth(Path(folder))
    torch.set_num_threads(2)
    make, _ = CONTESTANTS[name]
    for step in steps:
        start = time.perf_counter()
        run = make(*Step.of(step))
        value = run()
        first = time.perf_counter() - start
        np.save(Path(folder) / file_of(step), value.numpy())
        say(step=step, first=first)
        times: list[float] = []
        if first > ONCE:
            times.append(first)
            say(step=step, time=first)
        while not times or (sum(times) < WARM and len(times) < 5 and first < ONCE):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
            say(step=step, time=times[-1])
        say(step=step, peak=peak())
    return None


def file_of(step: str) -> str:
    return f"{step.replace(':', '_')}.npy"


def truth(folder: Path) -> None:
    """Ends and their derivatives in u0 and in the parameters: the variational equations, written by hand, by Vern9.

    Saves each system's end (n, 3) and the products of its end with the derivatives, (n, 3) and (n, 3); says how far
    some of the ends are from those by SciPy's DOP853.
    """
    import pysciml as ps

    def f(t: torch.Tensor, v: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        a, b, c = 10.0, 28.0 + p[0], 8 / 3
        x, y, z = v[0], v[1], v[2]
        by_u, by_k = v[3:12].reshape(3, 3), v[12:].reshape(3, 3)

        def times_jacobian(m: torch.Tensor) -> torch.Tensor:
            return torch.stack([a * (m[1] - m[0]), (b - z) * m[0] - m[1] - x * m[2], y * m[0] + x * m[1] - c * m[2]])

        zero = torch.zeros_like(x)
        direct = torch.stack([y - x, zero, zero, zero, x, zero, zero, zero, -z]).reshape(3, 3)
        state = torch.stack([a * (y - x), x * (b - z) - y, x * y - c * z])
        return torch.cat([state, times_jacobian(by_u).reshape(-1), (times_jacobian(by_k) + direct).reshape(-1)])

    u0, p = members(max(SIZES))
    start = torch.cat([torch.eye(3, dtype=D).reshape(-1), torch.zeros(9, dtype=D)]).expand(len(u0), -1)
    v0 = torch.cat([u0, start], dim=1)
    prob = ps.ODEProblem(f, v0[0], (0.0, SPAN), p[0])
    sol = ps.solve_ensemble(ps.EnsembleProblem(prob, v0, p), ps.Vern9(), executor="threads", engine="julia",
                            saveat=[SPAN], reltol=1e-12, abstol=1e-12, progress="off")  # fmt: skip
    v = sol.u[:, -1]
    u = v[:, :3]
    derivatives = [torch.einsum("ni,nij->nj", u, v[:, i : i + 9].reshape(-1, 3, 3)) for i in (3, 12)]
    np.savez(folder / "truth.npz", ends=u.numpy(), by_u0=derivatives[0].numpy(), by_k=derivatives[1].numpy())
    say(distance=_by_dop853(u0[:20].numpy(), p[:20, 0].numpy(), u[:20].numpy()))


def _by_dop853(u0: np.ndarray, p: np.ndarray, ends: np.ndarray) -> float:
    from scipy.integrate import solve_ivp

    def f(t, u, p):
        x, y, z = u
        return 10.0 * (y - x), x * (28.0 + p - z) - y, x * y - 8 / 3 * z

    theirs = [solve_ivp(f, (0.0, SPAN), u, "DOP853", args=(q,), rtol=1e-13, atol=1e-13).y[:, -1]
              for u, q in zip(u0, p, strict=True)]  # fmt: skip
    return float(np.abs(np.array(theirs) - ends).max())


# In the process that asks.


class Errors:
    """How far each is from the truth: relative, of each system's end or of its gradient in its initial state."""

    def __init__(self, folder: Path) -> None:
        self.truth = np.load(folder / "truth.npz")

    def __call__(self, value: np.ndarray, what: str) -> tuple[float, float, float]:
        """Median and worst over the systems, and of a gradient the error in the three parameters."""
        shared = float("nan")
        if what == "forward":
            n = len(value)
            found, right = value, self.truth["ends"][:n]
        else:
            n = (len(value) - 3) // 3
            found, right = value[:-3].reshape(n, 3), self.truth["by_u0"][:n] * (2 / (3 * n))
            by_k = self.truth["by_k"][:n].sum(axis=0) * (2 / (3 * n))
            shared = float(np.linalg.norm(value[-3:] - by_k) / np.linalg.norm(by_k))
        each = np.linalg.norm(found - right, axis=1) / np.linalg.norm(right, axis=1)
        return float(np.median(each)), float(each.max()), shared


def measured(name: str, folder: Path, steps: list[Step]) -> Found:
    """Of each step its Result and the most memory so far. A step that hits a limit ends the process; the next has
    another.
    """
    found: Found = {step: {"result": Result(), "peak": float("nan")} for step in steps}
    left = list(steps)
    while left:
        said = apart("benchmarks.ensembles", name, str(folder), *map(str, left), env=CONTESTANTS[name][1])
        done = []
        for line in said.lines:
            step = Step.of(line["step"])
            result = found[step]["result"]
            result.first = line.get("first", result.first)
            result.times += [line["time"]] if "time" in line else []
            if "peak" in line:
                found[step]["peak"] = line["peak"]
                done.append(step)
        left = left[len(done) :]
        if left:
            failed, *left = left
            result = found[failed]["result"]
            if not result.times:
                result.failed = said.failed
            if said.failed == f"over {SECONDS:g} s" and not result.times:
                for step in [x for x in left if x.what == failed.what and x.n >= failed.n]:
                    found[step]["result"].failed = f"not tried: {said.failed} at {failed.n:,}"
                    left.remove(step)
    return found


def contestants() -> list[str]:
    from benchmarks import by_diffrax

    julia = engine_name("auto") == "julia"
    left_out = {"pysciml": not julia, "diffrax": not by_diffrax.HERE, "torchode": find_spec("torchode") is None}
    return [name for name in CONTESTANTS if not left_out.get(name.split()[0], False)]


def main() -> None:
    report = Report("ensembles", "Thousands of Lorenz systems")
    report.text(str(__doc__).split("\n\n", 1)[1].replace("\n", " ").strip())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        said = apart("benchmarks.ensembles", "truth", place, env=_JULIA, seconds=600)
        if said.failed:
            sys.exit(f"no truth to measure errors by: {said.failed}")
        errors = Errors(folder)
        found = {name: of_one(name, folder, errors) for name in contestants()}
    for what in ("forward", "gradient"):
        report.text(f"## {'Forward' if what == 'forward' else 'Forward and gradient'}")
        table(report, found, what)
    precision(report, found)
    notes(report, said.lines[0]["distance"])
    report.figure(figure(found), "time")
    report.save()


def notes(report: Report, distance: float) -> None:
    report.text(
        "The errors are relative, of each system's end, or of the gradient in its initial state: the median and the "
        "worst of them; 'shared' is that of the gradient in the three parameters. They are measured against the "
        "variational equations, written by hand and solved by Vern9 at 1e-12 (whose ends are within "
        f"{distance:.0e} of those by SciPy's DOP853 at 1e-13, on 20 systems). 'first' is the first call of that size "
        f"with all that is compiled for it, and at {SIZES[0]:,} forward the start of Julia or of XLA too; 'memory' is "
        "the most that the process has held so far, its libraries included: the contestant's forward calls come first, "
        f"small ones before large ones. Where the first call took {ONCE:g} s it is the only one; where one took too "
        f"long, larger ones are not tried. SciPy's loop is measured on {PART} systems and scaled up. A call may take "
        f"{SECONDS:g} s and {GIBIBYTES:g} GiB. torch and XLA may use two threads. torchdiffeq takes one step size for "
        "all systems, by the norm of them all; torchode and diffrax have one for each. torchode is not "
        "compiled: TorchScript of torch 2.13, its own way to that, refuses it. diffrax's max_steps is 512."
    )


def of_one(name: str, folder: Path, errors: Errors) -> Found:
    """The steps of a contestant, their errors included; the loop's are scaled up."""
    print(f"  {name}", file=sys.stderr)
    loop = name == LOOP
    whats = ("forward",) if loop else ("forward", "gradient")
    steps = [Step(what, n) for what in whats for n in (SIZES[:1] if loop else SIZES)]
    steps += [Step(what, SIZES[0], tol) for what in whats for tol in TOLERANCES if tol != TOL]
    found = measured(name, folder, steps)
    for step, facts in found.items():
        path = folder / file_of(str(step))
        facts["errors"] = (float("nan"),) * 3
        if path.exists():
            facts["errors"] = errors(np.load(path), step.what)
            path.unlink()
    return scaled(found) if loop else found


def scaled(found: Found) -> Found:
    """What `PART` systems took, for as many as the others solve."""
    more = {Step("forward", n): found[Step("forward", SIZES[0])] for n in SIZES}
    return {
        step: {**facts, "result": Result(first=facts["result"].first * step.n / PART,
                                         times=[t * step.n / PART for t in facts["result"].times])}
        for step, facts in {**found, **more}.items()
    }  # fmt: skip


def table(report: Report, found: dict[str, Found], what: str) -> None:
    shared = ["shared"] if what == "gradient" else []
    columns = ["median s", "best s", "spread", "first s", "us each", "over ours", "error, median", "worst", *shared,
               "memory GiB"]  # fmt: skip
    for n in SIZES:
        step, rows = Step(what, n), []
        ours = found.get(OURS, {}).get(step, {"result": Result()})["result"].median
        for name, steps in found.items():
            if step in steps:
                rows.append([name, *numbers(steps[step], n, ours, bool(shared))])
            else:
                rows.append([name, "has no gradients", *["-"] * (len(columns) - 1)])
        report.table([f"{n:,} systems", *columns], rows)


def numbers(facts: dict[str, Any], n: int, ours: float, gradient: bool) -> list[Any]:
    result, (middle, worst, shared) = facts["result"], facts["errors"]
    return [result.failed or result.median, result.best, result.spread, result.first, 1e6 * result.median / n,
            result.median / ours, middle, worst, *([shared] if gradient else []), facts["peak"] / 2**30]  # fmt: skip


def curve(steps: Found, what: str) -> list[tuple[float, float]]:
    """(error of the median system, seconds) of the smallest number of systems, at each tolerance that was met."""
    there = [steps[step] for step in (Step(what, SIZES[0], tol) for tol in TOLERANCES) if step in steps]
    return [(facts["errors"][0], facts["result"].median) for facts in there if facts["result"].times]


def precision(report: Report, found: dict[str, Found]) -> None:
    """Times at equal errors, of the smallest number of systems."""
    report.text(f"## Work and precision, {SIZES[0]:,} systems\n\nTimes at equal errors of the median system, between "
                f"tolerances of {TOLERANCES[0]:g} to {TOLERANCES[-1]:g}.")  # fmt: skip
    for what in ("forward", "gradient"):
        curves = {name: curve(steps, what) for name, steps in found.items()}
        rows = [(name, *(1e3 * at(points, e) for e in ERRORS), *(at(points, e) / at(curves[OURS], e) for e in ERRORS))
                for name, points in curves.items() if points and OURS in curves]  # fmt: skip
        report.table((f"ms, {what}", *(f"{e:.0e}" for e in ERRORS), *(f"over ours, {e:.0e}" for e in ERRORS)), rows)


def figure(found: dict[str, Found]) -> Any:
    """Seconds over the number of systems, and below them over the error."""
    from pysciml.plot.style import finish, pen, pyplot

    shape, axes = pyplot().subplots(2, 2, figsize=(12, 9), layout="constrained", sharey="row")
    for what, (over_n, over_error) in zip(("forward", "gradient"), axes.T, strict=True):
        for i, (name, steps) in enumerate(found.items()):
            results = {n: steps[Step(what, n)]["result"] for n in SIZES if Step(what, n) in steps}
            points = [(n, result.median) for n, result in results.items() if result.times]
            label = name + (f" (measured on {PART})" if name == LOOP else "")
            for ax, line in ((over_n, points), (over_error, curve(steps, what))):
                if line:
                    ax.loglog(*zip(*line, strict=True), "o", label=label, markersize=5, **pen(i))
        left = what == "forward"
        title = "forward" if left else "forward and gradient"
        finish(over_n, "Lorenz systems", "seconds" if left else "", legend=False).set_title(title)
        finish(over_error, "relative error of the median system",
               f"seconds, {SIZES[0]:,} systems" if left else "", legend=False)  # fmt: skip
    handles, labels = axes[0, 0].get_legend_handles_labels()
    shape.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return shape


if __name__ == "__main__":
    main()
