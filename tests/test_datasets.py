from __future__ import annotations

import dataclasses

import pytest
import torch

from pysciml.datasets import lynx_hare


def test_the_pelts_are_those_published():
    data = lynx_hare()
    first, last = (data.years[i].item() for i in (0, -1))
    assert (first, last, len(data)) == (1900.0, 1920.0, 21)
    assert data.pelts[0].tolist() == [30.0, 4.0]
    assert data.pelts[-1].tolist() == [24.7, 8.6]
    # The peaks, and the sums as a check on every number.
    assert (data.hare.max().item(), data.years[data.hare.argmax()].item()) == (77.4, 1903.0)
    assert (data.lynx.max().item(), data.years[data.lynx.argmax()].item()) == (59.4, 1904.0)
    assert data.hare.sum().item() == pytest.approx(715.7)
    assert data.lynx.sum().item() == pytest.approx(423.5)


def test_the_tensors_are_whole_years_in_double_precision():
    data = lynx_hare()
    for x in (data.years, data.hare, data.lynx):
        assert x.dtype is torch.float64
        assert x.shape == (21,)
    assert torch.equal(data.years.diff(), torch.ones(20, dtype=torch.float64))
    assert torch.equal(data.pelts, torch.stack([data.hare, data.lynx], dim=1))


def test_nobody_can_spoil_them_for_the_next():
    lynx_hare().hare.zero_()
    assert lynx_hare().hare[0] == 30.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        lynx_hare().hare = None


def test_they_say_what_they_are_and_where_they_are_from():
    data = lynx_hare()
    assert "Elton" in data.source
    assert "Odum" in data.source
    assert data.names == ("hare", "lynx")
    assert repr(data) == "LynxHare(21 years, 1900 to 1920, thousand pelts)"
