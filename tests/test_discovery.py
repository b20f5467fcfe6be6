"""Discovery against laws that are known: their terms, their coefficients, and whether the intervals cover them."""

from __future__ import annotations

import sys

import numpy as np
import pysindy
import pytest
import torch

import pysciml as ps
from pysciml.discovery.regression import Samples, cross_validate, pool, resample, sparse_fit, stretches

TRUTH = torch.tensor([[-0.4, 0.0], [0.3, -0.1]], dtype=torch.float64)  # on x y and y^2


def visited(n: int = 200, phase: float = 0.0) -> torch.Tensor:
    """(n, 2) states along a closed curve that tells all terms of degree two apart."""
    t = torch.linspace(0, 9, n, dtype=torch.float64) + phase
    return torch.stack([2 + torch.sin(t), 2 + torch.cos(1.7 * t)], dim=1)


def effect(x: torch.Tensor, noise: float = 0.0, seed: int = 0) -> torch.Tensor:
    terms = torch.stack([x.prod(1), x[:, 1] ** 2], dim=1)
    y = terms @ TRUTH.T
    return y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def discover(x, y, **options):
    return ps.discover(x, y, **{"names": ("x", "y"), "targets": ("a", "b"), "bootstraps": 20, **options})


def test_an_exact_law_is_found_exactly():
    x = visited()
    law = discover(x, effect(x))
    assert law.equations == ["a = -0.4 x y", "b = 0.3 x y - 0.1 y²"]
    assert law.terms == ("1", "x", "y", "x²", "x y", "y²")
    assert law.kept("b") == ["x y", "y²"]
    assert torch.allclose(law.r2, torch.ones(2, dtype=torch.float64))
    assert torch.allclose(law(x), effect(x))
    value, low, high, inclusion = law.coefficient("a", "x y")
    assert (value, low, high, inclusion) == pytest.approx((-0.4, -0.4, -0.4, 1.0))


def test_a_noisy_law_is_found_with_intervals_that_cover_it():
    x = visited(400)
    law = discover(x, effect(x, noise=0.1), bootstraps=100)
    assert law.kept("a") == ["x y"]
    assert law.kept("b") == ["x y", "y²"]
    for target, term, truth in (("a", "x y", -0.4), ("b", "x y", 0.3), ("b", "y²", -0.1)):
        value, low, high, inclusion = law.coefficient(target, term)
        assert low < truth < high
        assert value == pytest.approx(truth, abs=0.02)
        assert high - low < 0.12
        assert inclusion > 0.9
    assert law.coefficient("a", "x")[3] < 0.3


def test_intervals_cover_as_often_as_they_say():
    """Of 95 % intervals from independent data sets nearly all hold the truth, and they are no wider than that takes."""
    x, covered, off, half = visited(100), 0, [], []
    for seed in range(40):
        law = discover(x, effect(x, 0.1, seed)[:, :1], targets=("a",), threshold=0.3, block=1, bootstraps=60)
        value, low, high, _ = law.coefficient("a", "x y")
        covered += low <= -0.4 <= high
        off.append(value + 0.4)
        half.append((high - low) / 2)
    assert covered >= 34  # of 40; P(fewer) is 0.3 % at 95 %
    assert np.mean(half) == pytest.approx(1.96 * np.std(off), rel=0.35)


def test_refits_give_the_spread_between_models_and_not_within_one():
    x = visited()
    y = effect(x)
    scales = (0.8, 0.9, 1.0, 1.1, 1.2)
    law = discover(
        x, y, refits=[(visited(150, 0.1 * i), s * effect(visited(150, 0.1 * i))) for i, s in enumerate(scales)]
    )
    value, low, high, inclusion = law.coefficient("a", "x y")
    assert value == pytest.approx(-0.4)
    assert (low, high) == pytest.approx((-0.476, -0.324))  # the 2.5 % and 97.5 % points of five
    assert inclusion == 1.0
    assert law.samples.shape == (5, 2, 6)
    assert "5 models" in law.resampled


def test_a_term_only_some_refits_need_is_kept_in_so_many():
    x = visited()
    plain = x.prod(1)
    refits = [(x, plain + (0.5 * x[:, 1] ** 2 if i < 2 else 0)) for i in range(8)]
    law = discover(x, plain, refits=refits, targets=("a",), threshold=0.2)
    assert law.coefficient("a", "y²")[3] == 0.25
    assert "25%" in repr(law)


def test_the_path_leads_from_many_terms_to_none_and_the_sparsest_good_one_is_taken():
    x = visited(300)
    law = discover(x, effect(x, noise=1.0))
    assert max(len(c.terms) for path in law.path for c in path) > 2
    for i, path in enumerate(law.path):
        assert len(path[0].terms) >= len(law.kept(i))
        assert path[-1].terms == ()
        assert path[-1].error == pytest.approx(1.0)
        best = min(path, key=lambda c: c.error)
        chosen = next(c for c in path if list(c.terms) == law.kept(i))
        assert chosen.error <= best.error + best.error_se
        assert all(len(c.terms) >= len(chosen.terms) for c in path if c.error <= best.error + best.error_se)


def test_the_threshold_is_a_share_of_the_target_whatever_the_units():
    x = visited()
    kept = [discover(x * unit, effect(x) * 1e4, threshold=0.2).kept("b") for unit in (1e-3, 1.0, 1e3)]
    assert kept[0] == kept[1] == kept[2] == ["x y", "y²"]
    assert discover(x, effect(x), threshold=1.0).equations[1] == "b = 0"


def test_a_target_that_is_zero_has_an_empty_law():
    x = visited()
    law = discover(x, torch.stack([torch.zeros(len(x)), effect(x)[:, 0]], dim=1))
    assert law.equations == ["a = 0", "b = -0.4 x y"]


def test_a_library_may_be_functions_or_pysindys_own():
    x = visited()
    y = torch.sin(x[:, 0]) * 0.7
    table = {"x": lambda x, y: x, "sin(x)": lambda x, y: torch.sin(x), "y": lambda x, y: y}
    assert discover(x, y, library=table, targets=("a",)).equations == ["a = 0.7 sin(x)"]
    law = discover(x, y, library=pysindy.FourierLibrary(n_frequencies=1), targets=("a",))
    assert law.kept("a") == ["sin(1 x)"]
    assert torch.allclose(law(x)[:, 0], y)


def test_a_law_takes_the_networks_place_in_a_compiled_solve():
    x = visited()
    law = discover(x, effect(x), exclude=("1",))
    assert "1" not in law.terms
    u0 = torch.tensor([1.0, 0.5], dtype=torch.float64)
    exact = ps.ODEProblem(lambda t, u: TRUTH @ torch.stack([u[0] * u[1], u[1] ** 2]), u0, (0.0, 2.0))
    found = ps.ODEProblem(lambda t, u: law(u), u0, (0.0, 2.0))
    assert torch.allclose(ps.solve(found, "CVODE_Adams").u, ps.solve(exact, "CVODE_Adams").u, atol=1e-6)


def test_reduced_samples_give_pysindys_own_answer():
    rng = np.random.default_rng(0)
    theta, y = rng.normal(size=(80, 5)) * [1, 10, 0.1, 1, 3], rng.normal(size=80)
    y += theta @ [0.5, 0.1, 0, -1, 0]
    samples = Samples.reduce(theta, y)
    assert samples.theta.shape == (6, 5)
    size, unit = np.sqrt((theta**2).mean(0)), np.sqrt((y**2).mean())
    optimizer = pysindy.STLSQ(threshold=0.2, alpha=0.08).fit(theta / size, y[:, None] / unit)
    expected = optimizer.coef_[0] * unit / size
    assert np.count_nonzero(expected) == 3
    np.testing.assert_allclose(sparse_fit(samples, 0.2, 1e-3), expected, atol=1e-10)
    assert samples.error(expected) == pytest.approx(np.mean((y - theta @ expected) ** 2))
    halves = pool([Samples.reduce(theta[:30], y[:30]), Samples.reduce(theta[30:], y[30:])])
    np.testing.assert_allclose(sparse_fit(halves, 0.2, 1e-3), expected, atol=1e-10)


def test_cross_validation_is_that_of_the_plain_samples():
    rng = np.random.default_rng(1)
    theta, y = rng.normal(size=(50, 3)), rng.normal(size=50)
    kept = np.array([True, False, True])
    errors = []
    for rows in np.array_split(np.arange(50), 5):
        rest = np.setdiff1d(np.arange(50), rows)
        c = np.linalg.lstsq(theta[rest][:, kept], y[rest], rcond=None)[0]
        errors.append(np.mean((y[rows] - theta[rows][:, kept] @ c) ** 2) / np.mean(y**2))
    mean, se = cross_validate(stretches(theta, y, 5), kept)
    assert (mean, se) == pytest.approx((np.mean(errors), np.std(errors, ddof=1) / 5**0.5))


def test_bootstrap_samples_are_blocks_of_neighbours():
    rng = np.random.default_rng(0)
    index = np.arange(1.0, 31.0)
    drawn = resample(np.eye(30), index, 10, rng)
    assert drawn.n == 30
    counts = (drawn.theta**2).sum(0).round().astype(int)  # how often each sample was drawn
    assert counts.sum() == 30
    assert np.count_nonzero(np.diff(np.flatnonzero(counts)) > 1) <= 2  # at most three stretches


def test_a_law_shows_itself():
    x = visited()
    law = discover(x, effect(x))
    assert "a = -0.4 x y    (R² 1.000)" in repr(law)
    assert "kept in" in repr(law)
    assert "<td style='text-align:left'>x y</td>" in law._repr_html_()
    assert "not of nature" in repr(law)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"library": 0}, "which terms"),
        ({"library": True}, "which terms"),
        ({"library": "cubic"}, "which terms"),
        ({"exclude": ("z",)}, "does not have"),
        ({"names": ("x",)}, "one for each column"),
        ({"targets": ("a", "a")}, "all different"),
        ({"threshold": 1.5}, "threshold"),
        ({"ridge": -1.0}, "ridge"),
        ({"bootstraps": 1}, "bootstraps"),
        ({"block": 1000}, "block"),
        ({"confidence": 1.0}, "confidence"),
        ({"refits": [(torch.ones(5, 3), torch.ones(5, 2))]}, "columns"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, match):
    x = visited(50)
    with pytest.raises(ps.InvalidInputError, match=match):
        discover(x, effect(x), **options)


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (torch.ones(5, 2), torch.ones(4, 2), "same number of rows"),
        (torch.ones(5), torch.ones(5, 2), "one row a sample"),
        (torch.ones(0, 2), torch.ones(0, 2), "one row a sample"),
        (torch.ones(5, 2), torch.full((5, 2), torch.nan), "outputs must be finite"),
    ],
)
def test_samples_that_mean_nothing_are_refused(x, y, match):
    with pytest.raises(ps.InvalidInputError, match=match):
        discover(x, y)


def test_without_pysindy_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pysindy", None)
    x = visited(20)
    with pytest.raises(ps.MissingExtraError, match=r"pysciml\[discovery\]"):
        discover(x, effect(x))
