"""du/dt at states on a solution, which moves saved times and the start of a solve."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pysciml.engines.base import Request

_NEWTON_STEPS = 50


def along(request: Request, evaluate: Callable[[str, float, np.ndarray], np.ndarray], ts, u) -> np.ndarray:
    """(len(ts), n): du/dt at states u on the solution; for a DAE of index 1 that of the algebraic variables too.

    Args:
        evaluate: `evaluate(kind, t, state)` gives f and tgrad as (n,), and jac as (n, n).
    """
    if request.mass is None:
        return np.stack([evaluate("f", t, row) for t, row in zip(ts, u, strict=True)])
    return np.stack([_of_dae(request.mass, evaluate, t, row) for t, row in zip(ts, u, strict=True)])


def _of_dae(mass: np.ndarray, evaluate: Callable, t: float, u: np.ndarray) -> np.ndarray:
    """u' on an index-1 DAE: x' from its equation, and z' from 0 = d/dt g(t, x, z)."""
    a, d = np.flatnonzero(mass == 0), np.flatnonzero(mass)
    u, f, jac = _consistent(a, evaluate, t, u) if a.size else (u, evaluate("f", t, u), None)
    du = np.zeros_like(u)
    du[d] = f[d] / mass[d]
    if jac is not None:
        du[a] = np.linalg.solve(jac[np.ix_(a, a)], -evaluate("tgrad", t, u)[a] - jac[np.ix_(a, d)] @ du[d])
    return du


def _consistent(a: np.ndarray, evaluate: Callable, t: float, u: np.ndarray) -> tuple:
    """The state with algebraic variables `a` that fit the others, with f and its Jacobian there, by Newton's method.

    On a solution they fit already; a u0 need not have them, and the solver finds them before its first step.
    """
    for _ in range(_NEWTON_STEPS):
        f, jac = evaluate("f", t, u), evaluate("jac", t, u)
        step = np.linalg.solve(jac[np.ix_(a, a)], f[a])
        if (np.abs(step) <= 1e-6 * (1 + np.abs(u[a]))).all():
            break
        u = u.copy()
        u[a] -= step
    return u, f, jac
