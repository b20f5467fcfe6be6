"""Small problems with known parameters, and the fits that are killed and resumed, here and in subprocesses."""

from __future__ import annotations

import torch

import pysciml as ps
from pysciml.fit import Stage, fit

F64 = torch.float64
CASES = ("adam", "lbfgs", "batches", "long")


def number(x, *, grad: bool = True) -> torch.Tensor:
    return torch.tensor(x, dtype=F64, requires_grad=grad)


def decay(k: torch.Tensor, end: float = 2.0) -> ps.ODEProblem:
    """u' = -k u, u(0) = 1; data by `decay_data`."""
    return ps.ODEProblem(lambda t, u: -k * u, torch.ones(1, dtype=F64), (0.0, end))


def decay_data(count: int = 9, end: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    t = torch.linspace(0, end, count, dtype=F64)
    return torch.exp(-t)[:, None], t


def blow_up(a: torch.Tensor) -> ps.ODEProblem:
    """u' = a u^2, u(0) = 1: u = 1 / (1 - a t), which for a >= 1 has no solution up to t = 1."""
    return ps.ODEProblem(lambda t, u: a * u**2, torch.ones(1, dtype=F64), (0.0, 1.0))


def blow_up_data(a: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    t = torch.linspace(0.1, 1, 10, dtype=F64)
    return (1 / (1 - a * t))[:, None], t


def lotka_volterra(t, u, p):
    x, y = u
    return torch.stack([p[0] * x - p[1] * x * y, p[2] * x * y - p[3] * y])


def lotka_volterra_problem(p, end: float = 10.0) -> ps.ODEProblem:
    return ps.ODEProblem(lotka_volterra, torch.ones(2, dtype=F64), (0.0, end), p)


def lotka_volterra_data(end: float = 10.0, count: int = 41) -> tuple[torch.Tensor, torch.Tensor]:
    t = torch.linspace(0, end, count, dtype=F64)
    truth = torch.tensor([1.5, 1.0, 1.0, 3.0], dtype=F64)
    sol = ps.solve(lotka_volterra_problem(truth, end), saveat=t, reltol=1e-10, abstol=1e-10)
    return sol.u, t


def resumable(case: str, **options):
    """A fit whose every random number counts: noise in the loss, batches drawn, a learning rate that is scheduled."""
    torch.set_num_threads(1)
    torch.manual_seed(7)
    options = {"progress": "off", "checkpoint_every": 4, **options}
    if case == "lbfgs":
        data, t = lotka_volterra_data(3.0, 7)
        p = number([1.2, 0.8, 0.8, 2.5])
        stages = (Stage("adam", 3), Stage("lbfgs", 12, tolerance=0.0))
        return fit(lotka_volterra_problem(p, 3.0), data, t, stages=stages, **options), p
    if case == "long":
        data, t = lotka_volterra_data()
        p = number([1.2, 0.8, 0.8, 2.5])
        return fit(
            lotka_volterra_problem(p), data, t, stages=(Stage("adam", 6, lr=0.05), Stage("lbfgs", 9)), **options
        ), p
    # Times of its own, hence an integrator of its own: CasADi's backward solve gives other last digits once it has been
    # through a solve of more steps than lie between two checkpoints (50), which other tests here may have had it do.
    k = number(0.3)
    data, t = decay_data(8, 1.75)

    def noisy(predicted, observed):
        return ((predicted - observed + 0.01 * torch.randn_like(observed)) ** 2).mean()

    stage = Stage("adamw", 15, lr=0.05, scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 4, 0.7))
    if case == "adam":
        return fit(decay(k), data, t, stages=stage, loss=noisy, clip=0.5, **options), k
    problems = [ps.ODEProblem(lambda t, u: -k * u, number([x], grad=False), (0.0, 2.0)) for x in (0.5, 1.0, 2.0)]
    datas = [prob.u0 * data for prob in problems]
    return fit(problems, datas, t, stages=stage, loss=noisy, batch_size=2, **options), k


def histories_agree(a, b) -> bool:
    """Bit for bit, all but the times."""
    left, right = a.as_dict(), b.as_dict()
    same = lambda x, y: x == y or (x != x and y != y)  # noqa: E731
    return all(
        len(left[name]) == len(right[name]) and all(map(same, left[name], right[name]))
        for name in left
        if name != "time"
    )
