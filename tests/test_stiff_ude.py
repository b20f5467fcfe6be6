"""A stiff universal differential equation trains: Robertson's problem with one rate replaced by a network."""

from __future__ import annotations

import pytest
import torch
from finite_differences import relative_error
from problems import robertson, vector

import pysciml as ps

F64 = torch.float64
TIMES = torch.logspace(-2, 5, 30, dtype=F64)
U0 = vector(1.0, 0.0, 0.0)
SCALE = vector(1.0, 2e4, 1.0)


class Unknown(torch.nn.Module):
    """Robertson's kinetics where the rate constant of B + C -> A is not known to be a constant."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()

    def forward(self, t, u):
        a, b, c = u
        back = 1e4 * torch.exp(self.net(u * SCALE)[0])  # the truth: a network that is zero
        slow, fast, again = 0.04 * a, 3e7 * b * b, back * b * c
        return torch.stack([again - slow, slow - fast - again, fast])


def solve(f, p=None):
    prob = ps.ODEProblem(f, U0, (0.0, 1e5), p)
    return ps.solve(prob, ps.CVODE_BDF(), saveat=TIMES, reltol=1e-7, abstol=vector(1e-9, 1e-12, 1e-9)).u * SCALE


def test_robertson_with_a_network_for_a_rate_trains():
    torch.manual_seed(0)
    data = solve(robertson, vector(0.04, 3e7, 1e4))
    model = Unknown()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = ((solve(model) - data) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 100
    rate = torch.exp(model.net(data)).squeeze(-1)  # relative to the true constant, along the trajectory
    assert (rate - 1).abs().max() < 0.2


@pytest.mark.julia
def test_a_loose_gradient_is_near_the_tight_one_and_wastes_no_steps():
    """Every saved time is a jump of the adjoint, after which the fast part moves again, on its own scale of time."""
    torch.manual_seed(0)
    model = Unknown()

    def gradient(tol):
        prob = ps.ODEProblem(model, U0, (0.0, 1e5))
        abstol = tol * vector(1e-2, 1e-6, 1e-2)
        sol = ps.solve(prob, ps.Rodas5P(), saveat=TIMES, reltol=tol, abstol=abstol, engine="julia")
        model.zero_grad()
        ((sol.u * SCALE) ** 2).mean().backward()
        return torch.cat([x.grad.reshape(-1) for x in model.parameters()]), sol.stats.backward

    loose, stats = gradient(1e-2)
    assert relative_error(loose, gradient(1e-9)[0]) < 1e-3
    assert stats.nreject < stats.naccept / 5
