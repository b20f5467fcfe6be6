"""du/dt at states on a solution, which moves saved times and the start of a solve."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pysciml.engines.base import Request


def along(request: Request, evaluate: Callable[[str, float, np.ndarray], np.ndarray], ts, u) -> np.ndarray:
    """(len(ts), n): du/dt at states u on the solution; for a DAE of index 1 that of the algebraic variables too.

    Args:
        evaluate: `evaluate(kind, t, state)` gives f and tgrad as (n,), and jac as (n, n).
    """
    du = np.stack([evaluate("f", t, row) for t, row in zip(ts, u, strict=True)])
    if request.mass is None:
        return du
    return np.stack([_of_dae(request.mass, evaluate, t, row, d) for t, row, d in zip(ts, u, du, strict=True)])


def _of_dae(mass: np.ndarray, evaluate: Callable, t: float, u: np.ndarray, f: np.ndarray) -> np.ndarray:
    """u' on an index-1 DAE: x' from its equation, and z' from 0 = d/dt g(t, x, z)."""
    a, d = np.flatnonzero(mass == 0), np.flatnonzero(mass)
    du = np.zeros_like(u)
    du[d] = f[d] / mass[d]
    if a.size:
        jac, tgrad = evaluate("jac", t, u), evaluate("tgrad", t, u)
        du[a] = np.linalg.solve(jac[np.ix_(a, a)], -tgrad[a] - jac[np.ix_(a, d)] @ du[d])
    return du
