"""Collocation pre-training: near the truth from far away, without a solve."""

from __future__ import annotations

import math
import sys

import pytest
import torch

import pysciml as ps

F64 = torch.float64
T = torch.linspace(0.0, 6.0, 60, dtype=F64)
RATES = torch.tensor([1.5, 1.0, 1.0, 3.0], dtype=F64)


def lotka_volterra(t, u, p):
    return torch.stack([p[0] * u[0] - p[1] * u[0] * u[1], p[2] * u[0] * u[1] - p[3] * u[1]])


def problem(p, u0=(1.0, 1.0)):
    return ps.ODEProblem(lotka_volterra, torch.tensor(u0, dtype=F64), (0.0, 6.0), p)


def observed(u0=(1.0, 1.0), spread=0.0):
    torch.manual_seed(0)
    u = ps.solve(problem(RATES, u0), saveat=T, reltol=1e-9, abstol=1e-9).u
    return u + spread * torch.randn_like(u)


@pytest.fixture
def no_solves(monkeypatch):
    monkeypatch.setattr(sys.modules["pysciml.fit.solver"], "solve", None)


def test_rates_from_far_away(no_solves):
    p = torch.full((4,), 0.1, dtype=F64, requires_grad=True)
    result = ps.pretrain(problem(p), observed(), T, stages=("LBFGS", 60), progress="off")
    torch.testing.assert_close(p.detach(), RATES, rtol=0.02, atol=0)
    assert list(result.parameters) == ["p"]


def test_noise_missing_values_and_several_experiments():
    data = [observed((1.0, 1.0), 0.05), observed((2.0, 0.5), 0.05)]
    data[0][7, 1] = math.nan
    p = torch.full((4,), 0.1, dtype=F64, requires_grad=True)
    ps.pretrain([problem(p), problem(p, (2.0, 0.5))], data, T, stages=("LBFGS", 60), progress="off")
    torch.testing.assert_close(p.detach(), RATES, rtol=0.15, atol=0)


def test_a_network_is_a_better_start_than_none():
    class UDE(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()

        def forward(self, t, u):
            return self.net(u)

    f, data = UDE(), observed(spread=0.02)
    prob = ps.ODEProblem(f, torch.tensor([1.0, 1.0], dtype=F64), (0.0, 6.0))

    def misfit():
        with torch.no_grad():
            return (ps.solve(prob, saveat=T).u - data).square().mean().item()

    before = misfit()
    result = ps.pretrain(prob, data, T, epochs=(200, 100), progress="off")
    assert misfit() < before / 10
    assert "net.0.weight" in result.parameters


def test_what_cannot_be_mapped_over_times_is_called_at_each():
    k = torch.tensor([0.2], dtype=F64, requires_grad=True)
    calls = []

    def f(t, u):
        calls.append(float(u.detach()[0]) > -1e9)  # no vmap takes a float
        return -k * u

    prob = ps.ODEProblem(f, torch.ones(1, dtype=F64), (0.0, 6.0))
    ps.pretrain(prob, torch.exp(-T)[:, None], T, stages=("LBFGS", 20), points=10, progress="off")
    assert k.item() == pytest.approx(1.0, abs=0.03)
    assert calls


def test_what_cannot_be_done_is_said():
    p = torch.full((4,), 0.1, dtype=F64, requires_grad=True)
    data = observed()
    data[:, 1] = math.nan
    with pytest.raises(ps.UnsupportedError, match=r"u\[1\] was never observed[\s\S]*MultipleShooting"):
        ps.pretrain(problem(p), data, T, progress="off")
    with pytest.raises(ps.InvalidInputError, match=r"needs 5 observations[\s\S]*4 of u\[0\]"):
        ps.pretrain(problem(p), observed()[:4], T[:4], progress="off")
    with pytest.raises(ps.InvalidInputError, match="points"):
        ps.pretrain(problem(p), observed(), T, points=1, progress="off")
