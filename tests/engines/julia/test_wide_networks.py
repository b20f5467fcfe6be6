"""Gradients of wide networks in Julia, made of the vectors of outer products: against torch's own backward pass."""

from __future__ import annotations

import itertools

import pytest
import torch
from problems import vector

import pysciml as ps
from pysciml.rhs.trace import prepare_for

pytestmark = pytest.mark.julia
TIGHT = {"reltol": 1e-10, "abstol": 1e-10}


def network(*sizes: int) -> torch.nn.Sequential:
    torch.manual_seed(0)
    layers = [x for a, b in itertools.pairwise(sizes) for x in (torch.nn.Linear(a, b), torch.nn.Tanh())]
    return torch.nn.Sequential(*layers[:-1]).double()


def few_steps():
    net = network(2, 70, 80, 2)
    return net, ps.ODEProblem(lambda t, u: net(u), vector(1.0, 0.0), (0.0, 1.0)), [0.5, 1.0]


def many_steps():  # more vectors than may wait
    net = network(2, 70, 70, 2)

    def f(t, u):
        return torch.stack([u[1], -u[0]]) + 0.1 * net(u)

    return net, ps.ODEProblem(f, vector(1.0, 0.0), (0.0, 12.0)), torch.linspace(1, 12, 7).tolist()


def rough():  # nothing depends on the state, so the backward solve takes steps as long as they come
    net = network(2, 70, 70, 2)

    def f(t, u):
        return net(torch.stack([torch.sin(40 * t), torch.cos(40 * t)]))

    return net, ps.ODEProblem(f, vector(1.0, 0.0), (0.0, 1.0)), [1.0]


def twice():
    layer = network(70, 70)
    u0 = torch.linspace(-1, 1, 70, dtype=torch.float64)
    return layer, ps.ODEProblem(lambda t, u: layer(torch.tanh(layer(u))) - u, u0, (0.0, 1.0)), [0.4, 1.0]


def backwards():
    net = network(2, 70, 80, 2)
    return net, ps.ODEProblem(lambda t, u: net(u), vector(1.0, 0.0), (1.0, 0.0)), [0.5, 0.0]


PROBLEMS = [few_steps, many_steps, rough, twice, backwards]


def gradient(net, prob, ts, alg, **options) -> torch.Tensor:
    net.zero_grad()
    ps.solve(prob, alg, saveat=torch.tensor(ts, dtype=torch.float64), **options).u.square().mean().backward()
    return torch.cat([p.grad.reshape(-1).double() for p in net.parameters()])


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("sensealg", [ps.GaussAdjoint, ps.DirectAdjoint], ids=lambda s: s.__name__)
@pytest.mark.parametrize("make", PROBLEMS, ids=lambda f: f.__name__)
def test_the_gradient_is_torchs(make, sensealg):
    net, prob, ts = make()
    found = gradient(net, prob, ts, ps.Tsit5(), sensealg=sensealg(), engine="julia", **TIGHT)
    assert prepare_for(prob.f, 0.0, prob.inputs)[1].factored is not None
    assert off(found, gradient(net, prob, ts, ps.DP5(), sensealg=ps.DirectAdjoint(), engine="embedded", **TIGHT)) < 1e-7


def test_float32():
    net, prob, ts = few_steps()
    expected = gradient(net, prob, ts, ps.Tsit5(), engine="julia", **TIGHT)
    small = network(2, 70, 80, 2).float()
    prob = ps.ODEProblem(lambda t, u: small(u), torch.tensor([1.0, 0.0]), (0.0, 1.0))
    for sensealg in (ps.GaussAdjoint(), ps.DirectAdjoint()):
        found = gradient(small, prob, ts, ps.Tsit5(), sensealg=sensealg, engine="julia", reltol=1e-5, abstol=1e-6)
        assert off(found, expected) < 1e-4


def test_many_at_once():
    net, prob, ts = few_steps()
    starts = torch.tensor([[1.0, 0.0], [0.3, -0.4], [-1.0, 0.5]], dtype=torch.float64)
    ts = torch.tensor(ts, dtype=torch.float64)
    for sensealg in (ps.GaussAdjoint(), ps.DirectAdjoint()):
        net.zero_grad()
        options = {"saveat": ts, "engine": "julia", **TIGHT}
        many = ps.solve_ensemble(ps.EnsembleProblem(prob, u0=starts), ps.Tsit5(), sensealg=sensealg, **options)
        many.u.square().sum().backward()
        found = torch.cat([p.grad.reshape(-1) for p in net.parameters()])
        net.zero_grad()
        for u0 in starts:
            one = ps.ODEProblem(prob.f, u0, prob.tspan)
            ps.solve(one, ps.Tsit5(), **options).u.square().sum().backward()
        assert off(found, torch.cat([p.grad.reshape(-1) for p in net.parameters()])) < 1e-8
