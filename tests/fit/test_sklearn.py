"""The estimator in scikit-learn's world: its own checks, pipelines and searches; and the equations it finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

from pysciml.sklearn import UDERegressor

T = np.linspace(0.0, 3.0, 31)


class Chain(torch.nn.Module):
    def __init__(self, a=0.5, b=0.5):
        super().__init__()
        self.rates = torch.nn.Parameter(torch.tensor([a, b], dtype=torch.float64))

    def forward(self, t, u):
        return torch.stack([-self.rates[0] * u[0], self.rates[0] * u[0] - self.rates[1] * u[1]])


def chain(t, a=1.5, b=0.7):
    return np.stack([2 * np.exp(-a * t), 2 * a / (b - a) * (np.exp(-a * t) - np.exp(-b * t))], axis=1)


def model(**options):
    return UDERegressor(Chain(), **{"stages": ("LBFGS", 40), "reltol": 1e-9, "abstol": 1e-9, **options})


def test_an_equation_is_found_and_solved_on_both_sides_of_the_data():
    order = np.random.default_rng(0).permutation(31)
    fitted = model().fit(T[order, None] + 1.0, chain(T)[order])
    np.testing.assert_allclose(fitted.f_.rates.detach(), [1.5, 0.7], rtol=1e-4)
    np.testing.assert_allclose(fitted.u0_, [2.0, 0.0], atol=1e-5)
    assert fitted.t0_ == 1.0
    asked = np.array([5.0, 0.5, 1.0, 2.0, 5.0])
    np.testing.assert_allclose(fitted.predict(asked[:, None]), chain(asked - 1.0), atol=1e-4)
    assert fitted.score(T[:, None] + 1.0, chain(T)) > 1 - 1e-8
    assert model().f.rates.tolist() == [0.5, 0.5]  # what was given is as it was


def test_a_known_start_is_not_fitted_and_repeated_times_count_each():
    data = np.concatenate([chain(T), chain(T) + 0.1, chain(T)[:1] - 0.2])
    times = np.concatenate([T, T, T[:1]])
    fitted = model(u0=[2.0, 0.0]).fit(times[:, None], data)
    assert list(fitted.result_.parameters) == ["rates"]
    assert fitted.u0_.tolist() == [2.0, 0.0]
    weighed = fitted.result_.trajectories[0]
    assert weighed.weights[0][:2, 0].tolist() == [3.0, 2.0]
    np.testing.assert_allclose(weighed.data[0][0], chain(T)[0] + (0.1 - 0.2) / 3)


def test_cross_validation_pipelines_and_searches():
    folds = TimeSeriesSplit(3)
    scores = cross_val_score(model(), T[:, None], chain(T), cv=folds)
    assert scores.min() > 0.99
    minutes = make_pipeline(FunctionTransformer(lambda t: t / 60), model()).fit(60 * T[:, None], chain(T))
    np.testing.assert_allclose(minutes.predict(np.array([[60.0]])), chain(np.array([1.0])), atol=1e-4)
    search = GridSearchCV(model(), {"stages": [("LBFGS", 1), ("LBFGS", 40)]}, cv=folds).fit(T[:, None], chain(T))
    assert search.best_params_ == {"stages": ("LBFGS", 40)}


def test_a_neural_ode_where_nothing_is_known():
    y = 300 + 20 * np.sin(2 * T)
    fitted = UDERegressor(epochs=(100, 60), random_state=1).fit(T[:, None] * 1e3, y)
    assert fitted.score(T[:, None] * 1e3, y) > 0.99
    again = UDERegressor(epochs=(100, 60), random_state=1).fit(T[:, None] * 1e3, y)
    assert (again.predict(T[:, None]) == fitted.predict(T[:, None])).all()


def checks():
    made = UDERegressor(hidden=2, epochs=(1, 1), reltol=1e-10, abstol=1e-10)
    for estimator, check in estimator_checks_generator(made, legacy=True):
        yield pytest.param(estimator, check, id=getattr(check, "func", check).__name__)


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learns_own_checks(estimator, check, monkeypatch):
    """Of the several features that they make up, the first one is the time here."""
    monkeypatch.setattr("pysciml.sklearn._column", lambda X: X[:, 0])
    check(estimator)


def test_what_is_no_time_is_refused():
    with pytest.raises(ValueError, match="one column, the time, and has 2 features"):
        model().fit(np.zeros((4, 2)), np.zeros(4))
    with pytest.raises(ValueError, match="two different times"):
        model().fit(np.zeros((4, 1)), np.zeros((4, 2)))
