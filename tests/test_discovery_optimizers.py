"""pysindy's own optimizers inside `discover`: what they find is what pysindy finds, with intervals."""

from __future__ import annotations

import copy
import math

import numpy as np
import pysindy
import pytest
import torch

import pysciml as ps

F64 = torch.float64
T = torch.linspace(0, 9, 200, dtype=F64)
STATES = torch.stack([2 + torch.sin(T), 2 + torch.cos(1.7 * T)], dim=1)
PRODUCT = STATES[:, 0] * STATES[:, 1]
OUTPUTS = torch.stack([-0.4 * PRODUCT, 0.3 * PRODUCT - 0.1 * STATES[:, 1] ** 2], dim=1)
TERMS = ("1", "x", "y", "x²", "x y", "y²")
TRUE = {("a", "x y"): -0.4, ("b", "x y"): 0.3, ("b", "y²"): -0.1}


def noisy(size: float = 0.02, seed: int = 0) -> torch.Tensor:
    return OUTPUTS + size * torch.randn(OUTPUTS.shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def discover(y=OUTPUTS, **options):
    return ps.discover(STATES, y, **{"names": ("x", "y"), "targets": ("a", "b"), "bootstraps": 10, **options})


def conserving(**options):
    """a's and b's coefficients of x y add to nothing: columns are terms, and targets within each."""
    pytest.importorskip("cvxpy")  # pysindy's constrained optimizers are built on it
    lhs = np.zeros((1, 12))
    lhs[0, 2 * TERMS.index("x y") : 2 * TERMS.index("x y") + 2] = 1.0
    return pysindy.ConstrainedSR3(
        constraint_lhs=lhs, constraint_rhs=np.zeros(1), constraint_order="feature", equality_constraints=True,
        reg_weight_lam=1e-3, relax_coeff_nu=1e-2, max_iter=5000, tol=1e-10, **options,
    )  # fmt: skip


def lasso():
    from sklearn.linear_model import Lasso

    return pysindy.WrappedOptimizer(Lasso(alpha=2e-3, fit_intercept=False, max_iter=100000))


OPTIMIZERS = {
    "STLSQ": lambda: pysindy.STLSQ(threshold=0.05),
    "STLSQ on columns of one length": lambda: pysindy.STLSQ(threshold=2.0, alpha=1e-6, normalize_columns=True),
    "SR3": lambda: pysindy.SR3(reg_weight_lam=1e-3, max_iter=1000),
    "SSR": lambda: pysindy.SSR(alpha=1e-6),
    "FROLS": lambda: pysindy.FROLS(),
    "bagging": lambda: pysindy.EnsembleOptimizer(pysindy.STLSQ(threshold=0.05), bagging=True, n_models=10),
    "library ensemble": lambda: pysindy.EnsembleOptimizer(
        pysindy.STLSQ(threshold=0.05), library_ensemble=True, n_models=10
    ),
    "scikit-learn's": lasso,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_finds_the_law_with_its_own_options(name):
    optimizer = OPTIMIZERS[name]()
    law = discover(optimizer=optimizer)
    assert {(t, term) for t in law.targets for term in law.kept(t)} == set(TRUE)
    for (target, term), truth in TRUE.items():
        value, low, high, inclusion = law.coefficient(target, term)
        assert value == pytest.approx(truth, abs=2e-3)
        assert low - 1e-6 <= value <= high + 1e-6
        assert inclusion == 1.0
    assert not hasattr(optimizer, "coef_")  # it is a copy that was fitted
    assert type(optimizer).__name__ in law.resampled


def test_the_coefficients_are_pysindys_own():
    optimizer = pysindy.SR3(reg_weight_lam=2e-3, relax_coeff_nu=0.5, max_iter=1000)
    y = noisy()
    model = pysindy.SINDy(optimizer=copy.deepcopy(optimizer), feature_library=pysindy.PolynomialLibrary(degree=2))
    model.fit(STATES.numpy(), t=T.numpy(), x_dot=y.numpy())
    law = discover(y, optimizer=optimizer)
    np.testing.assert_allclose(law.coefficients.numpy(), model.coefficients(), rtol=1e-8, atol=1e-12)


def test_its_own_threshold_is_kept_and_not_a_share_of_the_target():
    """1000 times the target is 1000 times the coefficients, which then are above the threshold."""
    optimizer = pysindy.STLSQ(threshold=0.15)
    assert discover(optimizer=optimizer).kept("b") == ["x y"]
    assert discover(1000 * OUTPUTS, optimizer=optimizer).kept("b") == ["x y", "y²"]


def test_a_constraint_holds_in_the_law_and_in_each_of_its_resamples():
    law = discover(noisy(), optimizer=conserving(), bootstraps=5)
    place = law.terms.index("x y")
    assert law.terms == TERMS
    assert float(law.coefficients[:, place].sum()) == pytest.approx(0.0, abs=1e-5)
    assert law.samples[:, :, place].sum(dim=1).abs().max() < 1e-5
    assert law.coefficients[1, place].abs() > 0.2
    free = discover(noisy(), optimizer=pysindy.STLSQ(threshold=0.05))
    assert float(free.coefficients[:, place].sum()) == pytest.approx(-0.1, abs=0.02)


def test_an_excluded_term_has_no_column_in_the_constraint():
    with pytest.raises(ps.InvalidInputError, match=r"ConstrainedSR3 cannot fit[\s\S]*x, y, x², x y, y²[\s\S]*column"):
        discover(optimizer=conserving(), exclude=("1",))


def test_the_sparsest_of_a_given_number_of_terms():
    pytest.importorskip("gurobipy")
    law = discover(noisy(), optimizer=pysindy.MIOSR(target_sparsity=3), bootstraps=3)
    assert {(t, term) for t in law.targets for term in law.kept(t)} == set(TRUE)


def test_intervals_cover_the_truth_and_the_error_is_cross_validated():
    law = discover(noisy(0.05, seed=2), optimizer=pysindy.STLSQ(threshold=0.05), bootstraps=60, block=1)
    for (target, term), truth in TRUE.items():
        value, low, high, _ = law.coefficient(target, term)
        assert low < truth < high
        assert high - low < 0.1
        assert value == pytest.approx(truth, abs=0.02)
    (candidate,) = law.path[0]
    assert candidate.terms == ("x y",)
    assert candidate.error == pytest.approx(0.05**2 / float(OUTPUTS[:, 0].square().mean()), rel=0.5)
    assert math.isnan(law.thresholds[0])
    assert "R²" in repr(law)


def test_refits_are_each_fitted_by_the_optimizer():
    refits = [(STATES, scale * OUTPUTS) for scale in (0.8, 1.0, 1.2)]
    law = discover(optimizer=pysindy.SSR(alpha=1e-6), refits=refits)
    assert law.samples[:, 0, law.terms.index("x y")].tolist() == pytest.approx([-0.32, -0.4, -0.48], abs=1e-5)
    assert law.resampled == "3 models fitted again to resampled data, each by SSR"


def test_ensembles_come_out_the_same_and_leave_numpys_generator_alone():
    ensemble = OPTIMIZERS["bagging"]()
    np.random.seed(3)  # noqa: NPY002 - the generator that pysindy's ensembles use
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    first = discover(noisy(), optimizer=ensemble)
    assert np.random.rand() == expected  # noqa: NPY002
    assert torch.equal(first.coefficients, discover(noisy(), optimizer=ensemble).coefficients)
    assert not torch.equal(first.coefficients, discover(noisy(), optimizer=ensemble, seed=1).coefficients)


def test_the_first_fit_says_what_it_has_to_say_once():
    with pytest.warns(UserWarning, match="did not converge") as told:
        discover(noisy(0.5), optimizer=pysindy.SR3(reg_weight_lam=1e-3, max_iter=1))
    assert len(told) == 1


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"optimizer": "STLSQ"}, ps.InvalidInputError, "one of pysindy's"),
        ({"optimizer": pysindy.STLSQ(), "threshold": 0.1}, ps.InvalidInputError, "a threshold of its own"),
        ({"optimizer": pysindy.STLSQ(initial_guess=np.ones((1, 2)))}, ps.InvalidInputError, "STLSQ cannot fit"),
    ],
)
def test_what_is_no_optimizer_for_this_is_refused(options, error, match):
    with pytest.raises(error, match=match):
        discover(**options)


def test_an_optimizer_that_gives_no_formula_a_target_is_refused():
    pytest.importorskip("cvxpy")
    with pytest.raises(ps.UnsupportedError, match="SINDyPI does not give one formula a target"):
        discover(optimizer=pysindy.SINDyPI())
