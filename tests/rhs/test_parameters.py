"""Small helpers on flat values."""

from __future__ import annotations

import numpy as np
import pytest

from pysciml.rhs.parameters import all_finite, entry_names


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
