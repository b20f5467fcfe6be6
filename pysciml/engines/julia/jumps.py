"""Jump processes in Julia: JumpProcesses.jl draws every event, StochasticDiffEq.jl and it leap over many."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from pysciml.algorithms import Tsit5
from pysciml.engines.base import Request, RequestPart
from pysciml.engines.julia import bridge
from pysciml.engines.julia.algorithms import julia_algorithm
from pysciml.engines.julia.engine import counted
from pysciml.engines.julia.errors import JuliaError, returned, translated
from pysciml.engines.julia.runtime import call
from pysciml.engines.jumps import Events, JumpPaths, JumpsRequest
from pysciml.errors import SolveError
from pysciml.sensitivity import GaussAdjoint
from pysciml.solution import ReturnCode


def solve_jumps(request: JumpsRequest) -> JumpPaths:
    """Solves all paths in one call, on Julia's threads."""
    (channels, n), count = request.changes.shape, request.seeds.size
    u, counts, stopped = np.empty((count, request.ts.size, n)), np.zeros((count, 4), np.int64), np.empty(count)
    where = bridge.table(u, counts, request.u0, request.p, request.ts, request.seeds, request.changes,
                         request.depends, request.reactants, stopped)  # fmt: skip
    start = time.perf_counter()
    paths = _telling(
        request, "solve_jumps_at!", bridge.address(where), count, n, request.p.shape[1], channels, _model(request),
        julia_algorithm(request.alg), request.t0, request.t1, request.dt, request.maxiters, request.keep,
    )  # fmt: skip
    stats = counted(counts.sum(axis=0), request.alg, time.perf_counter() - start)
    return JumpPaths(u, _errors(request, paths, stopped), stats, _events(paths, count) if request.keep else None)


def _events(paths: Any, count: int) -> Events:
    sizes = np.zeros(count, np.int64)
    call("event_counts!", sizes, paths)
    t, channel = np.empty(sizes.sum()), np.empty(sizes.sum(), np.int64)
    call("events!", t, channel, paths)
    return Events(sizes, t, channel)


def _model(request: JumpsRequest) -> Any:
    return None if request.rates is None else bridge.model(_plain(request, request.rates), ("f",))


def _plain(request: JumpsRequest, rates: RequestPart) -> Request:
    """The rates as an ordinary right-hand side."""
    return Request(rhs=rates.rhs, program=rates.program, u0=request.u0[0], p=request.p[0], t0=request.t0, t1=request.t1,
                   ts=request.ts, alg=Tsit5(), sensealg=GaussAdjoint(), reltol=1e-3, abstol=1e-6)  # fmt: skip


def _telling(request: JumpsRequest, name: str, *args: Any) -> Any:
    try:
        return call(name, *args)
    except JuliaError as error:
        if request.rates is None:
            raise
        failure = translated(error, _plain(request, request.rates)._replace(alg=request.alg), "forward")
    raise failure


# What may end a path: its return code, what happened, why, and what to try.
_ENDS = {
    "NegativeRate": (ReturnCode.Unstable, "a rate is negative",
                     "rates that make no sense where counts are small, or a leap that took a count below zero",
                     "torch.clamp(rates, min=0), exact events (Direct), or a smaller dt"),
    "NegativeCount": (ReturnCode.Unstable, "a leap took a count below zero",
                      "leaps that are long against the life of so small a count",
                      "a smaller dt; SimpleExplicitTauLeaping, which draws again; or exact events (Direct)"),
    "NoNumber": (ReturnCode.Unstable, "a rate is NaN or infinite",
                 "log, sqrt or a division near zero, or counts that grow without bound",
                 "look at rates(t, u) at small and at large counts"),
    "MaxIters": (ReturnCode.MaxIters, "there were more events than maxiters",
                 "counts that grow without bound, or a long path",
                 "a larger maxiters; or SimpleTauLeaping, which takes many events at once"),
}  # fmt: skip


def _errors(request: JumpsRequest, paths: Any, stopped: np.ndarray) -> dict[int, SolveError]:
    return {int(i): _error(request, call("retcode", paths, int(i) + 1), float(stopped[i]))
            for i in np.flatnonzero(~np.isnan(stopped))}  # fmt: skip


def _error(request: JumpsRequest, name: str, t: float) -> SolveError:
    other = returned(name)
    code, what, cause, remedy = _ENDS.get(name, (other, "the solver stopped", other.cause, other.remedy))
    return SolveError(
        f"the path by {request.alg.name} ended at t = {t:.6g}, of the span ({request.t0:g}, {request.t1:g}): {what}.\n"
        f"Likely cause: {cause}.", retcode=code, t=t, got=f"{name} from Julia", fix=remedy,
    )  # fmt: skip
