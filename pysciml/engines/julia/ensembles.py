"""Many trajectories of one compiled model, on Julia's threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pysciml.engines.base import Request
from pysciml.engines.julia import bridge
from pysciml.engines.julia.algorithms import julia_algorithm
from pysciml.engines.julia.engine import backward_settings, called, counted, forward_settings, stays_explicit
from pysciml.engines.julia.errors import returned, stop
from pysciml.engines.julia.runtime import call
from pysciml.errors import SolveError
from pysciml.sensitivity import DirectAdjoint
from pysciml.solution import ReturnCode, Stats

_LOOK = 0.1  # seconds between two looks at how many are done
_MANY = 1000  # trajectories of which no more are kept for a gradient: they are solved once more


@dataclass(eq=False)
class Trajectories:
    """What solves gave: `u` (N, k, n), NaN where one failed, and by its number the error that each of those had."""

    u: np.ndarray
    errors: dict[int, SolveError]
    stats: Stats
    handle: Any = field(default=None, repr=False)
    given: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)  # u0 and p, to solve once more


def solve_many(request: Request, u0: np.ndarray, p: np.ndarray, keep: bool,
               show: Callable[[int, int], None] | None = None) -> Trajectories:  # fmt: skip
    """Solves from each row of u0 (N, n) with each row of p (N, m); one row of either is everyone's.

    Args:
        request: what they have in common. keep: whether to keep what a gradient needs.
        show: is told now and then how many are done and how many have failed, or None.
    """
    count = max(len(u0), len(p))
    again = keep and (count > _MANY or isinstance(request.sensealg, DirectAdjoint))
    u, counts = np.empty((count, request.ts.size, request.rhs.n)), np.zeros((count, 4), np.int64)
    stopped = np.empty(count)
    start = time.perf_counter()
    model, alg = forward_settings(request)
    abstol = np.atleast_1d(np.asarray(request.abstol, float))
    where = bridge.table(u, counts, u0, p, request.mass, request.ts, abstol, stopped)
    sizes = count, request.rhs.n, request.rhs.m
    with _watched(counts, show) if show else nullcontext():
        runs = called(
            request, "forward", "solve_many_at!", bridge.address(where), *sizes, model, julia_algorithm(alg),
            request.t0, request.t1, request.reltol, getattr(request.sensealg, "checkpoints", None) or 0,
            bridge.steps(request), keep and not again,
        )  # fmt: skip
    stats = counted(counts.sum(axis=0), alg, time.perf_counter() - start)
    errors = _errors(request, runs, stopped, u)
    if show:
        show(count, len(errors))
    return Trajectories(u, errors, stats, runs, (u0.copy(), p.copy()) if again else None)


def _errors(request: Request, runs: Any, stopped: np.ndarray, u: np.ndarray) -> dict[int, SolveError]:
    found = {}
    for i in np.flatnonzero(~np.isfinite(u).all(axis=(1, 2))):
        if np.isnan(stopped[i]):  # it reached its end, at infinity
            u[i] = np.nan
            code, detail = ReturnCode.Unstable, "NaN or infinity in the result"
        else:
            name = call("retcode", runs, int(i) + 1)
            code, detail = returned(name), f"{name} from Julia"
        found[int(i)] = stop(request, "forward", code, float(stopped[i]), detail)
    return found


@contextmanager
def _watched(counts: np.ndarray, show: Callable[[int, int], None]) -> Iterator[None]:
    """Tells how many are done while Julia solves: it writes what each has counted when that one is."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK):
            show(int(counts.any(axis=1).sum()), 0)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def adjoint_many(request: Request, trajectories: Trajectories, cotangents: np.ndarray) -> tuple:
    """The gradients of sum(cotangents * u) in u0 (N, n) and p (N, m) of each trajectory, and the counts of all.

    A trajectory that failed has no gradient: NaN, or zero where nothing was asked of it.
    """
    count, _, n = trajectories.u.shape
    du0, dp, counts = np.empty((count, n)), np.empty((count, request.rhs.m)), np.zeros((count, 4), np.int64)
    start = time.perf_counter()
    if trajectories.given is not None:
        _adjoint_again(request, trajectories, cotangents, du0, dp, counts)
        return du0, dp, counted(counts.sum(axis=0), request.alg, time.perf_counter() - start)
    alg, tolerances = backward_settings(request, stays_explicit(request, trajectories.stats))
    where = bridge.table(du0, dp, counts, request.ts, cotangents)
    called(request, "backward", "adjoint_many_at!", bridge.address(where), count, n, request.rhs.m, trajectories.handle,
           bridge.sensitivity(request), julia_algorithm(alg), *tolerances)  # fmt: skip
    return du0, dp, counted(counts.sum(axis=0), alg, time.perf_counter() - start)


def _adjoint_again(request: Request, trajectories: Trajectories, cotangents: np.ndarray, du0: np.ndarray,
                   dp: np.ndarray, counts: np.ndarray) -> None:  # fmt: skip
    """Solves each trajectory once more for its gradient."""
    assert trajectories.given is not None  # noqa: S101 - the caller has looked
    direct = isinstance(request.sensealg, DirectAdjoint)
    explicit = stays_explicit(request, trajectories.stats)
    sensealg, (backward, tolerances) = bridge.sensitivity(request), backward_settings(request, explicit)
    model, alg = forward_settings(request)
    mass = () if direct else (request.mass,)
    abstol = np.atleast_1d(np.asarray(request.abstol, float))
    where = bridge.table(du0, dp, counts, *trajectories.given, *mass, request.ts, abstol, cotangents)
    checkpoints = getattr(request.sensealg, "checkpoints", None) or 0
    how = () if direct else (checkpoints, bridge.steps(request), sensealg, julia_algorithm(backward), *tolerances)
    called(request, "backward", "adjoint_again_at!" if direct else "adjoint_anew_at!", bridge.address(where), len(du0),
           request.rhs.n, request.rhs.m, trajectories.handle, model, julia_algorithm(alg), request.t0, request.t1,
           request.reltol, *(how or (bridge.steps(request),)))  # fmt: skip
