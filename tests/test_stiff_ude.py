"""A stiff universal differential equation trains: Robertson's problem with one rate replaced by a network."""

from __future__ import annotations

import torch
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
