"""Neural stochastic equations train, a latent one with its Kullback-Leibler term too."""

from __future__ import annotations

import math

import pytest
import torch
from sde_cases import ENGINES, F64

import pysciml as ps

engines = pytest.mark.parametrize("engine", ENGINES)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.f = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
        self.log_sigma = torch.nn.Parameter(torch.tensor(-2.5, dtype=F64))


@engines
def test_a_neural_sde_learns_mean_and_spread_of_a_process(engine):
    """Drift by a network and a level of noise, from moments of an Ornstein-Uhlenbeck process around 1."""
    torch.manual_seed(1)
    net, times = Net(), [0.5, 1.0, 1.5, 2.0]
    t = torch.tensor(times, dtype=F64)
    mean, variance = 1 - torch.exp(-1.5 * t), 0.3**2 / 3.0 * (1 - torch.exp(-3.0 * t))
    prob = ps.SDEProblem(lambda t, u: net.f(u), lambda t, u: net.log_sigma.exp() * torch.ones_like(u),
                         torch.zeros(1, dtype=F64), (0.0, 2.0))  # fmt: skip
    many = ps.EnsembleProblem(prob, trajectories=64)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)

    def loss(seed: int) -> torch.Tensor:
        u = ps.solve_ensemble(many, ps.EM(), dt=0.05, saveat=times, seed=seed, engine=engine).u[..., 0]
        return (u.mean(0) - mean).square().mean() + 10 * (u.var(0) - variance).square().mean()

    start = loss(0).item()
    for step in range(80):
        optimizer.zero_grad()
        value = loss(step)
        value.backward()
        optimizer.step()
    end = sum(loss(1000 + k).item() for k in range(5)) / 5
    assert end < 0.05 * start
    assert abs(net.log_sigma.exp().item() - 0.3) < 0.1


class Latent(torch.nn.Module):
    """A posterior drift, and the prior's; both have the diffusion."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()

    def f(self, t, y):
        return self.net(torch.cat([y, t * torch.ones_like(y)], dim=1))

    def h(self, t, y):
        return -y

    def g(self, t, y):
        return 0.5 * torch.ones_like(y)


@engines
def test_a_latent_sde_trains_with_its_penalty(engine):
    """The bound on the likelihood of noisy data rises: paths near the data, at a price in the divergence."""
    torch.manual_seed(2)
    model, ts = Latent(), torch.linspace(0.0, 2.0, 9, dtype=F64)
    data = torch.sin(3 * ts)
    y0 = torch.zeros(16, 1, dtype=F64)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)

    def parts(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        ys, divergence = ps.sdeint(model, y0, ts, method="euler", dt=0.05, logqp=True, seed=seed, engine=engine)
        fit = -0.5 * ((ys[..., 0] - data[:, None]) / 0.2).square().sum(0).mean()
        return fit, divergence.sum(0).mean()

    with torch.no_grad():
        fit, kl = parts(999)
    before = (kl - fit).item()
    for step in range(60):
        optimizer.zero_grad()
        fit, kl = parts(step)
        (kl - fit).backward()
        optimizer.step()
    with torch.no_grad():
        fit, kl = parts(999)
    assert (kl - fit).item() < 0.5 * before
    assert kl.item() > 0
    assert math.isfinite(kl.item())
