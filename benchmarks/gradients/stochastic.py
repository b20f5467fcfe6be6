"""Rows of stochastic equations: pathwise gradients on a fixed path at a fixed step.

What is true of a step is written down once more, in torch, and differentiated by it: Euler-Maruyama, Milstein, Heun,
two of Roessler's, and an implicit one.

Reference: Kloeden and Platen, Numerical Solution of Stochastic Differential Equations, Springer (1992); Roessler,
SIAM J. Numer. Anal. 48 (2010).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

import pysciml as ps
from benchmarks.gradients.problem import F64, Problem
from benchmarks.gradients.ways import Solvers

STEPS = 20
T = torch.linspace(0.0, 1.0, STEPS + 1, dtype=F64)
DT = 1.0 / STEPS
U0, P = torch.tensor([0.7, 1.2], dtype=F64), torch.tensor([0.9, 0.35], dtype=F64)
Step = Callable[..., torch.Tensor]


def noise(m: int) -> ps.NoisePath:
    return ps.NoisePath.sample(T, m, seed=3)


def along(step: Step, m: int = 2) -> Callable[..., torch.Tensor]:
    """The states in the middle and at the end, by steps `step(t, u, dW, dZ, p)` along the path."""
    path = noise(m)
    assert path.Z is not None

    def states(u0: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        u, found = u0, []
        for k in range(STEPS):
            u = step(T[k], u, path.W[k + 1] - path.W[k], path.Z[k + 1] - path.Z[k], p)
            found.append(u)
        return torch.stack([found[STEPS // 2 - 1], found[-1]])

    return states


def f(t, u, p):
    return torch.stack([p[0] * (u[1] - u[0]), u[0] * (1.0 - u[1]) - torch.sin(t) * u[1]])


def g(t, u, p):
    return torch.stack([p[1] * torch.sin(u[0]) + 0.1 * t, 0.3 * u[1] * p[0]])


def matrix(t, u, p):
    return torch.stack([torch.stack([p[1] * u[0], 0.2 * u[1], 0.1 + 0 * t]),
                        torch.stack([0.3 * torch.sin(u[1]), p[1] * p[0] * u[0], 0 * t])])  # fmt: skip


def constant(t, u, p):
    return torch.stack([p[1] * torch.cos(t), p[1] * p[0] + 0 * t])


def stiff(t, u, p):
    return -100.0 * p[0] * u + u.flip(0)


def euler_maruyama(t, u, dw, dz, p):
    return u + DT * f(t, u, p) + matrix(t, u, p) @ dw


def milstein(t, u, dw, dz, p):
    a, b, root = f(t, u, p), g(t, u, p), math.sqrt(DT)
    beside = g(t, u + DT * a + root * b, p)
    return u + DT * a + b * dw + (beside - b) / (2 * root) * (dw**2 - DT)


def heun(t, u, dw, dz, p):
    a, b = f(t, u, p), g(t, u, p)
    v = u + DT * a + b * dw
    return u + DT / 2 * (a + f(t + DT, v, p)) + dw / 2 * (b + g(t + DT, v, p))


def sra1(t, u, dw, dz, p):
    area = (dw + dz / math.sqrt(3)) / 2
    a, end = f(t, u, p), constant(t + DT, u, p)
    v = u + 3 / 4 * DT * a + 3 / 2 * area * end
    return u + DT * (a + 2 * f(t + 3 / 4 * DT, v, p)) / 3 + dw * end + area * (constant(t, u, p) - end)


def sriw1(t, u, dw, dz, p):
    root = math.sqrt(DT)
    chi1, chi2, chi3 = (dw**2 - DT) / (2 * root), (dw + dz / math.sqrt(3)) / 2, (dw**3 - 3 * dw * DT) / (6 * DT)
    a, b1 = f(t, u, p), g(t, u, p)
    b2 = g(t + DT / 4, u + DT / 4 * a + root / 2 * b1, p)
    b3 = g(t + DT, u + DT * a - root * b1, p)
    b4 = g(t + DT / 4, u + DT / 4 * a + root * (-5 * b1 + 3 * b2 + b3 / 2), p)
    c = f(t + 3 / 4 * DT, u + 3 / 4 * DT * a + 3 / 2 * chi2 * b1, p)
    return (u + DT * (a + 2 * c) / 3 + dw * (-b1 + 4 / 3 * b2 + 2 / 3 * b3) + chi1 * (-b1 + 4 / 3 * b2 - b3 / 3)
            + chi2 * (2 * b1 - 4 / 3 * b2 - 2 / 3 * b3) + chi3 * (-2 * b1 + 5 / 3 * b2 - 2 / 3 * b3 + b4))  # fmt: skip


def implicit_euler(t, u, dw, dz, p):
    A = -100.0 * p[0] * torch.eye(2, dtype=F64) + torch.eye(2, dtype=F64).flip(0)
    return torch.linalg.solve(torch.eye(2, dtype=F64) - DT * A, u + g(t, u, p) * dw)


def equation(name: str, alg: ps.algorithms.Algorithm, step: Step, drift: Callable = f, diffusion: Callable = g,
             m: int = 2, embedded: bool = False, **kind: str) -> Problem:  # fmt: skip
    options = {"saveat": T[[STEPS // 2, STEPS]], "dt": DT, "adaptive": False, "noise": noise(m)}
    return Problem(
        name,
        {"u0": U0, "p": P},
        lambda u0, p: (ps.SDEProblem(drift, diffusion, u0, (0.0, 1.0), p, **kind), options),
        along(step, m),
        Solvers(compiled=(alg,), callback=(alg,), eager=(alg,) if embedded else ()),
    )


STOCHASTIC = (
    equation("SDE general", ps.EM(), euler_maruyama, diffusion=matrix, m=3, embedded=True, noise_type="general"),
    equation("SDE diagonal", ps.RKMil(), milstein, embedded=True),
    equation("SDE Stratonovich", ps.EulerHeun(), heun, embedded=True, interpretation="stratonovich"),
    equation("SDE additive", ps.SRA1(), sra1, diffusion=constant),
    equation("SDE order 1.5", ps.SRIW1(), sriw1),
    equation("SDE stiff", ps.ImplicitEM(), implicit_euler, drift=stiff),
)
