"""The seeds of what is random."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
import torch


def seed_of(seed: int | None) -> int:
    """The seed that was given, or one of torch's own generator, so that `torch.manual_seed` repeats it."""
    return int(torch.randint(2**62, ())) if seed is None else seed


_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_64_BITS = 2**64 - 1


def path_seeds(seed: int, count: int) -> np.ndarray:
    """One for each path, the same for the i-th however many there are; none is zero, which Julia takes for no seed.

    By SplitMix64, whose sequence from any start has passed the tests of randomness. Reference: Steele, Lea and Flood,
    "Fast splittable pseudorandom number generators", OOPSLA (2014).

    >>> [hex(x) for x in path_seeds(1234567, 2).tolist()]
    ['0x599ed017fb08fc85', '0x2c73f08458540fa5']
    """
    seed = index(seed)  # of numpy's integers, too
    if count == 1:  # numpy takes several times as long for one number
        return np.array([max(_mixed((seed + _GOLDEN) & _64_BITS), 1)], np.uint64)
    states = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GOLDEN) + np.uint64(seed & _64_BITS)
    return np.maximum(_mixed(states), np.uint64(1))


def _mixed(z: Any) -> Any:
    """The bits of a number, or of each of an array, mixed."""
    z = ((z ^ (z >> 30)) * _FIRST) & _64_BITS
    z = ((z ^ (z >> 27)) * _SECOND) & _64_BITS
    return z ^ (z >> 31)
