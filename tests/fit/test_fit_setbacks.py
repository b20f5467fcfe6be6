"""Where no loss can be computed: solutions that really blow up, losses that are not finite. And all is not lost."""

import math

import pytest
import torch
from fit_cases import F64, blow_up, blow_up_data, decay, decay_data, number

import pysciml as ps
from pysciml.fit import FitError, Stage, fit


def test_adam_survives_a_blow_up_with_smaller_steps():
    a = number(0.2)
    result = fit(blow_up(a), *blow_up_data(), stages=Stage("adam", 80, lr=1.5), clip=0.1, progress="off")
    assert result.failures > 0
    assert result.history.failures[1] == result.failures  # the first step went to a = 1.7
    assert result.history.lr[0] == 0.0
    assert result.history.lr[1] < 1.5
    assert a.item() == pytest.approx(0.5, abs=0.02)
    assert all(map(math.isfinite, result.history.loss))


def test_lbfgs_survives_a_blow_up_within_its_line_search():
    a = number(0.2)
    result = fit(blow_up(a), *blow_up_data(), stages=Stage("lbfgs", 40), progress="off")
    assert result.failures > 0
    assert a.item() == pytest.approx(0.5, abs=1e-4)


def test_plain_lbfgs_without_line_search_survives_too():
    a = number(0.2)
    stage = Stage(lambda tensors: torch.optim.LBFGS(tensors, lr=1.0, max_iter=1), 40)
    result = fit(blow_up(a), *blow_up_data(), stages=stage, progress="off")
    assert result.failures > 0
    assert a.item() == pytest.approx(0.5, abs=1e-3)


def test_a_loss_that_is_not_finite_is_a_setback_too():
    k = number(0.2)
    data, t = decay_data()

    def loss(predicted, observed):  # log of a negative number beyond k = 2
        return (predicted - observed).square().mean() * (1 + 0 * torch.log(2 - k))

    result = fit(decay(k), data, t, loss=loss, stages=Stage("sgd", 60, lr=40.0), progress="off")
    assert result.failures > 0
    assert k.item() == pytest.approx(1, abs=0.1)


def test_failures_in_a_row_end_it_with_the_best_so_far():
    k = number(0.3)
    data, t = decay_data()
    epochs = []

    def loss(predicted, observed):
        value = (predicted - observed).square().mean()
        return value * math.nan if len(epochs) >= 3 else value

    with pytest.raises(FitError, match=r"4 attempts in a row failed in epoch 4 \(Adam\): the loss is nan") as caught:
        fit(decay(k), data, t, loss=loss, stages=Stage("adam", 20, lr=0.1), max_failures=4, callback=epochs.append,
            progress="off")  # fmt: skip
    result = caught.value.result
    assert (result.stopped, result.failures, result.epochs) == ("solve failed", 4, 3)
    assert result.loss == min(result.history.loss)
    assert k.item() == result.values[0].item() == pytest.approx(0.6, abs=0.02)
    assert "error.result" in str(caught.value)


def test_a_real_blow_up_that_stays_is_chained_as_the_cause():
    a, t0 = number(0.9), []

    def f(t, u):
        return (a + 5.0 * bool(t0)) * u**2

    prob = ps.ODEProblem(f, torch.ones(1, dtype=F64), (0.0, 1.0))
    with pytest.raises(FitError) as caught:
        fit(prob, *blow_up_data(), stages=("adam", 9), callback=t0.append, max_failures=3, progress="off")
    assert isinstance(caught.value.__cause__, ps.SolveError)
    assert "CVODE_BDF stopped" in str(caught.value)


def test_no_loss_at_the_start_is_said_at_once():
    with pytest.raises(FitError, match="cannot be computed at the start") as caught:
        fit(blow_up(number(1.5)), *blow_up_data(), progress="off")
    assert caught.value.result is None
    assert isinstance(caught.value.__cause__, ps.SolveError)
    assert "MultipleShooting" in caught.value.fix


def test_a_forecast_that_blows_up_is_infinitely_bad_and_no_failure():
    data, t = blow_up_data()
    a = number(0.2)
    wrong = data.clone()
    wrong[:4] = 1 / (1 - 1.05 * t[:4, None])  # early data speak for a blow-up before the end
    result = fit(blow_up(a), wrong, t, val=0.6, stages=Stage("lbfgs", 30), progress="off")
    assert math.inf in result.history.val_loss
    assert math.isfinite(result.val_loss)
    assert result.val_loss == min(result.history.val_loss)
    assert a.item() < 1


def test_errors_of_the_users_own_arrive_unchanged_with_the_best_in_place():
    k, epochs = number(0.3), []

    def loss(predicted, observed):
        if len(epochs) == 3:
            raise ZeroDivisionError("mine")
        return (predicted - observed).square().mean()

    with pytest.raises(ZeroDivisionError, match="mine"):
        fit(decay(k), *decay_data(), loss=loss, stages=Stage("adam", 9, lr=0.1), callback=epochs.append, progress="off")
    assert k.item() == pytest.approx(0.6, abs=0.02)


def test_ctrl_c_in_a_callback_returns_the_best_so_far():
    def callback(history):
        if len(history) == 6:
            raise KeyboardInterrupt

    k = number(0.3)
    result = fit(decay(k), *decay_data(), stages=Stage("adam", 99, lr=0.05), callback=callback, progress="off")
    assert (result.stopped, result.epochs) == ("interrupted", 5)
    assert result.loss == min(result.history.loss)
    assert k.item() == result.values[0].item()
