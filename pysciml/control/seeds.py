"""The seeds of what is random."""

from __future__ import annotations

import numpy as np
import torch


def seed_of(seed: int | None) -> int:
    """The seed that was given, or one of torch's own generator, so that `torch.manual_seed` repeats it."""
    return int(torch.randint(2**62, ())) if seed is None else seed


def path_seeds(seed: int, count: int) -> np.ndarray:
    """One for each path, the same for the i-th however many there are; none is zero, which Julia takes for no seed."""
    return np.maximum(np.random.SeedSequence(seed).generate_state(count, np.uint64), 1)
