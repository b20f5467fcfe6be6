"""A DAE of more than 64 states, whose Jacobian is a dense matrix, against its closed form."""

from __future__ import annotations

import pytest
import torch

import pysciml as ps

pytestmark = pytest.mark.julia

CELLS = 40


def batteries(t, u, p):
    """Cells that discharge through a load each; their currents are algebraic: 0 = i - v / r."""
    v, i = u[:CELLS], u[CELLS:]
    return torch.cat([-p[:CELLS] * i, i - v / p[CELLS:]])


@pytest.mark.parametrize("alg", ["Rodas5P", "FBDF"])
def test_gradient_of_80_states_half_of_them_algebraic(alg):
    rate = torch.linspace(0.5, 2.0, CELLS, dtype=torch.float64)
    resistance = torch.linspace(1.0, 3.0, CELLS, dtype=torch.float64)
    v0 = torch.linspace(1.0, 1.5, CELLS, dtype=torch.float64)
    p = torch.cat([rate, resistance]).requires_grad_()
    mass = torch.cat([torch.ones(CELLS), torch.zeros(CELLS)]).double()
    prob = ps.ODEProblem(batteries, torch.cat([v0, v0 / resistance]), (0.0, 1.0), p, mass_matrix=mass)
    ts = torch.tensor([0.5, 1.0], dtype=torch.float64)
    sol = ps.solve(prob, getattr(ps, alg)(), saveat=ts, reltol=1e-9, abstol=1e-11, engine="julia")
    weights = torch.linspace(-1.0, 1.0, 2 * CELLS, dtype=torch.float64)
    (sol.u * weights).sum().backward()

    q = p.detach().clone().requires_grad_()
    v = v0 * torch.exp(-ts[:, None] * q[:CELLS] / q[CELLS:])
    exact = torch.cat([v, v / q[CELLS:]], dim=1)
    (exact * weights).sum().backward()
    assert torch.allclose(sol.u, exact, rtol=1e-6, atol=1e-8)
    assert torch.allclose(p.grad, q.grad, rtol=1e-5, atol=1e-7), (p.grad - q.grad).abs().max()
