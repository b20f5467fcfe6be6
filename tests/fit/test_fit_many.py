"""Many fits: the best first, failures told, and the same numbers in this process and in others."""

from __future__ import annotations

import math

import pytest
import torch

import pysciml as ps

F64 = torch.float64
T = torch.linspace(0.0, 6.0, 31, dtype=F64)


class Oscillator(torch.nn.Module):
    def __init__(self, w):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(w, dtype=F64))

    def forward(self, t, u):
        return torch.stack([u[1], -(self.w**2) * u[0]])


def make(seed):
    """A frequency drawn between 0.3 and 5: only near the truth, 2, does a fit come to it."""
    w = 0.3 + 4.7 * torch.rand(()).item()
    data = torch.stack([torch.cos(2 * T), -2 * torch.sin(2 * T)], dim=1)
    return {"prob": ps.ODEProblem(Oscillator(w), torch.tensor([1.0, 0.0], dtype=F64), (0.0, 6.0)), "data": data, "t": T}


OPTIONS = {"stages": ("LBFGS", 30), "progress": "off"}


def test_the_best_of_many_is_right_where_most_are_not():
    fits = ps.fit_many(make, 8, **OPTIONS)
    assert fits.losses.tolist() == sorted(fits.losses.tolist())
    assert fits.best.parameters["w"].item() == pytest.approx(2.0, abs=1e-4)
    assert fits.losses[-1] > 0.1
    good = fits.within(1e3)
    assert 1 <= len(good) < len(fits)
    states = fits.predict(T[:5])
    assert states.shape == (8, 5, 2)
    torch.testing.assert_close(states[0, :, 0], torch.cos(2 * T[:5]), rtol=0, atol=1e-3)
    assert f"FitEnsemble of {len(fits)} fits" in repr(fits)
    assert f"seed {fits.seeds[0]}" in repr(fits)


def test_other_processes_come_to_the_same_numbers():
    here = ps.fit_many(make, [3, 5], **OPTIONS)
    there = ps.fit_many(make, [3, 5], executor="processes", **OPTIONS)
    assert there.seeds == here.seeds
    assert there.losses.tolist() == here.losses.tolist()
    for a, b in zip(there.results, here.results, strict=True):
        assert a.parameters["w"].item() == b.parameters["w"].item()
        assert a.history.loss == b.history.loss
        assert a.stopped == b.stopped
    torch.testing.assert_close(there.predict(T), here.predict(T), rtol=0, atol=0)


def sometimes(seed):
    made = make(seed)
    if seed == 1:
        oscillator, u0 = made["prob"].f, torch.tensor([1.0, 9.0], dtype=F64)
        made["prob"] = ps.ODEProblem(lambda t, u: oscillator.w * u**2, u0, (0.0, 6.0))
    return made


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_a_fit_that_fails_leaves_the_others(executor):
    fits = ps.fit_many(sometimes, 3, executor=executor, **OPTIONS)
    assert sorted(fits.seeds) == [0, 2]
    assert list(fits.failures) == [1]
    assert isinstance(fits.failures[1], ps.FitError)
    assert "failed: seeds 1" in repr(fits)
    with pytest.raises(ps.FitError, match="at the start"):
        ps.fit_many(sometimes, [1], executor=executor, **OPTIONS)


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ps.InvalidInputError, match="function of a seed"):
        ps.fit_many(make(0), 3)
    with pytest.raises(ps.InvalidInputError, match=r"to itself[\s\S]*checkpoint"):
        ps.fit_many(make, 3, checkpoint="fit.pt")
    with pytest.raises(ps.InvalidInputError, match="in a dict"):
        ps.fit_many(lambda seed: make(seed)["prob"], 1, progress="off")
    with pytest.raises(ps.InvalidInputError, match="a seed, at least"):
        ps.fit_many(make, [])
    with pytest.raises(ps.InvalidInputError, match="no executor 'cluster'"):
        ps.fit_many(make, 2, executor="cluster", **OPTIONS)
    assert not math.isnan(ps.fit_many(make, 1, val=0.2, **OPTIONS).best.val_loss)
