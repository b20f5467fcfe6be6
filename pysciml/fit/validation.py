"""What is held out of the fit: the last times, chosen times, or data of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from pysciml.errors import InvalidInputError
from pysciml.fit.trajectory import Trajectory, trajectories
from pysciml.problems import ODEProblem

_FIX = "val=0.2 holds out the last fifth of the times"


@dataclass(frozen=True, eq=False)
class Split:
    """Training data, and what is held out of it: trajectories, or a function of the user's, or neither."""

    train: list[Trajectory]
    held_out: list[Trajectory]
    function: Callable | None = None

    @property
    def validates(self) -> bool:
        return bool(self.held_out) or self.function is not None


def split(every: list[Trajectory], val: Any, *, observed: bool) -> Split:
    """Divides trajectories as `val` says; see `pysciml.fit`.

    Raises:
        InvalidInputError: a fraction outside (0, 1), times that are not there, nothing left on one side.
    """
    if val is None:
        return Split(every, [])
    if callable(val):
        return Split(every, [], val)
    if _is_own(val):
        prob, data, t = val
        return Split(every, trajectories(prob, data, t, None, observed=observed))
    if not every or not every[0].data:
        raise InvalidInputError("without `data`, validation is a function like the loss.", got=f"val={val!r:.60}",
                                fix="val=lambda sol: ((sol.u - held_out) ** 2).mean()")  # fmt: skip
    sides = [_held_out(x.t, val) for x in every]
    train = [x.take(~out) for x, out in zip(every, sides, strict=True)]
    held_out = [x.take(out) for x, out in zip(every, sides, strict=True)]
    for side, name in ((train, "left to fit"), (held_out, "held out")):
        if all(bool(torch.isnan(leaf).all()) for x in side for leaf in x.data):
            raise InvalidInputError(
                f"every value {name} is NaN.", got=f"val={val!r:.60}", fix="choose other times with val=[...]"
            )
    return Split(train, held_out)


def _is_own(val: Any) -> bool:
    """`(prob, data, t)`."""
    if not isinstance(val, tuple) or len(val) != 3:
        return False
    first = val[0][0] if isinstance(val[0], (list, tuple)) and val[0] else val[0]
    return isinstance(first, ODEProblem)


def _held_out(t: torch.Tensor, val: Any) -> torch.Tensor:
    """(k,) True where the time is held out."""
    k = len(t)
    out = torch.zeros(k, dtype=torch.bool)
    if isinstance(val, (int, float)):
        if isinstance(val, bool) or not 0 < val < 1:
            raise InvalidInputError(
                "val as a number is the part of the times to hold out, between 0 and 1.", got=f"val={val!r}", fix=_FIX
            )
        out[k - min(k, max(1, round(val * k))) :] = True
    else:
        out[_indices(val, k)] = True
    if out.all() or not out.any():
        raise InvalidInputError("validation must leave at least one time on either side.",
                                got=f"{int(out.sum())} of {k} times held out", fix=_FIX)  # fmt: skip
    return out.to(t.device)


def _indices(val: Any, k: int) -> torch.Tensor:
    try:
        index = torch.as_tensor(val).cpu()
    except (TypeError, ValueError, RuntimeError):
        index = torch.empty(0)
    if index.dtype == torch.bool and index.shape == (k,):
        return index
    if (
        index.is_floating_point()
        or index.dtype == torch.bool
        or index.dim() != 1
        or not bool(((index >= -k) & (index < k)).all())
    ):
        raise InvalidInputError(
            "val must be a fraction, indices of times, a mask of the times, or (prob, data, t).",
            got=f"val={val!r:.80}",
            expected=f"indices from 0 to {k - 1}, or {k} booleans",
            fix=_FIX,
        )
    return index
