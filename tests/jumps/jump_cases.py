"""Jump processes of which means and distributions are known."""

from __future__ import annotations

import math

import numpy as np
import torch

import pysciml as ps

F64 = torch.float64


def number(x: object) -> torch.Tensor:
    return torch.tensor(x, dtype=F64)


BIRTH, DEATH, START, END = 8.0, 0.7, 3.0, 2.0


def immigration(u0: torch.Tensor | None = None, p: torch.Tensor | None = None, end: float = END) -> ps.JumpProblem:
    """Births at a rate of p[0], deaths at one of p[1] each."""
    return ps.JumpProblem(lambda t, u, p: torch.stack([p[0], p[1] * u[0]]), [[1], [-1]],
                          number([START]) if u0 is None else u0, (0.0, end),
                          number([BIRTH, DEATH]) if p is None else p)  # fmt: skip


def immigration_by_mass_action(p: torch.Tensor | None = None, end: float = END) -> ps.JumpProblem:
    return ps.JumpProblem(ps.MassAction([[0], [1]], lambda p: p), [[1], [-1]], number([START]), (0.0, end),
                          number([BIRTH, DEATH]) if p is None else p)  # fmt: skip


def mean(p: torch.Tensor, t: float, u0: float = START) -> torch.Tensor:
    """That of immigration: linear rates, so it obeys du/dt = p0 - p1 u."""
    decay = torch.exp(-p[1] * t)
    return u0 * decay + p[0] / p[1] * (1 - decay)


# 2 A <-> B, Gillespie's example of a rate that is not linear.
DIMERS = ps.MassAction([[2, 0], [0, 1]], number([0.02, 0.3]))
DIMER_CHANGES = [[-2, 1], [2, -1]]


def dimerization(rates: object = DIMERS, u0: object = None) -> ps.JumpProblem:
    return ps.JumpProblem(rates, DIMER_CHANGES, number([30.0, 0.0]) if u0 is None else u0, (0.0, 4.0))  # type: ignore[arg-type]


def dimer_rates(t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    return torch.stack([0.02 * u[0] * (u[0] - 1) / 2, 0.3 * u[1]])


def dimer_distribution(t: float, molecules: int = 30) -> np.ndarray:
    """The probabilities of 0, 1, ... dimers at t, by the master equation."""
    from scipy.linalg import expm

    n = molecules // 2 + 1
    generator = np.zeros((n, n))
    for b in range(n):
        a = molecules - 2 * b
        up, down = 0.02 * a * (a - 1) / 2, 0.3 * b
        generator[b, b] -= up + down
        if b + 1 < n:
            generator[b + 1, b] += up
        if b:
            generator[b - 1, b] += down
    return expm(generator * t)[:, 0]


def poisson(rate: float, count: int) -> np.ndarray:
    k = np.arange(count)
    return np.exp(k * math.log(rate) - rate - np.array([math.lgamma(i + 1) for i in k]))


def drawn(prob: ps.JumpProblem, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Times and channels of one path by Gillespie's method, to check likelihoods without an engine."""
    random, t, u = np.random.default_rng(seed), prob.span[0], prob.u0.detach().double()
    times, channels = [], []
    while True:
        with torch.no_grad():
            rates = prob.rates(number(t), u, *(() if prob.p is None else (prob.p,))).numpy()
        t += random.exponential(1 / rates.sum())
        if t >= prob.span[1]:
            return np.array(times), np.array(channels, np.int64)
        j = int(random.choice(rates.size, p=rates / rates.sum()))
        u = u + prob.changes[j]
        times.append(t)
        channels.append(j)
