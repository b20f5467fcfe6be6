"""What happened in the middle of a solve."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch


class Event(NamedTuple):
    """One event of a solve.

    Attributes:
        t: () its time, differentiable for a `ContinuousCallback`. before, after: the state before and after its affect,
            in the structure of u0, differentiable. callback: whose it was. index: which of its conditions.
    """

    t: torch.Tensor
    before: Any
    after: Any
    callback: Any
    index: int  # type: ignore[assignment] # shadows the method of tuples
