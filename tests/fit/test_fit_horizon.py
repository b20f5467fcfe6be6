"""Stages that look at the first part of the times, and then at more."""

from __future__ import annotations

import math

import pytest
import torch

import pysciml as ps

F64 = torch.float64
T = torch.linspace(0.0, 30.0, 121, dtype=F64)


def oscillator(w):
    def f(t, u):
        return torch.stack([u[1], -(w**2) * u[0]])

    return ps.ODEProblem(f, torch.tensor([1.0, 0.0], dtype=F64), (0.0, 30.0))


def parameter(value):
    return torch.tensor(value, dtype=F64, requires_grad=True)


def observed(w=1.0):
    return torch.stack([torch.cos(w * T), -w * torch.sin(w * T)], dim=1)


GROWING = [ps.Stage("LBFGS", 30, horizon=0.1), ps.Stage("LBFGS", 30, horizon=0.4), ps.Stage("LBFGS", 30)]


def test_growing_horizons_find_a_frequency_that_the_whole_span_misses():
    start = 0.55
    whole, growing = parameter(start), parameter(start)
    ps.fit(oscillator(whole), observed(), T, stages=("LBFGS", 90), progress="off")
    result = ps.fit(oscillator(growing), observed(), T, stages=GROWING, progress="off")
    assert abs(whole.item() - 1.0) > 0.1
    assert growing.item() == pytest.approx(1.0, abs=1e-4)
    assert result.loss < 1e-6
    assert result.history.stage.count("LBFGS") > 3


def test_the_loss_of_a_stage_is_that_of_its_times():
    w = parameter(0.9)
    history = []
    stages = [ps.Stage("SGD", 1, lr=1e-14, horizon=0.25), ps.Stage("SGD", 1, lr=1e-14)]
    ps.fit(
        oscillator(w),
        observed(),
        T,
        stages=stages,
        progress="off",
        callback=lambda h: history.append(h.loss[-1]),
        reltol=1e-9,
        abstol=1e-9,
    )
    rest = torch.stack([torch.cos(0.9 * T), -0.9 * torch.sin(0.9 * T)], dim=1) - observed()
    assert history[0] == pytest.approx(rest[: math.ceil(0.25 * 121)].square().mean().item(), rel=1e-5)
    assert history[1] == pytest.approx(rest.square().mean().item(), rel=1e-5)


def test_a_resumed_fit_goes_on_at_the_horizon_it_was_at(tmp_path):
    plain, cut = parameter(0.7), parameter(0.7)
    through = ps.fit(oscillator(plain), observed(), T, stages=GROWING, progress="off")
    count = iter(range(1000))
    stop = {"callback": lambda _: next(count) == 12}
    ps.fit(oscillator(cut), observed(), T, stages=GROWING, progress="off", checkpoint=tmp_path / "fit.pt", **stop)
    assert cut.item() != plain.item()
    again = ps.fit(oscillator(cut), observed(), T, stages=GROWING, progress="off", checkpoint=tmp_path / "fit.pt",
                   resume=True)  # fmt: skip
    assert cut.item() == plain.item()
    assert again.history.loss == through.history.loss


def test_a_prior_is_weighed_against_the_observations_looked_at():
    w = parameter(0.9)
    seen = []
    prior = ps.Prior({"w": torch.distributions.Normal(1.0, 0.5)})
    stages = [ps.Stage("SGD", 1, lr=1e-14, horizon=0.5), ps.Stage("SGD", 1, lr=1e-14)]
    for more in ({}, {"regularization": prior}):
        ps.fit(oscillator(w), observed(), T, params={"w": w}, loss=ps.GaussianNoise(0.1), stages=stages, progress="off",
               callback=lambda h: seen.append(h.loss[-1]), **more)  # fmt: skip
    drawn = -torch.distributions.Normal(1.0, 0.5).log_prob(torch.tensor(0.9)).item()
    assert seen[2] - seen[0] == pytest.approx(drawn / (2 * math.ceil(0.5 * 121)), rel=1e-3)
    assert seen[3] - seen[1] == pytest.approx(drawn / (2 * 121), rel=1e-3)


def test_what_cannot_be_meant_is_refused():
    w = parameter(0.9)
    with pytest.raises(ps.InvalidInputError, match="above 0 and up to 1"):
        ps.Stage("Adam", 10, horizon=0.0)
    with pytest.raises(ps.InvalidInputError, match=r"solved straight through[\s\S]*shooting=False, horizon=0\.5"):
        ps.fit(oscillator(w), observed(), T, stages=[ps.Stage("Adam", 10, horizon=0.5)], progress="off",
               shooting=ps.MultipleShooting(3))  # fmt: skip
    with pytest.raises(ps.InvalidInputError, match="solved straight through"):
        ps.fit(loss=lambda solve: w**2, params=[w], stages=[ps.Stage("Adam", 10, horizon=0.5)], progress="off")
    assert repr(ps.Stage("Adam", 10, horizon=0.5)) == "Stage('Adam', 10, horizon=0.5)"
