"""The nodes between which a solution is solved for again: near enough for nothing to grow much from one to the next."""

from __future__ import annotations

import numpy as np

from pysciml.boundary.numbers import Numbers

_GROWTH = 4.0  # the logarithm of how much a deviation may grow from one node to the next
_GRID = 2.0**-12  # nodes lie on a grid, so that small changes of a solution leave them where they are
_MOST = 400


def chosen(numbers: Numbers, ts: np.ndarray, us: np.ndarray) -> np.ndarray:
    """Places from 0 to 1 of nodes, from a solution at times (k,) and states (k, n).

    What grows forwards in time, by the eigenvalues of the Jacobian, is what an initial value problem loses digits to.
    """
    with np.errstate(all="ignore"):
        rates = np.linalg.eigvals(numbers("jac", ts, us)).real if us.shape[1] else np.zeros((ts.size, 1))
    rates = np.nan_to_num(np.maximum(np.sign(ts[-1] - ts[0]) * rates, 0.0).max(axis=1))
    grown = np.concatenate([[0.0], np.cumsum((rates[1:] + rates[:-1]) / 2 * abs(np.diff(ts)))])
    count = int(np.clip(np.ceil(grown[-1] / _GROWTH), 1, _MOST))
    places = (ts - ts[0]) / (ts[-1] - ts[0])
    if count == 1:
        return np.array([0.0, 1.0])
    inner = np.interp(np.linspace(0.0, grown[-1], count + 1)[1:-1], grown + 1e-12 * np.arange(ts.size), places)
    inner = np.round(inner / _GRID) * _GRID
    return np.unique(np.concatenate([[0.0], inner, [1.0]]))


def sampled(ts: np.ndarray, us: np.ndarray, at: np.ndarray) -> np.ndarray:
    """States (k, n) at other times, by lines between those that there are."""
    order = np.argsort(ts)
    return np.stack([np.interp(at, ts[order], column[order]) for column in us.T], axis=1)
