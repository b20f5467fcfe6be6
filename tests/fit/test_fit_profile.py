"""Profile likelihoods against closed forms, and where data bound a parameter on one side or not at all."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import pysciml as ps

F64 = torch.float64
T = torch.linspace(0.0, 2.0, 21, dtype=F64)
TIGHT = {"reltol": 1e-10, "abstol": 1e-10, "progress": "off"}


def parameter(value):
    return torch.tensor(value, dtype=F64, requires_grad=True)


def data(spread=0.05, seed=0):
    torch.manual_seed(seed)
    return 2.0 * torch.exp(-0.7 * T)[:, None] + spread * torch.randn(21, 1, dtype=F64)


def fitted(k, u0, seen, **options):
    prob = ps.ODEProblem(lambda t, u: -k * u, u0, (0.0, 2.0))
    return ps.fit(prob, seen, T, loss=ps.GaussianNoise(0.05), stages=("LBFGS", 60), **TIGHT, **options)


def test_the_deviance_is_that_of_the_best_other_parameter():
    """Of u0 exp(-k t) the best u0 at each k is a linear regression."""
    seen = data()
    result = fitted(parameter(0.5), parameter([1.0]), seen)
    found = ps.profile_likelihood(result, "k", points=7)

    def misfit(k):
        shape = torch.exp(-k * T)
        y = seen[:, 0]
        return float(((y - (y @ shape) / (shape @ shape) * shape) ** 2).sum()) / 0.05**2

    expected = np.array([misfit(k) for k in found.values]) - misfit(found.best)
    np.testing.assert_allclose(found.deviance, expected, rtol=1e-3, atol=1e-4)
    assert found.identifiable
    std = ps.laplace(result).std[1].item()
    assert found.low == pytest.approx(found.best - 1.96 * std, abs=0.15 * std)  # nearly a parabola
    assert found.high == pytest.approx(found.best + 1.96 * std, abs=0.15 * std)


def test_a_number_inside_a_tensor_is_held_and_everything_is_as_it_was_after():
    p = parameter([0.5, 1.0])
    prob = ps.ODEProblem(lambda t, u, p: -p[0] * u + 0 * p[1], parameter([1.0]), (0.0, 2.0), p)
    result = ps.fit(prob, data(), T, loss=ps.GaussianNoise(0.05), stages=("LBFGS", 60), **TIGHT)
    before = p.detach().clone()
    found = ps.profile_likelihood(result, "p[0]", [0.6, 0.7, 0.8])
    assert (found.deviance >= -1e-6).all()
    torch.testing.assert_close(p.detach(), before, rtol=0, atol=0)
    flat = ps.profile_likelihood(result, "p[1]", [-5.0, 1.0, 5.0])
    np.testing.assert_allclose(flat.deviance, 0.0, atol=1e-6)
    assert not flat.identifiable
    assert (flat.low, flat.high) == (-math.inf, math.inf)


def test_a_bound_on_one_side():
    """A fast variable that has settled before the first observation: its rate may be anything above."""
    k = parameter(30.0)
    prob = ps.ODEProblem(lambda t, u: -k * (u - 1.0), torch.zeros(1, dtype=F64), (0.0, 2.0))
    times = torch.linspace(0.5, 2.0, 16, dtype=F64)
    torch.manual_seed(0)
    seen = 1.0 + 0.05 * torch.randn(16, 1, dtype=F64)
    result = ps.fit(prob, seen, times, loss=ps.GaussianNoise(0.05), epochs=0, **TIGHT)
    found = ps.profile_likelihood(result, "k", [2.0, 4.0, 8.0, 16.0, 60.0, 200.0])
    assert 2.0 < found.low < 16.0
    assert found.high == math.inf


def test_what_cannot_be_meant_is_refused():
    result = fitted(parameter(0.5), parameter([1.0]), data())
    with pytest.raises(ps.InvalidInputError, match=r"called 'rate'[\s\S]*u0\[0\], k"):
        ps.profile_likelihood(result, "rate")
    with pytest.raises(ps.InvalidInputError, match="finite numbers"):
        ps.profile_likelihood(result, "k", [math.nan])
    with pytest.raises(ps.InvalidInputError, match="between 0 and 1"):
        ps.profile_likelihood(result, "k", confidence=95)
