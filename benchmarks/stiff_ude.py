"""One gradient of a stiff universal differential equation, at the same achieved error: work and precision.

Robertson's kinetics, one rate a function that a 3-16-1 tanh network learns; float64, t in [0, 1e5], 30 saved times,
loss the mean square of the scaled states, gradient to every weight. Everyone runs over a range of tolerances; a time at
an error is read off between two of them, on logarithmic scales. Rounds are interleaved; one thread.

Reference: Robertson (1966), as in Hairer and Wanner, Solving Ordinary Differential Equations II, IV.1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from statistics import median

import torch

import pysciml as ps
from benchmarks import by_diffrax
from benchmarks.from_julia import timed
from benchmarks.race import at
from pysciml.engines.select import engine_name

F64 = torch.float64
TIMES = torch.logspace(-2, 5, 30, dtype=F64)
U0 = torch.tensor([1.0, 0.0, 0.0], dtype=F64)
SCALE = torch.tensor([1.0, 2e4, 1.0], dtype=F64)
SMALL = torch.tensor([1.0, 1e-4, 1.0], dtype=F64)  # of the states, for absolute tolerances
TOLERANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
ERRORS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)


class Kinetics(torch.nn.Module):
    """Robertson's kinetics with the constant of B + C -> A learned, as a factor of 1e4."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()

    def forward(self, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        a, b, c = u
        back = 1e4 * torch.exp(self.net(u * SCALE)[0])
        slow, fast, again = 0.04 * a, 3e7 * b * b, back * b * c
        return torch.stack([again - slow, slow - fast - again, fast])


def in_jax(t, u, p):
    """The same in jax, of the arrays that `Kinetics.parameters()` gives."""
    import jax.numpy as jnp

    w1, b1, w2, b2 = p
    a, b, c = u
    back = 1e4 * jnp.exp((w2 @ jnp.tanh(w1 @ (u * jnp.asarray(SCALE.numpy())) + b1) + b2)[0])
    slow, fast, again = 0.04 * a, 3e7 * b * b, back * b * c
    return jnp.stack([again - slow, slow - fast - again, fast])


def model() -> Kinetics:
    torch.manual_seed(0)
    return Kinetics()


def by_pysciml(alg, engine: str, tol: float, sensealg=None) -> Callable[[], torch.Tensor]:
    net = model()
    problem = ps.ODEProblem(net, U0, (0.0, 1e5))

    def run() -> torch.Tensor:
        net.zero_grad()
        u = ps.solve(problem, alg, saveat=TIMES, reltol=tol, abstol=tol * 1e-2 * SMALL, engine=engine,
                     sensealg=sensealg).u  # fmt: skip
        ((u * SCALE) ** 2).mean().backward()
        return torch.cat([p.grad.reshape(-1) for p in net.parameters()])

    return run


@functools.cache
def kvaerno5() -> Callable[[float], torch.Tensor]:
    return by_diffrax.gradient(in_jax, "Kvaerno5", list(model().parameters()), U0, TIMES, SCALE, 1e-2 * SMALL)


def by_kvaerno5(tol: float) -> Callable[[], torch.Tensor]:
    return functools.partial(kvaerno5(), tol)


def reference() -> torch.Tensor:
    """The gradient at a tolerance far below all others."""
    if engine_name("auto") == "julia":
        return by_pysciml(ps.Rodas5P(), "julia", 1e-11)()
    return by_pysciml(ps.CVODE_BDF(), "embedded", 1e-10)()


def contestants() -> dict[str, Callable[[float], Callable[[], torch.Tensor]]]:
    found: dict[str, Callable[[float], Callable[[], torch.Tensor]]] = {
        "pysciml CVODE_BDF, embedded": functools.partial(by_pysciml, ps.CVODE_BDF(), "embedded"),
    }
    if engine_name("auto") == "julia":
        for alg in (ps.Rodas5P(), ps.FBDF()):
            found[f"pysciml {alg.name}, julia"] = functools.partial(by_pysciml, alg, "julia")
            found[f"{alg.name}, CollocationAdjoint"] = functools.partial(by_pysciml, alg, "julia", sensealg=BY_STEPS)
    if by_diffrax.HERE:
        found[KVAERNO] = by_kvaerno5
    return found


KVAERNO = "diffrax Kvaerno5, jit"
BY_STEPS = ps.CollocationAdjoint()


def main(rounds: int = 5) -> None:
    """Prints work and precision of everyone, then the times at equal errors."""
    torch.set_num_threads(1)
    truth = reference()
    runs = {(name, tol): build(tol) for name, build in contestants().items() for tol in TOLERANCES}
    results = {key: run() for key, run in runs.items()}
    errors = {key: ((g - truth).norm() / truth.norm()).item() for key, g in results.items()}
    times: dict[tuple[str, float], list[float]] = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            times[key] += timed(run, 1 if key[0] == KVAERNO else 3)
    report(errors, times)


def report(errors: dict, times: dict) -> None:
    names = list(dict.fromkeys(name for name, _ in times))
    jax = by_diffrax.version() if by_diffrax.HERE else by_diffrax.LEFT_OUT
    print("ms a gradient (median, best) and its relative distance to a tight reference;\n"
          f"torch {torch.__version__}, {jax}\n")  # fmt: skip
    print(f"{'':30}" + "".join(f"{f'reltol {tol:.0e}':>24}" for tol in TOLERANCES))
    for name in names:
        cells = [(1e3 * median(times[name, t]), 1e3 * min(times[name, t]), errors[name, t]) for t in TOLERANCES]
        print(f"{name:30}" + "".join(f"{m:9.2f}{b:7.2f}{e:8.0e}" for m, b, e in cells))
    print("\nmedian ms at the same achieved error" + (f", and {KVAERNO} over it" if KVAERNO in names else ""))
    print(f"{'':30}" + "".join(f"{e:>20.0e}" for e in ERRORS))
    curves = {name: [(errors[name, t], median(times[name, t])) for t in TOLERANCES] for name in names}
    for name in names:
        cells = [(at(curves[name], e), at(curves.get(KVAERNO, []), e)) for e in ERRORS]
        print(f"{name:30}" + "".join(f"{1e3 * mine:12.2f}{theirs / mine:7.1f}x" for mine, theirs in cells))


if __name__ == "__main__":
    main()
