"""Stochastic equations in Julia: StochasticDiffEq.jl solves, and the derivative of its own steps is the gradient."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any

import numpy as np

from pysciml.algorithms import Algorithm, Tsit5
from pysciml.engines.base import Request, RequestPart
from pysciml.engines.julia import bridge
from pysciml.engines.julia.algorithms import julia_algorithm
from pysciml.engines.julia.engine import counted
from pysciml.engines.julia.errors import JuliaError, returned, stop, translated
from pysciml.engines.julia.runtime import Held, call, enter
from pysciml.engines.stochastic import Paths, PathsRequest
from pysciml.errors import SolveError
from pysciml.rhs.base import CompiledRHS
from pysciml.rhs.parameters import all_finite
from pysciml.sensitivity import GaussAdjoint
from pysciml.solution import ReturnCode, Stats


def solve_paths(request: PathsRequest) -> Paths:
    """Solves all paths in one call, on Julia's threads."""
    count, n = request.seeds.size, request.u0.shape[1]
    u, counts, stopped = np.empty((count, request.ts.size, n)), np.zeros((count, 4), np.int64), np.empty(count)
    nothing = np.zeros(0)
    times, W, Z = request.noise or (nothing, nothing, nothing)
    start = time.perf_counter()
    equation, alg, numbers = request.once("forward", lambda: (
        _equation(request, "f"), _algorithm(request.alg, request.interpretation), _numbers(request)))  # fmt: skip
    where = bridge.table(u, counts, request.u0, request.p, request.ts, request.seeds, times, W, Z, stopped, numbers)
    paths = Held(_entered(request, "solve_paths_at", bridge.address(where), count, n, request.p.shape[1],
                          equation.number, alg.number))  # fmt: skip
    stats = counted(counts[0] if count == 1 else counts.sum(axis=0), request.alg, time.perf_counter() - start)
    return Paths(u, _errors(request, paths, stopped, u), stats, paths)


_OPTIONS = "dt", "dtmax", "maxiters", "adaptive"


def _numbers(request: PathsRequest) -> np.ndarray:
    """Those of a solve, as `solve_paths_at!` reads them: NaN for what was not given."""
    given = [request.options.get(name, np.nan) for name in _OPTIONS]
    return np.array((request.t0, request.t1, request.reltol, request.abstol, *given), dtype=np.float64)


@functools.cache
def _algorithm(alg: Algorithm, interpretation: str) -> Any:
    """Julia's object for an algorithm; of one that solves both kinds of equations, that for this one."""
    if alg.problem != "sde":
        return julia_algorithm(alg)
    kind = interpretation.title() if alg.name in ("RKMil", "ImplicitRKMil") else ""
    options = {field.name: getattr(alg, field.name) for field in dataclasses.fields(alg)}
    return call("stochastic_algorithm", alg.name, alg.implicit, options, kind)


def adjoint_paths(request: PathsRequest, paths: Paths, cotangents: np.ndarray) -> tuple[np.ndarray, np.ndarray, Stats]:
    """The gradients of sum(cotangents * u) in u0 (N, n) and p (N, m) of each path."""
    count, _, n = paths.u.shape
    du0, dp = np.empty((count, n)), np.empty((count, request.p.shape[1]))
    start = time.perf_counter()
    request.once("backward", lambda: _with_products(request))
    cotangents = np.ascontiguousarray(cotangents)
    where = bridge.table(du0, dp, request.ts, cotangents)
    _entered(request, "adjoint_paths_at", bridge.address(where), count, n, request.p.shape[1], paths.handle.number)
    return du0, dp, Stats(wall_time=time.perf_counter() - start, engine="julia", alg=request.alg.name)


def _with_products(request: PathsRequest) -> Any:
    compiled = request.diffusion is not None and isinstance(request.drift.rhs, CompiledRHS)
    return _equation(request, *(("both",) if compiled else ("vjp", "vjp_p")))


def steps(paths: Paths, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The times (k,) that a path stepped on, and W and Z there, (k, motions); Z has no columns where there is none."""
    sizes = np.zeros(3, np.int64)
    call("path_sizes!", sizes, paths.handle, i + 1)
    count, motions, second = sizes.tolist()
    t, W, Z = np.empty(count), np.empty((count, motions)), np.empty((count, second))
    call("path_steps!", t, W.T, Z.T, paths.handle, i + 1)
    return t, W, Z


def at_times(paths: Paths, ts: np.ndarray) -> np.ndarray:
    """(N, len(ts), n): the states at other times, linear between steps."""
    u = np.empty((paths.u.shape[0], ts.size, paths.u.shape[2]))
    call("paths_at!", u.T, paths.handle, ts)
    return u


_EQUATION = "julia", "equation"


def _equation(request: PathsRequest, *kinds: str) -> Any:
    """The equation in Julia, with at least these parts of its models compiled."""
    if request.diffusion is None:
        f = bridge.model(_plain(request, request.drift), kinds)
        return call("Driven", f, request.drift.places, request.u0.shape[1], request.blocks[0])
    if request.delays:
        return _delayed(request)
    jac = ("jac",) if request.alg.implicit else ()
    f, g = (bridge.model(_plain(request, part), (*kinds, *more))
            for part, more in ((request.drift, jac), (request.diffusion, ())))  # fmt: skip
    places = request.drift.places, request.diffusion.places
    key = request.blocks, *(x.tobytes() for x in places)
    # With the drift: one for all solves of a training loop, whose models and places are the same.
    then = request.drift.rhs.lowered.get(_EQUATION)
    if then is None or then[0] is not f or then[1] is not g or then[2] != key:
        then = request.drift.rhs.lowered[_EQUATION] = f, g, key, call("Equation", f, g, *places, *request.blocks)
    return then[3]


def _delayed(request: PathsRequest) -> Any:
    """The equation with delays, whose parts are the drift and its lags, the diffusion and its lags, and the past."""
    assert request.diffusion is not None  # noqa: S101 - an equation with delays has one
    lags, others, past = request.delays
    parts = (request.drift, lags, request.diffusion, others, past)
    models = [bridge.model(_plain(request, part), ("f",)) for part in parts]
    return call("DelayedEquation", request.u0.shape[1], *request.asked, *models, *(part.places for part in parts))


def _plain(request: PathsRequest, part: RequestPart) -> Request:
    """One part as an ordinary right-hand side, whose Jacobian is dense."""
    return Request(rhs=part.rhs, program=part.program, u0=request.u0[0], p=request.p[0], t0=request.t0, t1=request.t1,
                   ts=request.ts, alg=Tsit5(), sensealg=GaussAdjoint(), reltol=request.reltol, abstol=request.abstol,
                   single=request.single)  # fmt: skip


def _entered(request: PathsRequest, name: str, *integers: int) -> int:
    try:
        return enter(name, *integers)
    except JuliaError as error:
        parts = (*(() if request.diffusion is None else (request.diffusion,)), *request.delays)
        whole = _plain(request, request.drift)._replace(parts=parts, alg=request.alg)
        failure = translated(error, whole, "backward" if name.startswith("adjoint") else "forward")
    raise failure


def _errors(request: PathsRequest, paths: Any, stopped: np.ndarray, u: np.ndarray) -> dict[int, SolveError]:
    found: dict[int, SolveError] = {}
    if all_finite(u.ravel()):
        return found
    for i in np.flatnonzero(~np.isfinite(u).all(axis=(1, 2))):
        code, detail = ReturnCode.Unstable, "NaN or infinity in the result"
        if np.isnan(stopped[i]):
            u[i] = np.nan
        else:
            name = call("retcode", paths, int(i) + 1)
            code, detail = returned(name), f"{name} from Julia"
        found[int(i)] = stop(_plain(request, request.drift)._replace(alg=request.alg), "forward", code,
                             float(stopped[i]), detail)  # fmt: skip
    return found
