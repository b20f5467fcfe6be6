"""Case (i): a whole training run of a universal differential equation to the same loss, by the clock.

The model: Lotka-Volterra with its four rates to be learned, and a 2-32-32-2 tanh network for what they cannot explain:
the predators of the true equations are sated. float64, t in [0, 4], data at 41 times with 1 % of noise, tolerances
1e-6. Everyone has the same initial weights and Adam of the same rate, and stops when the mean square error is below the
same threshold. A run is all from making the problem to the end. Each contestant has a process of its own and one
thread, and trains in it cold, counted from the start of `python`, and then warm, anew with what is compiled.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import by_diffrax
from benchmarks.apart import apart, say
from benchmarks.lotka_volterra_ude import TOL, U0, UDE, in_jax
from benchmarks.report import Report
from pysciml.engines.select import engine_name

TIMES = torch.linspace(0.0, 4.0, 41, dtype=torch.float64)
TRUE, SATED = (1.3, 0.9, 0.8, 1.8), 0.1
RATE, THRESHOLD = 0.003, 1e-3
MOST, CAP = 2000, 150.0  # epochs, and seconds of a run
WARM_RUNS, ENOUGH = 3, 30.0  # warm runs; no other is begun after so many seconds of them

READY = "ready"

# What a run tells after each epoch: the loss at the weights before its step. True ends it.
Tell = Callable[[float], bool]


def model() -> UDE:
    """Its rates are some way from the true ones."""
    torch.manual_seed(0)
    net = UDE()
    with torch.no_grad():
        net.rates.copy_(torch.tensor([1.1, 0.8, 0.9, 1.6]))
    return net


@functools.cache
def data() -> torch.Tensor:
    from scipy.integrate import solve_ivp

    a, b, c, d = TRUE

    def f(t, u):
        x, y = u
        eaten = x * y / (1 + SATED * x)
        return a * x - b * eaten, c * eaten - d * y

    times = TIMES.numpy()
    found = solve_ivp(f, (0.0, times[-1]), U0.numpy(), "DOP853", t_eval=times, rtol=1e-10, atol=1e-10).y.T
    return torch.tensor(found * (1 + 0.01 * np.random.default_rng(0).standard_normal(found.shape)))


# Contestants: each trains once, from making its problem on.


def by_torchs_adam(states: Callable[[UDE], torch.Tensor], net: UDE, tell: Tell) -> None:
    observed, adam = data(), torch.optim.Adam(net.parameters(), lr=RATE)
    for _ in range(MOST):
        adam.zero_grad()
        loss = ((states(net) - observed) ** 2).mean()
        if tell(loss.item()):
            return
        loss.backward()
        adam.step()


def by_pysciml(engine: str, algorithm: str, tell: Tell, sensealg: str = "GaussAdjoint") -> None:
    import pysciml as ps

    net = model()
    prob, alg = ps.ODEProblem(net, U0, (0.0, float(TIMES[-1]))), getattr(ps, algorithm)()
    options: dict[str, Any] = {"reltol": TOL, "abstol": TOL, "engine": engine, "sensealg": getattr(ps, sensealg)()}
    by_torchs_adam(lambda net: ps.solve(prob, alg, saveat=TIMES, **options).u, net, tell)


def by_fit(tell: Tell) -> None:
    """The stages and the solver that `fit` takes by itself, at these tolerances."""
    import pysciml as ps

    prob = ps.ODEProblem(model(), U0, (0.0, float(TIMES[-1])))
    ps.fit(prob, data(), TIMES, reltol=TOL, abstol=TOL, callback=lambda history: tell(history.loss[-1]), progress="off")


def by_torchdiffeq(name: str, tell: Tell) -> None:
    import torchdiffeq

    solve = getattr(torchdiffeq, name)
    by_torchs_adam(lambda net: solve(net, U0, TIMES, rtol=TOL, atol=TOL, method="dopri5"), model(), tell)


@functools.cache
def step_of_diffrax() -> Callable[..., Any]:
    """The loss, its gradient and a step of Adam, compiled as one."""
    import diffrax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    times, u0, observed = (jnp.asarray(x.numpy()) for x in (TIMES, U0, data()))

    def loss_of(p):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(in_jax), diffrax.Tsit5(), 0.0, times[-1], None, u0, p, saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=diffrax.PIDController(rtol=TOL, atol=TOL), max_steps=4096,
        )  # fmt: skip
        return jnp.mean((solution.ys - observed) ** 2)

    @jax.jit
    def step(p, m, v, count):
        loss, g = jax.value_and_grad(loss_of)(p)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, v, g)
        scale = RATE / (1 - 0.9**count)
        p = jax.tree.map(lambda p, m, v: p - scale * m / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8), p, m, v)
        return loss, p, m, v

    return step


def by_diffrax_and_adam(tell: Tell) -> None:
    step = step_of_diffrax()
    import jax
    import jax.numpy as jnp

    p = [jnp.asarray(x.detach().numpy()) for x in model().parameters()]
    m = v = jax.tree.map(jnp.zeros_like, p)
    for count in range(1, MOST + 1):
        loss, p, m, v = step(p, m, v, float(count))
        if tell(float(loss)):
            return


CONTESTANTS: dict[str, Callable[[Tell], None]] = {
    "pysciml Tsit5, julia": functools.partial(by_pysciml, "julia", "Tsit5"),
    "pysciml Tsit5, DirectAdjoint": functools.partial(by_pysciml, "julia", "Tsit5", sensealg="DirectAdjoint"),
    "pysciml CVODE_Adams, embedded": functools.partial(by_pysciml, "embedded", "CVODE_Adams"),
    "pysciml fit, its own stages": by_fit,
    "diffrax Tsit5, jit": by_diffrax_and_adam,
    "torchdiffeq dopri5, direct": functools.partial(by_torchdiffeq, "odeint"),
    "torchdiffeq dopri5, adjoint": functools.partial(by_torchdiffeq, "odeint_adjoint"),
}


# In a process of its own.


def alone(name: str, folder: str, started: str) -> None:
    """Trains cold, then warm; leaves seconds since the start and losses, epoch by epoch, in the folder."""
    torch.set_num_threads(1)
    if name == READY:
        return ready()
    train(name, float(started), Path(folder) / "cold.npy")
    begun = time.time()
    for i in range(WARM_RUNS):
        train(name, time.time(), Path(folder) / f"warm_{i}.npy")
        if time.time() - begun > ENOUGH:
            break
    return None


def ready() -> None:
    """Everyone's first two epochs: files are then in memory and Julia's packages compiled, as on any other day."""
    for name in contestants():
        losses: list[float] = []

        def tell(loss: float, losses: list[float] = losses) -> bool:
            losses.append(loss)
            return len(losses) > 1

        CONTESTANTS[name](tell)


def train(name: str, start: float, path: Path) -> None:
    begun = time.time()
    clock: list[float] = []
    losses: list[float] = []

    def tell(loss: float) -> bool:
        clock.append(time.time() - start)
        losses.append(loss)
        return loss < THRESHOLD or time.time() - begun > CAP

    CONTESTANTS[name](tell)
    np.save(path, [clock, losses])  # too long for a line
    say(done=path.name, seconds=clock[-1], epochs=len(clock), first=losses[0], last=losses[-1])


# In the process that asks.


@dataclass
class Curve:
    """One run: seconds and losses, epoch by epoch."""

    clock: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def reached(self) -> bool:
        return self.losses[-1] < THRESHOLD

    @property
    def per_epoch(self) -> float:
        """Seconds, of the second half, where nothing is compiled any more."""
        middle, last = len(self.clock) // 2, len(self.clock) - 1
        return (self.clock[last] - self.clock[middle]) / max(last - middle, 1)

    def seconds(self, epochs: int) -> float:
        """To the threshold; where a run was ended before, as if it went on like this for as many epochs as others."""
        return self.clock[-1] + (0.0 if self.reached else max(epochs - len(self.clock), 0) * self.per_epoch)


@dataclass
class Trained:
    """The runs of a contestant, and why it did not come to their end, or nothing."""

    cold: Curve | None = None
    warm: list[Curve] = field(default_factory=list)
    failed: str = ""


def contestants() -> list[str]:
    julia = engine_name("auto") == "julia"
    return [
        name for name in CONTESTANTS if (julia or "julia" not in name) and (by_diffrax.HERE or "diffrax" not in name)
    ]


def trained(name: str) -> Trained:
    print(f"  {name}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        said = apart("benchmarks.training", name, folder, repr(time.time()), seconds=2 * CAP)
        curves = [Curve(*np.load(Path(folder) / line["done"]).tolist()) for line in said.lines]
    return Trained(curves[0] if curves else None, curves[1:], said.failed)


def main() -> None:
    report = Report("training", "A training run to the same loss")
    report.text(str(__doc__).split("\n\n", 1)[1].replace("\n", " ").strip())
    apart("benchmarks.training", READY, "", "0", seconds=900)
    found = {name: trained(name) for name in contestants()}
    table(report, found)
    report.text(
        f"Adam at a rate of {RATE:g} until the loss is below {THRESHOLD:g}; `fit` takes stages of its own, of which "
        "Adam is the first. 'cold' counts from the start of the process, with all that is imported, started and "
        "compiled; 'first loss' is the part of it before the first loss was known. 'warm' is the median of up to "
        f"{WARM_RUNS} more runs, each of a new model. A run is ended after {CAP:g} s; the seconds of one that was, "
        "marked *, are scaled up by its seconds an epoch to as many epochs as the others took."
    )
    report.figure(figure(found), "loss")
    report.save()


def table(report: Report, found: dict[str, Trained]) -> None:
    curves = [c for name, one in found.items() if "fit" not in name for c in (one.cold, *one.warm) if c]
    epochs = round(median([len(c.clock) for c in curves if c.reached] or [MOST]))
    rows = []
    for name, one in found.items():
        if one.cold is None or not one.warm:
            rows.append([name, one.failed or "ended early", *["-"] * 7])
            continue
        times, last = [c.seconds(epochs) for c in one.warm], one.warm[-1]
        star = "" if last.reached else "*"
        spread = (max(times) - min(times)) / 2 / median(times) if len(times) > 1 else float("nan")
        rows.append([name, f"{one.cold.seconds(epochs):.3g}{'' if one.cold.reached else '*'}", one.cold.clock[0],
                     f"{median(times):.3g}{star}", spread, len(last.clock), 1e3 * median(c.per_epoch for c in one.warm),
                     last.losses[0], last.losses[-1]])  # fmt: skip
    report.table(["", "cold s", "first loss s", "warm s", "spread", "epochs", "ms an epoch", "loss at first",
                  "at last"], rows)  # fmt: skip


def figure(found: dict[str, Trained]) -> Any:
    from pysciml.plot.style import finish, pen, pyplot

    shape, axes = pyplot().subplots(1, 2, figsize=(12, 5), layout="constrained", sharey=True)
    for ax, kind in zip(axes, ("cold", "warm"), strict=True):
        for i, (name, one) in enumerate(found.items()):
            curve = one.cold if kind == "cold" else next(iter(one.warm), None)
            if curve:
                ax.loglog(curve.clock, curve.losses, label=name, **pen(i))
        ax.axhline(THRESHOLD, color="#333333", linewidth=0.8, linestyle=":")
        title = "cold: from the start of python" if kind == "cold" else "warm: a new run, all compiled"
        finish(ax, "seconds", "mean square error" if kind == "cold" else "", legend=False).set_title(title)
    shape.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return shape


if __name__ == "__main__":
    main()
