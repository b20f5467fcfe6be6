"""Small helpers on flat values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pysciml.rhs.parameters import all_finite, entry_names, pack


@pytest.mark.parametrize(
    ("values", "finite"),
    [([1.0, 2.0], True), ([1e200, -1e200], True), ([], True), ([1.0, np.nan], False), ([np.inf, -np.inf], False)],
)
def test_finite_without_a_warning_of_overflow(values, finite):
    assert all_finite(np.array(values)) is finite


def test_the_names_of_numbers():
    assert entry_names("k", ()) == ["k"]
    assert entry_names("A", (2, 2)) == ["A[0, 0]", "A[0, 1]", "A[1, 0]", "A[1, 1]"]
    assert entry_names("A", (0,)) == []


def test_a_vector_of_all_leaves_is_a_copy_in_rows_whatever_their_memory_is_like():
    x = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)
    leaves = [x.T, x[:, 1], torch.complex(x, x).conj().imag, torch.tensor(7.0), x.float()[:1]]
    assert leaves[2].is_neg()
    values = pack(leaves)
    assert values.tolist() == [0, 3, 1, 4, 2, 5, 1, 4, 0, -1, -2, -3, -4, -5, 7, 0, 1, 2]
    values[:] = 0
    assert x[1, 2] == 5
    one = pack([x[0]])
    one[:] = 9
    assert x[0, 0] == 0
    assert pack([]).shape == (0,)
