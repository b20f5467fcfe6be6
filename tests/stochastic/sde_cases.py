"""Stochastic equations whose solutions are known, and the ways to solve them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

import pysciml as ps

F64 = torch.float64
ENGINES = ["embedded", pytest.param("julia", marks=pytest.mark.julia)]


def number(x: object) -> torch.Tensor:
    return torch.tensor(x, dtype=F64)


@dataclass(frozen=True)
class Case:
    """An equation of p = (a, b, ...), from u0. `exact(t, W, u0, p)` is its solution on a path, where it has one."""

    name: str
    f: Callable
    g: Callable
    u0: torch.Tensor
    p: torch.Tensor
    noise_type: str = "diagonal"
    interpretation: str = "ito"
    exact: Callable | None = None

    def problem(self, u0: torch.Tensor | None = None, p: torch.Tensor | None = None, end: float = 1.0) -> ps.SDEProblem:
        return ps.SDEProblem(self.f, self.g, self.u0 if u0 is None else u0, (0.0, end), self.p if p is None else p,
                             noise_type=self.noise_type, interpretation=self.interpretation)  # fmt: skip


def growth(t, W, u0, p):
    return u0 * torch.exp((p[0] - p[1] ** 2 / 2) * t + p[1] * W)


def growth_stratonovich(t, W, u0, p):
    return u0 * torch.exp(p[0] * t + p[1] * W)


GEOMETRIC = Case(
    "geometric",
    lambda t, u, p: p[0] * u,
    lambda t, u, p: p[1] * u,
    number([1.0, 0.5]),
    number([0.4, 0.6]),
    exact=growth,
)
GEOMETRIC_STRATONOVICH = Case("geometric Stratonovich", GEOMETRIC.f, GEOMETRIC.g, GEOMETRIC.u0, GEOMETRIC.p,
                              interpretation="stratonovich", exact=growth_stratonovich)  # fmt: skip
SCALAR = Case("scalar", GEOMETRIC.f, GEOMETRIC.g, GEOMETRIC.u0, GEOMETRIC.p, noise_type="scalar", exact=growth)
# u' = a cos(t) u + b cos(t) noise, additive.
ADDITIVE = Case(
    "additive",
    lambda t, u, p: -p[0] * torch.sin(u) + torch.stack([torch.cos(t), torch.sin(t)]),
    lambda t, u, p: torch.stack([p[1] * torch.cos(t), p[1] * torch.ones_like(t)]),
    number([1.0, -0.5]),
    number([1.3, 0.4]),
)
LORENZ_LIKE = Case(
    "nonlinear",
    lambda t, u, p: torch.stack([p[0] * (u[1] - u[0]), u[0] * (1.0 - u[1]) - torch.sin(t) * u[1]]),
    lambda t, u, p: torch.stack([p[1] * torch.sin(u[0]) + 0.1 * t, 0.3 * u[1] * p[0]]),
    number([0.7, 1.2]),
    number([0.9, 0.35]),
)
GENERAL = Case(
    "general",
    lambda t, u, p: torch.stack([-p[0] * u[0] + u[1], -u[1] * p[0] + torch.cos(t) * u[0]]),
    lambda t, u, p: torch.stack([torch.stack([p[1] * u[0], 0.2 * u[1], 0.1 + 0 * t]),
                                 torch.stack([0.3 * torch.sin(u[1]), p[1] * p[0] * u[0], 0 * t])]),
    number([1.0, 0.4]),
    number([0.8, 0.3]),
    noise_type="general",
)  # fmt: skip
BATCHED = Case(
    "batched general",
    lambda t, u, p: -p[0] * torch.tanh(u),
    lambda t, u, p: torch.stack([p[1] * u, 0.2 * torch.cos(u)], dim=-1),
    number([[1.0, 0.4], [-0.3, 0.6], [0.2, 0.9]]),
    number([0.8, 0.3]),
    noise_type="general",
)
ADDITIVE_GENERAL = Case(
    "additive general",
    ADDITIVE.f,
    lambda t, u, p: torch.stack([torch.stack([p[1], 0.1 * t]), torch.stack([0 * t, p[1] * p[0]])]),
    ADDITIVE.u0,
    ADDITIVE.p,
    noise_type="additive",
)


def stratonovich(case: Case) -> Case:
    return Case(case.name + " Stratonovich", case.f, case.g, case.u0, case.p, case.noise_type, "stratonovich")


# Every solver with the equations it is for.
JULIA = [
    *[(alg, case) for alg in (ps.EM(), ps.EM(split=True), ps.LambaEM(), ps.LambaEM(split=False), ps.ImplicitEM(),
                              ps.ImplicitEM(theta=0.5)) for case in (LORENZ_LIKE, GENERAL, BATCHED, SCALAR)],
    *[(alg, stratonovich(case)) for alg in (ps.EulerHeun(), ps.LambaEulerHeun(), ps.ImplicitEulerHeun())
      for case in (LORENZ_LIKE, GENERAL, BATCHED)],
    *[(alg, case) for alg in (ps.RKMil(), ps.ImplicitRKMil()) for case in (LORENZ_LIKE, stratonovich(LORENZ_LIKE))],
    *[(alg, LORENZ_LIKE) for alg in (ps.SRIW1(), ps.SRIW2(), ps.SOSRI(), ps.SOSRI2())],
    *[(alg, case) for alg in (ps.SRA1(), ps.SRA2(), ps.SRA3(), ps.SOSRA(), ps.SOSRA2(), ps.SKenCarp())
      for case in (ADDITIVE, ADDITIVE_GENERAL)],
]  # fmt: skip
EMBEDDED = [
    *[(ps.EM(), case) for case in (LORENZ_LIKE, GENERAL, BATCHED, SCALAR)],
    *[(ps.EulerHeun(), stratonovich(case)) for case in (LORENZ_LIKE, GENERAL, BATCHED)],
    *[(ps.RKMil(), case) for case in (LORENZ_LIKE, stratonovich(LORENZ_LIKE))],
    (ps.TorchSDE("srk"), LORENZ_LIKE),
    (ps.TorchSDE("midpoint"), stratonovich(LORENZ_LIKE)),
]
EVERY = [("embedded", *pair) for pair in EMBEDDED] + [
    pytest.param("julia", *pair, marks=pytest.mark.julia) for pair in JULIA
]


def label(x: object) -> str | None:
    return x.name if isinstance(x, Case) else repr(x) if isinstance(x, ps.algorithms.Algorithm) else None
