"""The times of a solve: those to save at, and those that a solution is asked for afterwards."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.rhs import functorch
from pysciml.rhs.parameters import to_numpy

SaveAt = float | Sequence[float] | torch.Tensor | None
_FEW = 1000  # saved times that are remembered as checked


def save_times(prob: Any, saveat: SaveAt) -> torch.Tensor:
    """The (k,) times to save at, float64 on the state's device, differentiable in tspan or saveat.

    Times a rounding error outside of the span are moved to its ends: `t0 + 3 * 0.1` lies after 0.3.

    Raises:
        InvalidInputError: no times, times outside the span, or not strictly monotone from t0 towards t1.
    """
    device = prob.inputs.u[0].device
    if saveat is None or (isinstance(saveat, (int, float)) and not isinstance(saveat, bool)):
        t0, t1 = (torch.as_tensor(t, dtype=torch.float64, device=device) for t in prob.tspan)
        if saveat is not None and (functorch.mapped(t0) or functorch.mapped(t1)):
            raise UnsupportedError("the number of saved times would differ among the members of a vmap.",
                                   got="saveat as a spacing, and vmap over tspan",
                                   fix="saveat=t0 + (t1 - t0) * torch.linspace(0, 1, 50)")  # fmt: skip
        if saveat is None:
            return torch.stack([t0, t1])
        ts = _spaced(t0, t1, float(saveat))
    elif isinstance(saveat, torch.Tensor) and saveat.dtype is torch.float64 and saveat.device == device:
        ts = saveat
    else:
        # Python's numbers are float64; rounded to torch's default dtype they would lie beside where they were put.
        dtype = None if isinstance(saveat, torch.Tensor) else torch.float64
        ts = torch.as_tensor(saveat, dtype=dtype, device=device).double()
    if functorch.active() and any(map(functorch.mapped, (ts, *prob.tspan))):
        return ts  # looked at one by one, as they are solved
    return moved_inside(ts, *prob.span)


def moved_inside(ts: torch.Tensor, t0: float, t1: float) -> torch.Tensor:
    """As `checked_times`, with its gradient."""
    values = functorch.numbers(ts) if functorch.active() else to_numpy(ts)
    found = checked_times(values, t0, t1)
    return ts if found is values else ts + torch.from_numpy(found - values).to(ts.device)


def checked_times(ts: np.ndarray, t0: float, t1: float) -> np.ndarray:
    """The times, those a rounding error outside of the span at its ends: most solvers have no state outside of it.

    Raises:
        InvalidInputError: times that cannot be saved at.
    """
    if ts.ndim == 1 and ts.size and (_fit if ts.size <= _FEW else _fit.__wrapped__)(ts.tobytes(), t0, t1):
        return ts
    got, hint = f"saveat={ts.ravel().tolist()!r:.80}", "saveat=torch.linspace(t0, t1, 50)"
    if ts.ndim != 1 or ts.size == 0:
        raise InvalidInputError(
            "saveat must hold at least one time, in one dimension.", got=f"shape {list(ts.shape)}", fix=hint
        )
    first, last = ts.min(), ts.max()
    if not (math.isfinite(first) and math.isfinite(last)):
        raise InvalidInputError("saveat must be finite.", got=got, fix=hint)
    low, high = min(t0, t1), max(t0, t1)
    slack = 1e-12 * max(abs(low), abs(high), high - low)
    if first < low - slack or last > high + slack:
        raise InvalidInputError("saveat must lie inside tspan.", got=got, expected=f"times from {low:g} to {high:g}",
                                fix=f"tspan=({min(low, first):g}, {max(high, last):g})")  # fmt: skip
    ts = ts.clip(low, high)
    if not ((ts[1:] > ts[:-1]) if t1 > t0 else (ts[1:] < ts[:-1])).all():
        raise InvalidInputError("saveat must be strictly monotone from t0 towards t1, each time once.", got=got,
                                fix="saveat=torch.unique(saveat)" + ("" if t1 > t0 else ".flip(0)"))  # fmt: skip
    return ts


@functools.lru_cache(64)  # a training loop asks for the same times at each of its steps
def _fit(times: bytes, t0: float, t1: float) -> bool:
    """Whether all is well, told quickly; False for a NaN too."""
    ts, low, high = np.frombuffer(times), t0, t1
    if t1 < t0:
        ts, low, high = -ts, -t0, -t1
    return bool(low <= ts[0] and ts[-1] <= high and (ts[:-1] < ts[1:]).all())


def _spaced(t0: torch.Tensor, t1: torch.Tensor, spacing: float) -> torch.Tensor:
    if not (math.isfinite(spacing) and spacing > 0):
        raise InvalidInputError("saveat as a number is a spacing and must be positive.", got=f"saveat={spacing!r}",
                                fix="saveat=0.1")  # fmt: skip
    span = functorch.number(t1) - functorch.number(t0)
    count = math.floor(abs(span) / spacing * (1 + 1e-12)) + 1
    return t0 + math.copysign(spacing, span) * torch.arange(count, dtype=torch.float64, device=t0.device)


def in_order(times: torch.Tensor, backwards: bool, solve_at: Callable[[torch.Tensor], Any]) -> Any:
    """The states at times in any order, asked for in the order of the solve.

    A time that comes again is asked for again, so that each has a gradient of its own.
    """
    if functorch.mapped(times):
        raise UnsupportedError("sol(t) cannot be asked for times that vmap maps over.", got="t of a vmap",
                               expected="the same times for all", fix="pysciml.solve(prob, saveat=t)")  # fmt: skip
    values = functorch.numbers(times)
    order = np.argsort(-values if backwards else values, kind="stable")
    along = -values[order] if backwards else values[order]
    _, starts, counts = np.unique(along, return_index=True, return_counts=True)
    turns = [order[starts[counts > k] + k] for k in range(counts.max())]
    found = [solve_at(times[torch.from_numpy(turn).to(times.device)]) for turn in turns]
    place = torch.from_numpy(np.argsort(np.concatenate(turns))).to(times.device)
    return pytree.tree_map(lambda *xs: torch.cat(xs)[place], *found)
