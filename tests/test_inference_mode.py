"""Solves inside of torch.inference_mode, where Lightning validates and predicts."""

from __future__ import annotations

import pytest
import torch

import pysciml as ps

F64 = torch.float64


class Decay(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.k = torch.nn.Parameter(torch.tensor(0.5, dtype=F64))

    def forward(self, t, u, p=None):
        return -self.k * u if p is None else -self.k * p * u


def solved(prob, alg, engine, **options):
    return ps.solve(prob, alg, engine=engine, reltol=1e-9, abstol=1e-9, **options)


@pytest.mark.parametrize(
    ("alg", "engine"),
    [("CVODE_BDF", "embedded"), ("Tsit5", "embedded"), pytest.param("Tsit5", "julia", marks=pytest.mark.julia)],
)
@pytest.mark.parametrize("made_inside", [False, True])
def test_a_solve_gives_the_same_states(alg, engine, made_inside):
    f = Decay()
    with torch.inference_mode(made_inside):
        prob = ps.ODEProblem(f, torch.ones(2, dtype=F64), (0.0, 2.0), torch.tensor(2.0, dtype=F64))
    with torch.inference_mode():
        t = torch.tensor([1.0, 2.0], dtype=F64)
        sol = solved(prob, alg, engine, saveat=t)
        assert torch.is_inference_mode_enabled()
    torch.testing.assert_close(sol.u, torch.exp(-t)[:, None].expand(2, 2), rtol=1e-6, atol=1e-6)
    assert not sol.u.requires_grad


def test_training_goes_on_after_it():
    f = Decay()
    prob = ps.ODEProblem(f, torch.ones(1, dtype=F64), (0.0, 1.0))
    with torch.inference_mode():
        before = solved(prob, "CVODE_BDF", "embedded").u[-1]
    after = solved(prob, "CVODE_BDF", "embedded").u[-1]
    after.sum().backward()
    torch.testing.assert_close(before, after.detach())
    assert f.k.grad.item() == pytest.approx(-torch.exp(torch.tensor(-0.5)).item(), rel=1e-5)


def test_dense_output_and_steady_states():
    with torch.inference_mode():
        prob = ps.ODEProblem(lambda t, u: -u, torch.ones(1, dtype=F64), (0.0, 1.0))
        sol = solved(prob, "CVODE_BDF", "embedded")
        assert sol(torch.tensor(0.5, dtype=F64)).item() == pytest.approx(0.60653, abs=1e-4)
        steady = ps.solve(ps.SteadyStateProblem(lambda t, u: 1.0 - u, torch.zeros(1, dtype=F64)))
        assert steady.u.item() == pytest.approx(1.0, abs=1e-6)
