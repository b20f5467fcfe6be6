"""Collocation on an adaptive mesh, by SciPy's `solve_bvp`.

Reference: Kierzenka and Shampine, "A BVP solver based on residual control", ACM TOMS 27 (2001).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Mesh(NamedTuple):
    """Times (k,) and states (k, n) of a solution, or of where the search for one ended; and whether it is one."""

    ts: np.ndarray
    us: np.ndarray
    said: str
    found: bool


def collocate(f: Callable, jac: Callable, bc: Callable, bc_jac: Callable, ts: np.ndarray, us: np.ndarray, tol: float,
              max_nodes: int) -> Mesh:  # fmt: skip
    """A solution near a guess.

    Args:
        f, jac: times (k,) and states (k, n) to (k, n) and (k, n, n). bc, bc_jac: both ends to (n,), and to the two
            derivatives (n, n). ts, us: the guess, (k,) times in either direction and (k, n) states.
    """
    from scipy.integrate import solve_bvp

    way = 1.0 if ts[-1] > ts[0] else -1.0  # SciPy's times rise
    found = solve_bvp(
        lambda x, y: way * f(way * x, y.T).T, bc, way * ts, us.T,
        fun_jac=lambda x, y: way * jac(way * x, y.T).transpose(1, 2, 0), bc_jac=bc_jac, tol=tol, max_nodes=max_nodes,
    )  # fmt: skip
    return Mesh(way * found.x, found.y.T.copy(), found.message, bool(found.success))
