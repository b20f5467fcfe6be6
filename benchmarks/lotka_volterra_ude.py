"""One gradient of a Lotka-Volterra universal differential equation, by everyone, in one run.

The problem: Lotka-Volterra with a 2-32-32-2 tanh network added, float64, t in [0, 10], 41 saved points, tolerances
1e-6, loss the mean square of the saved states, gradient to every parameter. One thread. Rounds are interleaved, so that
a noisy machine is noisy for all.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from statistics import median

import casadi as ca
import numpy as np
import torch
import torchdiffeq

import pysciml as ps
from benchmarks import by_diffrax
from benchmarks.from_julia import FromJulia, timed
from benchmarks.lotka_volterra_by_hand import ByHand
from pysciml.engines.select import engine_name

TIMES = torch.linspace(0.0, 10.0, 41, dtype=torch.float64)
U0 = torch.tensor([0.44249296, 4.6280594], dtype=torch.float64)
TOL = 1e-6
JULIA, ALONE = "pysciml Tsit5, julia", "the same Julia calls, from Julia"
WITHOUT = "torch's loop around these calls"
BY_STEPS, DIRECT = "pysciml Tsit5, CollocationAdjoint", "pysciml Tsit5, DirectAdjoint"
BY_HAND = "written by hand in Julia, GaussAdjoint"


class UDE(torch.nn.Module):
    """Lotka-Volterra with its four rates learned, and a small network added."""

    def __init__(self) -> None:
        super().__init__()
        layers = [
            torch.nn.Linear(2, 32),
            torch.nn.Tanh(),
            torch.nn.Linear(32, 32),
            torch.nn.Tanh(),
            torch.nn.Linear(32, 2),
        ]
        self.net = torch.nn.Sequential(*layers).double()
        self.rates = torch.nn.Parameter(torch.tensor([1.3, 0.9, 0.8, 1.8], dtype=torch.float64))

    def forward(self, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        x, y = u
        a, b, c, d = self.rates
        return torch.stack([a * x - b * x * y, c * x * y - d * y]) + 0.1 * self.net(u)


def model() -> UDE:
    torch.manual_seed(0)
    return UDE()


def gradient(states: Callable[[UDE], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """A function that computes the whole gradient once and returns it as one vector."""
    net = model()

    def run() -> torch.Tensor:
        net.zero_grad()
        (states(net) ** 2).mean().backward()
        return torch.cat([p.grad.reshape(-1) for p in net.parameters()])

    return run


def by_pysciml(alg, engine: str = "embedded", tol: float = TOL, sensealg=None) -> Callable[[], torch.Tensor]:
    @functools.cache
    def problem(net):
        return ps.ODEProblem(net, U0, (0.0, 10.0))

    def states(net):
        prob = problem(net)
        return ps.solve(prob, alg, saveat=TIMES, reltol=tol, abstol=tol, engine=engine, sensealg=sensealg).u

    return gradient(states)


def in_jax(t, u, p):
    """The same right-hand side in jax, of the arrays that `UDE.parameters()` gives."""
    import jax.numpy as jnp

    (a, b, c, d), w1, b1, w2, b2, w3, b3 = p
    x, y = u
    net = w3 @ jnp.tanh(w2 @ jnp.tanh(w1 @ u + b1) + b2) + b3
    return jnp.stack([a * x - b * x * y, c * x * y - d * y]) + 0.1 * net


def by_diffrax_tsit5() -> Callable[[], torch.Tensor]:
    return functools.partial(by_diffrax.gradient(in_jax, "Tsit5", list(model().parameters()), U0, TIMES), TOL)


class Stored(torch.autograd.Function):
    """What a solve is to torch, one node of its graph, with states and gradients that are there already."""

    @staticmethod
    def forward(ctx, states: torch.Tensor, gradients: list[torch.Tensor], *parameters: torch.Tensor):
        ctx.gradients = gradients
        return states.clone()

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        return None, None, *ctx.gradients


class InTorchsLoop:
    """The Julia calls made from Julia, in torch's loop: zeroing gradients, one node, the loss and its backward pass.

    Their sum is what a gradient costs without pysciml; the calls take the caches from the loop, as they do in a solve.
    """

    def __init__(self, calls: FromJulia) -> None:
        self.calls = calls
        states = torch.ones(len(TIMES), 2, dtype=torch.float64)
        self.run = gradient(lambda net: self._states(states, list(net.parameters())))
        self.spent = 0.0  # from the call to Julia to its return, in the last run
        self.seconds = 0.0  # of it in Julia, by Julia's clock

    def _states(self, states: torch.Tensor, parameters: list[torch.Tensor]) -> torch.Tensor:
        start = time.perf_counter()
        (self.seconds,) = self.calls.timed(1)[1]
        self.spent = time.perf_counter() - start
        return Stored.apply(states, [p.detach() for p in parameters], *parameters)

    def __call__(self) -> torch.Tensor:
        self.run()
        return self.calls()

    def timed(self, repeats: int) -> list[float]:
        """Seconds of each of so many repetitions, without Python's way to Julia and back."""
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            self.run()
            times.append(time.perf_counter() - start - self.spent + self.seconds)
        return times


def by_torchdiffeq(odeint) -> Callable[[], torch.Tensor]:
    return gradient(lambda net: odeint(net, U0, TIMES, rtol=TOL, atol=TOL, method="dopri5"))


class CasadiByHand:
    """The same equations written in CasADi by hand, and its integrator called as its manual shows."""

    def __init__(self, options: dict) -> None:
        self.parameters = [p.detach().numpy() for p in model().parameters()]
        u, t = ca.MX.sym("u", 2), ca.MX.sym("t")
        p = ca.MX.sym("p", sum(x.size for x in self.parameters))
        ode = self._equations(u, p)
        options = {"reltol": TOL, "abstol": TOL, "max_num_steps": 100_000, "steps_per_checkpoint": 450,
                   "interpolation_type": "hermite", "quad_err_con": True, **options}  # fmt: skip
        self.solve = ca.integrator("solve", "cvodes", {"x": u, "p": p, "t": t, "ode": ode}, 0.0, TIMES.numpy(), options)
        self.adjoint = self.solve.factory("adjoint", ["x0", "p", "adj:xf"], ["adj:x0", "adj:p"])

    def _equations(self, u: ca.MX, p: ca.MX) -> ca.MX:
        pieces, start = [], 0
        for x in self.parameters:
            rows, columns = x.shape if x.ndim == 2 else (x.size, 1)
            pieces.append(ca.reshape(p[start : start + x.size], columns, rows).T)
            start += x.size
        # A module lists its own parameters first, then those of its children.
        rates, w1, b1, w2, b2, w3, b3 = pieces
        a, b, c, d = ca.vertsplit(rates)
        x, y = ca.vertsplit(u)
        net = w3 @ ca.tanh(w2 @ ca.tanh(w1 @ u + b1) + b2) + b3
        return ca.vertcat(a * x - b * x * y, c * x * y - d * y) + 0.1 * net

    def __call__(self) -> torch.Tensor:
        flat = np.concatenate([x.ravel() for x in self.parameters])
        states = np.asarray(self.solve(x0=U0.numpy(), p=flat)["xf"])
        u = torch.from_numpy(states.T).requires_grad_()  # the loss is torch's for everyone
        (u**2).mean().backward()
        seed = u.grad.numpy().T
        return torch.from_numpy(np.asarray(self.adjoint(x0=U0.numpy(), p=flat, adj_xf=seed)["adj_p"]).ravel())


def contestants() -> dict[str, Callable[[], Callable[[], torch.Tensor]]]:
    adams = {"linear_multistep_method": "adams", "nonlinear_solver_iteration": "functional"}
    found: dict[str, Callable[[], Callable[[], torch.Tensor]]] = {
        "torchdiffeq dopri5, adjoint": lambda: by_torchdiffeq(torchdiffeq.odeint_adjoint),
        "torchdiffeq dopri5, direct backprop": lambda: by_torchdiffeq(torchdiffeq.odeint),
        "CasADi CVODES BDF, by hand": lambda: CasadiByHand({}),
        "pysciml CVODE_BDF, embedded": lambda: by_pysciml(ps.CVODE_BDF()),
        "CasADi CVODES Adams, by hand": lambda: CasadiByHand(adams),
        "pysciml CVODE_Adams, embedded": lambda: by_pysciml(ps.CVODE_Adams()),
    }
    if by_diffrax.HERE:
        found["diffrax Tsit5, jit"] = by_diffrax_tsit5
    if engine_name("auto") == "julia":
        found[JULIA] = lambda: by_pysciml(ps.Tsit5(), "julia")
        calls = functools.cache(lambda: FromJulia(model(), ps.Tsit5(), U0, TIMES, TOL))
        found[ALONE] = calls
        found[WITHOUT] = lambda: InTorchsLoop(calls())
        found[BY_STEPS] = lambda: by_pysciml(ps.Tsit5(), "julia", sensealg=ps.CollocationAdjoint())
        found[DIRECT] = lambda: by_pysciml(ps.Tsit5(), "julia", sensealg=ps.DirectAdjoint())
        found[BY_HAND] = lambda: ByHand(list(model().parameters()), U0, TIMES, TOL)
    return found


def main(rounds: int = 7) -> dict[str, list[float]]:
    """Prints the table and returns the warm times in seconds."""
    torch.set_num_threads(1)
    first, runs, results = {}, {}, {}
    for name, build in contestants().items():
        start = time.perf_counter()
        runs[name] = build()
        results[name] = runs[name]()
        first[name] = time.perf_counter() - start
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            many = "torchdiffeq" not in name
            # Warm is what a training loop sees: the first runs after another's find caches that the other filled.
            times[name] += timed(run, 110 if many else 2)[10 if many else 1 :]
    report(first, times, results)
    return times


def report(first: dict, times: dict, results: dict) -> None:
    ours = JULIA if JULIA in times else "pysciml CVODE_Adams, embedded"
    truth = by_pysciml(ps.CVODE_Adams(), tol=1e-12)()
    jax = by_diffrax.version() if by_diffrax.HERE else by_diffrax.LEFT_OUT
    print(f"torch {torch.__version__}, torchdiffeq {torchdiffeq.__version__}, CasADi {ca.__version__}, {jax}; "
          f"{torch.get_num_threads()} thread; forward + gradient\n")  # fmt: skip
    print(f"{'':38}{'median ms':>10}{'best ms':>9}{'first s':>9}{'median':>9}{'best':>7}  over ours{'distance':>10}")
    for name, samples in times.items():
        distance = ((results[name] - truth).norm() / truth.norm()).item()
        ratios = median(samples) / median(times[ours]), min(samples) / min(times[ours])
        warm = f"{1e3 * median(samples):10.2f}{1e3 * min(samples):9.2f}"
        print(f"{name:38}{warm}{first[name]:9.2f}{ratios[0]:9.2f}{ratios[1]:7.2f}{'':11}{distance:10.1e}")
    pairs = [(f"pysciml CVODE_{kind}, embedded", f"CasADi CVODES {kind}, by hand") for kind in ("BDF", "Adams")]
    for mine, hand in [*pairs, *([(JULIA, ALONE), (JULIA, WITHOUT)] if JULIA in times else [])]:
        print(f"{mine} over {hand}: {1e3 * (median(times[mine]) - median(times[hand])):+.2f} ms median, "
              f"{1e3 * (min(times[mine]) - min(times[hand])):+.2f} ms best")  # fmt: skip
    print(f"'over ours' is the time over that of {ours}; 'distance' is the relative distance of the gradient to one\n"
          "at a tolerance of 1e-12 (CVODE_Adams, embedded).")  # fmt: skip


if __name__ == "__main__":
    main()
