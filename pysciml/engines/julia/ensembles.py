"""Many trajectories of one compiled model, on Julia's threads."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pysciml.engines.base import Request
from pysciml.engines.julia import bridge
from pysciml.engines.julia.algorithms import julia_algorithm
from pysciml.engines.julia.engine import backward_settings, called, counted, forward_settings
from pysciml.engines.julia.errors import returned
from pysciml.engines.julia.runtime import call
from pysciml.solution import ReturnCode, Stats


@dataclass(eq=False)
class Trajectories:
    """What solves gave: `u` (N, k, n), NaN where one failed; `retcodes`, and `stopped` (N,), the times of failures."""

    u: np.ndarray
    retcodes: list[ReturnCode]
    stopped: np.ndarray
    stats: Stats
    handle: Any = field(default=None, repr=False)


def solve_many(request: Request, u0: np.ndarray, p: np.ndarray, keep: bool) -> Trajectories:
    """Solves from each row of u0 (N, n) with each row of p (N, m); one row of either is everyone's.

    Args:
        request: what they have in common. keep: whether to keep what a gradient needs.
    """
    count = max(len(u0), len(p))
    u, counts, stopped = (
        np.empty((count, request.ts.size, request.rhs.n)),
        np.zeros((count, 4), np.int64),
        np.empty(count),
    )
    start = time.perf_counter()
    model, alg = forward_settings(request)
    abstol = np.atleast_1d(np.asarray(request.abstol, float))
    where = bridge.table(u, counts, u0, p, request.mass, request.ts, abstol, stopped)
    sizes = count, request.rhs.n, request.rhs.m
    runs = called(
        request, "forward", "solve_many_at!", bridge.address(where), *sizes, model, julia_algorithm(alg), request.t0,
        request.t1, request.reltol, getattr(request.sensealg, "checkpoints", None) or 0, bridge.steps(request), keep,
    )  # fmt: skip
    stats = counted(counts.sum(axis=0), request.alg, time.perf_counter() - start)
    codes = [ReturnCode.Success] * count
    for i in np.flatnonzero(~np.isnan(stopped)):
        codes[i] = returned(call("retcode", runs, int(i) + 1))
    return Trajectories(u, codes, stopped, stats, runs)


def adjoint_many(request: Request, trajectories: Trajectories, cotangents: np.ndarray) -> tuple:
    """The gradients of sum(cotangents * u) in u0 (N, n) and p (N, m) of each trajectory, and the counts of all.

    A trajectory that failed has no gradient: NaN, or zero where nothing was asked of it.
    """
    count, _, n = trajectories.u.shape
    du0, dp, counts = np.empty((count, n)), np.empty((count, request.rhs.m)), np.zeros((count, 4), np.int64)
    start = time.perf_counter()
    alg, tolerances = backward_settings(request)
    where = bridge.table(du0, dp, counts, request.ts, cotangents)
    called(request, "backward", "adjoint_many_at!", bridge.address(where), count, n, request.rhs.m, trajectories.handle,
           request.sensealg.name, julia_algorithm(alg), *tolerances)  # fmt: skip
    return du0, dp, counted(counts.sum(axis=0), alg, time.perf_counter() - start)
