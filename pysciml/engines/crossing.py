"""Conditions looked at from outside, for a solver that saves states at given times and shows nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pysciml.engines.base import AT_STEPS, Met, Watch
from pysciml.errors import SolveError, UnsupportedError

_LOOKS = 20  # times `points`, over the span that is left
States = Callable[[np.ndarray], np.ndarray]
Values = Callable[[float, np.ndarray], np.ndarray]


def on_grid(states: States, values: Values, watch: Watch, t0: float, t1: float) -> Met:
    """The first crossing in (t0, t1], or t1.

    Args:
        states: the states (k, n) at times (k,) of the solve. values: the conditions at a time and a state.
    """
    if (watch.kinds == AT_STEPS).any():
        raise UnsupportedError(
            "a DiscreteCallback looks at the solver's steps, which this solver does not show.",
            got="DiscreteCallback in the embedded engine", expected="ContinuousCallback or PresetTimeCallback",
            fix='engine="julia", which has it (get Julia: python -m pysciml julia install)',
        )  # fmt: skip
    times, rows, stopped = _as_far_as_it_goes(states, t0, t1, _LOOKS * watch.points)
    sides, bands, largest = watch.sides.copy(), watch.bands.copy(), np.zeros(watch.sides.size)
    before = t0
    for t, u in zip(times.tolist(), rows, strict=True):
        now = values(t, u)
        largest = np.maximum(largest, np.abs(now))
        bands[np.abs(now) > bands] = 0
        crossing = _crossing(now, np.where(bands > 0, 0, sides), watch.kinds)
        roots = {k: _root(states, values, k, sides[k], before, t, t0) for k in crossing}
        found = {k: root for k, root in roots.items() if root is not None}
        if found:
            first = min(found.values(), key=lambda root: abs(root - t0))
            near = 1e-10 * abs(t - before) + 8 * np.spacing(abs(first))
            return Met(first, tuple(k for k, root in found.items() if abs(root - first) <= near), largest)
        sides = np.where((now == 0) | (bands > 0), sides, np.sign(now).astype(int))
        before = t
    if stopped is not None:
        raise stopped
    return Met(t1, (), largest)


def _as_far_as_it_goes(states: States, t0: float, t1: float, looks: int) -> tuple[np.ndarray, np.ndarray, Any]:
    """Times and states in (t0, t1], and the error of a solver that does not come to t1, which an event may spare it."""
    times = np.linspace(t0, t1, looks + 1)[1:]
    try:
        return times, states(times), None
    except SolveError as error:
        if not 0 < (error.t - t0) / (t1 - t0) <= 1:
            raise
        times = np.linspace(t0, t0 + 0.999 * (error.t - t0), looks + 1)[1:]
        stopped = error
    return times, states(times), stopped


def _crossing(values: np.ndarray, sides: np.ndarray, kinds: np.ndarray) -> list[int]:
    changed = (sides != 0) & (np.sign(values) != sides) & ((kinds == 0) | (kinds == -sides))
    return np.flatnonzero(changed).tolist()


def _root(states: States, values: Values, k: int, side: int, a: float, b: float, t0: float) -> float | None:
    """A root between a and b, where the condition has left its side; None if it never was on it."""
    from scipy.optimize import brentq  # takes long to import

    def value(t: float) -> float:
        return side * float(values(t, states(np.array([t]))[0])[k])

    start, share = a, (b - a) / 2
    first = None
    for _ in range(40):
        # Right after an event the condition is zero up to rounding, and its side begins a little later.
        x = start + share
        if value(x) > 0:
            first = x
            break
        b, share = x, share / 2
    if first is None:  # it left its side at `a`, to rounding: a crossing, unless the solve starts there
        return None if start == t0 else start
    # A flat crossing, as of a cube, takes many steps.
    return float(brentq(value, first, b, xtol=4 * np.spacing(abs(b)), rtol=4e-15, maxiter=1000))
