"""Noise models and priors: likelihoods against closed forms, and fits by them against what is known to be best."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

import pysciml as ps

F64 = torch.float64
T = torch.linspace(0.1, 2.0, 20, dtype=F64)


def decay(k, u0=(1.0,)):
    return ps.ODEProblem(lambda t, u: -k * u, torch.tensor(u0, dtype=F64), (0.0, 2.0))


def parameter(value):
    return torch.tensor(value, dtype=F64, requires_grad=True)


def fit(prob, data, loss, **options):
    return ps.fit(prob, data, T, loss=loss, stages=("LBFGS", 60), progress="off", reltol=1e-9, abstol=1e-9, **options)


MEAN, SEEN = np.array([0.5, 2.0, 7.0]), np.array([1.0, 2.0, 5.0])


@pytest.mark.parametrize(
    ("noise", "density"),
    [
        (ps.GaussianNoise(0.7), scipy.stats.norm(MEAN, 0.7).logpdf(SEEN)),
        (ps.LogNormalNoise(0.7), scipy.stats.lognorm(s=0.7, scale=MEAN).logpdf(SEEN)),
        (ps.StudentTNoise(0.7, df=3.0), scipy.stats.t(3.0, MEAN, 0.7).logpdf(SEEN)),
        (ps.PoissonNoise(), scipy.stats.poisson(MEAN).logpmf(SEEN)),
        (ps.NegativeBinomialNoise(0.25), scipy.stats.nbinom(4.0, 4.0 / (4.0 + MEAN)).logpmf(SEEN)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_each_likelihood_against_scipy(noise, density):
    value = noise(torch.from_numpy(MEAN), torch.from_numpy(SEEN))
    assert value.item() == pytest.approx(-density.mean(), rel=1e-12)


def test_samples_have_the_moments_of_the_noise():
    mean = torch.full((100_000,), 5.0, dtype=F64)
    counts = ps.NegativeBinomialNoise(0.2).sample(mean)
    assert counts.mean().item() == pytest.approx(5.0, rel=0.02)
    assert counts.var().item() == pytest.approx(5.0 + 0.2 * 25, rel=0.05)
    assert ps.LogNormalNoise(0.3).sample(mean).log().std().item() == pytest.approx(0.3, rel=0.02)


def test_a_learned_scale_is_the_spread_of_the_residuals_of_each_component():
    torch.manual_seed(1)
    k, spread = parameter(0.4), torch.tensor([0.05, 0.2], dtype=F64)
    truth = torch.exp(-T)[:, None].repeat(1, 2) * torch.tensor([1.0, 2.0], dtype=F64)
    data = truth + spread * torch.randn(20, 2, dtype=F64)
    data[3, 1] = math.nan
    noise = ps.GaussianNoise(torch.full((2,), 0.1), learn=True)
    result = fit(decay(k, (1.0, 2.0)), data, noise)
    rest = result.solution.u - data
    residual = (rest.nan_to_num() ** 2).sum(0) / (~rest.isnan()).sum(0)
    torch.testing.assert_close(noise.sigma.detach(), residual.sqrt(), rtol=1e-3, atol=0)
    assert list(result.parameters) == ["k", "log_sigma"]


def test_outliers_move_a_fit_by_students_t_less():
    data = torch.exp(-T)[:, None].clone()
    data[[4, 11]] += 1.0
    found = {}
    for noise in (ps.GaussianNoise(0.05), ps.StudentTNoise(0.05)):
        k = parameter(0.7)
        fit(decay(k), data, noise)
        found[type(noise).__name__] = abs(k.item() - 1.0)
    assert found["StudentTNoise"] < found["GaussianNoise"] / 20


def test_a_prior_draws_towards_it_as_bayes_says():
    """A gaussian likelihood of the initial state of u' = 0, and a gaussian prior: the posterior's mean is known."""
    torch.manual_seed(2)
    level = parameter([0.0])
    prob = ps.ODEProblem(lambda t, u: 0.0 * u, level, (0.0, 2.0))
    data = 3.0 + torch.randn(20, 1, dtype=F64)
    prior = ps.Prior({"u0": torch.distributions.Normal(1.0, 0.5)})
    fit(prob, data, ps.GaussianNoise(1.0), regularization=prior)
    weights = 20.0, 1 / 0.25
    expected = (weights[0] * data.mean().item() + weights[1] * 1.0) / sum(weights)
    assert level.item() == pytest.approx(expected, rel=1e-6)


def test_what_cannot_be_meant_is_refused():
    k = parameter(0.4)
    data = torch.exp(-T)[:, None]
    with pytest.raises(ps.InvalidInputError, match="must be positive"):
        ps.GaussianNoise(0.0)
    with pytest.raises(ps.InvalidInputError, match="broadcast to the data"):
        fit(decay(k), data, ps.GaussianNoise(torch.ones(3)))
    with pytest.raises(ps.InvalidInputError, match=r"only a noise model has[\s\S]*GaussianNoise"):
        fit(decay(k), data, None, regularization=ps.Prior({"k": torch.distributions.Normal(0.0, 1.0)}))
    with pytest.raises(ps.InvalidInputError, match=r"nothing that is fitted is called 'rate'[\s\S]*k"):
        fit(decay(k), data, ps.GaussianNoise(0.1), regularization=ps.Prior({"rate": torch.distributions.Normal(0, 1)}))
    with pytest.raises(ps.InvalidInputError, match="torch distribution for each name"):
        ps.Prior({"k": 1.0})
