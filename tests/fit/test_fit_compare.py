"""Models side by side, against losses and criteria worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

import pysciml as ps

F64 = torch.float64
T = torch.linspace(0.1, 2.0, 20, dtype=F64)


def data(seed=0):
    torch.manual_seed(seed)
    return torch.exp(-T)[:, None] + 0.05 * torch.randn(20, 1, dtype=F64)


def fitted(terms, loss=None, seen=None, **options):
    """u' = -k0 u - k1 u^2 - ..., with so many terms."""
    k = torch.full((terms,), 0.3, dtype=F64, requires_grad=True)

    def f(t, u):
        return -sum(k[i] * u ** (i + 1) for i in range(terms))

    prob = ps.ODEProblem(f, torch.ones(1, dtype=F64), (0.0, 2.0))
    return ps.fit(prob, data() if seen is None else seen, T, loss=loss, stages=("LBFGS", 40), progress="off", **options)


def test_criteria_of_likelihoods():
    results = {"three": fitted(3, ps.GaussianNoise(0.05)), "one": fitted(1, ps.GaussianNoise(0.05))}
    found = ps.compare(results)
    assert found.best == "one"
    for row in found.rows:
        rest = results[row.name].solution.u - data()
        density = torch.distributions.Normal(0.0, 0.05).log_prob(rest).sum().item()
        k = row.parameters
        assert row.loss == pytest.approx(-density / 20, rel=1e-6)
        assert row.aic == pytest.approx(2 * k - 2 * density, rel=1e-6)
        assert row.bic == pytest.approx(k * math.log(20) - 2 * density, rel=1e-6)
    assert found.rows[1].loss <= found.rows[0].loss  # more terms fit no worse
    assert "ΔBIC" in repr(found)
    assert "<table>" in found._repr_html_()


def test_what_was_held_out_decides_where_all_have_it():
    results = {str(n): fitted(n, val=0.4) for n in (1, 2, 4)}
    found = ps.compare(results)
    assert [row.val_loss for row in found.rows] == sorted(row.val_loss for row in found.rows)
    best = results[found.best]
    assert found.rows[0].val_loss == pytest.approx(best.val_loss, rel=1e-9)
    assert math.isnan(found.rows[0].aic)


def test_regularization_is_left_out():
    towards_zero = {"regularization": lambda named: 10 * sum(named.values()).sum() ** 2}
    drawn = fitted(1, ps.GaussianNoise(0.5), **towards_zero)
    (row,) = ps.compare({"drawn": drawn}).rows
    rest = drawn.solution.u - data()
    expected = -torch.distributions.Normal(0.0, 0.5).log_prob(rest).mean().item()
    assert row.loss == pytest.approx(expected, rel=1e-6)
    assert row.loss < drawn.loss


def test_what_cannot_be_compared_is_refused():
    other = data()
    other[3] = math.nan
    with pytest.raises(ps.InvalidInputError, match=r"the same data[\s\S]*\[19, 20\]"):
        ps.compare({"a": fitted(1), "b": fitted(1, seen=other)})
    k = torch.tensor(1.0, dtype=F64, requires_grad=True)
    alone = ps.fit(loss=lambda solve: (k - 2) ** 2, params={"k": k}, epochs=(1, 1), progress="off")
    for wrong in ({}, {"a": alone}, {"a": 1.0}):
        with pytest.raises(ps.InvalidInputError, match="results of fits to data"):
            ps.compare(wrong)
