"""The studies behind the notebooks, on a few data sets, and the results that are kept of the whole."""

from __future__ import annotations

import math

import pytest
import torch

import pysciml as ps
from notebooks.studies import kept, laws, recovery, seir
from notebooks.studies import lotka_volterra as lv
from notebooks.studies.row import Row, coefficient_error, is_exact, refitted, relative_error


@pytest.fixture
def law():
    x = torch.linspace(0.5, 2, 60, dtype=torch.float64)[:, None]
    return ps.discover(x, 0.3 * x - 0.2 * x**2, names=("x",), targets=("dx",), bootstraps=2)


def test_a_law_is_exact_when_it_has_the_true_terms_and_no_others(law):
    assert is_exact(law, {"dx": {"x": 0.3, "x²": -0.2}})
    assert not is_exact(law, {"dx": {"x": 0.3}})
    assert not is_exact(law, {"dx": {"1": 1.0, "x": 0.3, "x²": -0.2}})


def test_the_worst_coefficient_counts_and_one_that_is_missing_is_all_wrong(law):
    assert coefficient_error(law, {"dx": {"x": 0.3, "x²": -0.25}}) == pytest.approx(0.2, abs=1e-6)
    assert coefficient_error(law, {"dx": {"1": 5.0}}) == 1


def test_a_law_takes_the_coefficients_its_module_was_fitted_to(law):
    module = law.module()
    with torch.no_grad():
        module.coefficients.mul_(2)
    assert refitted(law, module).coefficient("dx", "x")[0] == pytest.approx(0.6, abs=1e-6)
    assert law.coefficient("dx", "x")[0] == pytest.approx(0.3, abs=1e-6)


def test_an_error_of_one_is_that_of_the_mean():
    truth = torch.tensor([[1.0, 4.0], [3.0, 8.0]])
    assert relative_error(truth.mean(dim=0).expand(2, 2), truth) == pytest.approx(1)
    assert relative_error(truth, truth) == 0


@pytest.mark.slow
def test_the_interaction_of_prey_and_predators_is_found_exactly_and_extrapolates():
    """Of four data sets in three at least: what a training ends in depends on rounding, which processors differ in."""
    each = [lv.recover(noise=0.005, seed=seed, engine="embedded") for seed in range(4)]
    exact = [found for found in each if is_exact(found.law, lv.TRUE)]
    assert len(exact) >= 3
    for found in exact:
        assert coefficient_error(found.final, lv.TRUE) < 0.005
        assert lv.extrapolated(found.final, found.again, engine="embedded") < 0.02


@pytest.mark.slow
def test_a_study_writes_a_line_for_each_data_set_and_method_and_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "RESULTS", tmp_path)
    monkeypatch.setattr(recovery, "NOISE", (0.005,))
    monkeypatch.setattr(recovery, "SAMPLING", ((5.0, 0.2),))
    recovery.main(seeds=1, engine="embedded")
    lines = kept.read_csv("recovery.csv")
    assert {x["method"] for x in lines} == {*recovery.METHODS, "network"}
    assert tuple(lines[0]) == recovery.COLUMNS
    report = (tmp_path / "recovery.md").read_text("utf-8")
    assert "python -m notebooks.studies recovery --seeds 1 --engine embedded" in report
    assert "| 0 to 5 every 0.2 | 0.5% |" in report


def test_rates_count_what_is_exact_and_close_enough():
    lines = [{"exact": e, "coefficient error": c} for e, c in ((1, 0.001), (1, 0.05), (0, 0.001), (0, 1.0))]
    assert recovery.rate(lines) == 0.5
    assert recovery.rate(lines, within=0.01) == 0.25


@pytest.mark.slow
def test_the_law_of_exposure_is_found_from_the_ill_and_the_recovered():
    found = seir.recover(seed=0, engine="embedded")
    assert is_exact(found.law, seir.TRUE)
    assert coefficient_error(found.law, seir.TRUE) < 0.01


def test_the_table_of_laws_has_a_line_for_each_problem_and_engine():
    text = laws.report([Row("a problem", "embedded", "dx = 0.3 x", True, 0.001, 0.02, 1.25)])
    assert "| a problem | embedded | dx = 0.3 x | yes | 0.10% | 2.00% | 1.2 |" in text


def test_every_problem_of_the_table_can_be_asked():
    import importlib

    assert all(callable(importlib.import_module(f"notebooks.studies.{name}").row) for name in laws.PROBLEMS)


def test_the_kept_rates_are_of_ten_data_sets_and_every_level_of_noise():
    lines = kept.read_csv("recovery.csv")
    cases = {(x["span"], x["step"], x["noise"]) for x in lines}
    assert cases == {(span, step, noise) for span, step in recovery.SAMPLING for noise in recovery.NOISE}
    for method in recovery.METHODS:
        seeds = [x["seed"] for x in recovery.select(lines, span=5.0, step=0.1, noise=0.005, method=method)]
        assert seeds == list(range(10))


def test_the_kept_table_has_every_problem_by_both_engines():
    rows = kept.read_csv("laws.csv")
    assert len(rows) == len({(r["problem"], r["engine"]) for r in rows}) == len(laws.PROBLEMS) * len(laws.ENGINES)
    assert all(math.isfinite(r["seconds"]) for r in rows)
