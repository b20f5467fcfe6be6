"""Fisher's information and the Laplace approximation against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

import pysciml as ps

F64 = torch.float64
T = torch.linspace(0.0, 2.0, 21, dtype=F64)
TIGHT = {"reltol": 1e-10, "abstol": 1e-10, "progress": "off"}


def parameter(value):
    return torch.tensor(value, dtype=F64, requires_grad=True)


def decay(k, u0, noise, data=None, **options):
    """A fit of u = u0 exp(-k t)."""
    prob = ps.ODEProblem(lambda t, u: -k * u, u0, (0.0, 2.0))
    data = 2.0 * torch.exp(-0.7 * T)[:, None] if data is None else data
    return ps.fit(prob, data, T, loss=noise, stages=("LBFGS", 60), **TIGHT, **options)


def jacobian(k, u0):
    """Of u at the times in (u0, k)."""
    u = torch.exp(-k * T)
    return torch.stack([u, -u0 * T * u], dim=1)


@pytest.mark.parametrize(
    ("noise", "weight"),
    [
        (lambda: ps.GaussianNoise(0.1), lambda u: 100.0 + 0 * u),
        (lambda: ps.GaussianNoise(torch.linspace(0.1, 0.2, 21)[:, None]), lambda u: torch.linspace(0.1, 0.2, 21) ** -2),
        (lambda: ps.LogNormalNoise(0.2), lambda u: 25 / u**2),
        (lambda: ps.StudentTNoise(0.1, df=3.0), lambda u: 100 * 4 / 6 + 0 * u),
        (lambda: ps.PoissonNoise(), lambda u: 1 / u),
        (lambda: ps.NegativeBinomialNoise(0.3), lambda u: 1 / (u + 0.3 * u**2)),
    ],
    ids=["gaussian", "gaussian, each its own", "log-normal", "student", "poisson", "negative binomial"],
)
def test_information_against_its_closed_form(noise, weight):
    k, u0 = parameter(0.7), parameter([2.0])
    found = ps.fisher_information(decay(k, u0, noise(), epochs=0))
    J, u = jacobian(0.7, 2.0), 2.0 * torch.exp(-0.7 * T)
    expected = J.T @ (weight(u)[:, None] * J)
    assert found.names == ("u0[0]", "k")
    torch.testing.assert_close(found.matrix, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.std, torch.linalg.inv(expected).diagonal().sqrt(), rtol=1e-5, atol=0)


def test_each_information_is_the_mean_square_of_the_score():
    """By the definition, over draws of each noise."""
    torch.manual_seed(0)
    for noise in (ps.GaussianNoise(0.3), ps.LogNormalNoise(0.3), ps.StudentTNoise(0.3, df=5.0), ps.PoissonNoise(),
                  ps.NegativeBinomialNoise(0.4)):  # fmt: skip
        m = torch.full((400_000,), 3.0, dtype=F64, requires_grad=True)
        drawn = noise.sample(m)
        score = torch.autograd.grad(noise(m, drawn) * len(m), m)[0]
        scales = noise.scales(1)
        expected = noise.information(m.detach()[:1], None if scales is None else scales[0])
        assert score.square().mean().item() == pytest.approx(expected.item(), rel=0.02), type(noise).__name__


def test_the_spread_over_many_data_sets_is_what_it_says():
    torch.manual_seed(3)
    found, k, u0 = [], parameter(0.7), parameter([2.0])
    for _ in range(60):
        data = 2.0 * torch.exp(-0.7 * T)[:, None] + 0.05 * torch.randn(21, 1, dtype=F64)
        result = decay(k, u0, ps.GaussianNoise(0.05), data)
        found.append(torch.stack([u0.detach()[0], k.detach()]))
    spread = torch.stack(found).std(dim=0)
    torch.testing.assert_close(spread, ps.laplace(result).std, rtol=0.25, atol=0)  # of 60: 9 % by chance


def test_a_prior_adds_its_own_information_and_settles_what_data_leave_open():
    a, b, noise = parameter(0.5), parameter(1.4), ps.GaussianNoise(0.1)
    prob = ps.ODEProblem(lambda t, u: -a * b * u, torch.tensor([2.0], dtype=F64), (0.0, 2.0))
    data = 2.0 * torch.exp(-0.7 * T)[:, None]
    alone = ps.fit(prob, data, T, loss=noise, stages=("LBFGS", 40), **TIGHT)
    found = ps.fisher_information(alone)
    assert not found.identifiable
    assert found.std.isinf().all()
    assert "leave open" in repr(found)
    with pytest.raises(ps.InvalidInputError, match=r"leave a combination of parameters open[\s\S]*Prior"):
        ps.laplace(alone).sample(3)
    prior = ps.Prior({"a": torch.distributions.Normal(0.5, 0.2), "b": torch.distributions.LogNormal(0.3, 0.1)})
    settled = ps.laplace(ps.fit(prob, data, T, loss=noise, stages=("LBFGS", 60), regularization=prior, **TIGHT))
    assert settled.identifiable
    x = b.item()
    curvature = torch.tensor([1 / 0.04, (1 - (math.log(x) - 0.3)) / 0.01 / x**2 - 1 / x**2], dtype=F64)
    information = ps.fisher_information(alone)  # of the tensors' values then, so compare with its own
    assert information.matrix.shape == settled.matrix.shape
    data_alone = settled.matrix - torch.diag(curvature)
    assert torch.linalg.eigvalsh(data_alone)[0].abs() < 1e-6 * torch.linalg.eigvalsh(data_alone)[1]


def test_samples_have_the_covariance_and_can_be_put_in_place():
    k, u0 = parameter(0.7), parameter([2.0])
    posterior = ps.laplace(decay(k, u0, ps.GaussianNoise(0.1)))
    drawn = posterior.sample(200_000, seed=1)
    torch.testing.assert_close(torch.cov(drawn.T), posterior.covariance, rtol=0.03, atol=1e-6)
    before = k.item()
    with posterior.put(drawn[0]):
        assert [u0.item(), k.item()] == drawn[0].tolist()
    assert k.item() == before


def test_the_scale_of_the_noise_is_not_among_the_parameters():
    k, u0 = parameter(0.7), parameter([2.0])
    data = 2.0 * torch.exp(-0.7 * T)[:, None] + 0.02 * torch.cos(40 * T)[:, None]
    assert ps.laplace(decay(k, u0, ps.GaussianNoise(0.1, learn=True), data)).names == ("u0[0]", "k")


def test_other_losses_are_refused():
    k, u0 = parameter(0.7), parameter([2.0])
    with pytest.raises(ps.InvalidInputError, match=r"only a noise model has[\s\S]*GaussianNoise"):
        ps.laplace(decay(k, u0, None))
    with pytest.raises(ps.InvalidInputError, match=r"prior density[\s\S]*Prior"):
        ps.fisher_information(
            decay(k, u0, ps.GaussianNoise(0.1), epochs=0, regularization=lambda named: named["k"] ** 2)
        )
