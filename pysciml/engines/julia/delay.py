"""Problems with delays: DelayDiffEq.jl, and the sweep of `delay_adjoint.jl` for their gradients."""

from __future__ import annotations

import re
import time
from typing import Any

import numpy as np

from pysciml.algorithms import MethodOfSteps, Tsit5
from pysciml.engines.base import Pullback, Request, Trajectory
from pysciml.engines.julia import bridge
from pysciml.engines.julia.algorithms import asks_for_derivatives, julia_algorithm
from pysciml.engines.julia.engine import _check_finite, called, counted, entered
from pysciml.engines.julia.errors import JuliaError
from pysciml.engines.julia.runtime import Held
from pysciml.errors import InvalidInputError
from pysciml.rhs.base import CompiledRHS
from pysciml.sensitivity import GaussAdjoint
from pysciml.solution import Stats

_WITH_JUMPS = {"sign", "floor", "ceil", "fmod", "where", "not", "and", "or", "eq", "ne", "lt", "le", "gt", "ge"}
_FUTURE = re.compile(r"PySciML\.Future: (\S+) (\S+)")


def solve(request: Request) -> Trajectory:
    """The states at `request.ts`. Its parts are the slope, the times asked for and the past."""
    u, numbers = np.empty((request.ts.size, request.u0.size)), bridge.numbers(request)
    alg = request.alg
    start = time.perf_counter()
    kinds = ("f", "jac") if isinstance(alg, MethodOfSteps) and asks_for_derivatives(alg.alg) else ("f",)
    models = _models(request, kinds, ("f",), ("f",))
    each = [None if isinstance(x, float) else np.asarray(x) for x in (request.abstol, request.reltol)]
    places = [part.places for part in request.parts]
    where = bridge.table(u, numbers, request.u0, request.p, request.ts, *each, *places)
    n, k = request.u0.size, request.parts[0].rhs.n // request.u0.size - 1
    made = julia_algorithm(alg)  # held here, as the models are: what nobody holds is let go before a call
    try:
        number = entered(request, "forward", "solve_delay_at", bridge.address(where), n, k, made.number,
                         *(model.number for model in models))  # fmt: skip
    except JuliaError as error:
        future = _FUTURE.search(error.got or "")
        if future is None:
            raise
        raised = _asks_for_future(*map(float, future.groups()))
    else:
        stats = counted(numbers, alg, time.perf_counter() - start)
        _check_finite(u, request, "forward")
        return Trajectory(u, stats, handle=Held(number))
    raise raised


def interpolate(request: Request, trajectory: Trajectory) -> Trajectory:
    """The states at other times of the span."""
    u = np.empty((request.ts.size, request.u0.size))
    called(request, "forward", "interpolate_delay!", bridge.columns(u), trajectory.handle, request.ts)
    return Trajectory(u, trajectory.stats, handle=trajectory.handle)


def vjp(request: Request, trajectory: Trajectory, cotangents: np.ndarray) -> tuple[Pullback, float]:
    """The gradients of sum(cotangents * u) in u0 and p, and in t0."""
    flat, dt0 = np.empty(request.u0.size + request.p.size), np.empty(1)
    start = time.perf_counter()
    _models(request, ("f", "jac", "vjp_p"), ("f", "jac", "tgrad", "vjp_p"), ("f", "tgrad", "vjp_p"))
    where = bridge.table(flat, dt0, request.ts, cotangents)
    stages = getattr(request.sensealg, "stages", None) or 0
    steps = entered(request, "backward", "adjoint_delay_at", bridge.address(where), trajectory.handle.number, stages,
                    _moves(request), _may_jump(request))  # fmt: skip
    _check_finite(flat, request, "backward")
    stats = Stats(naccept=steps, nreject=0, wall_time=time.perf_counter() - start, engine="julia",
                  alg=request.sensealg.name)  # fmt: skip
    return Pullback(flat, request.u0.size, stats), float(dt0[0])


def slopes(request: Request, trajectory: Trajectory) -> np.ndarray:
    """du/dt on the solution at `request.ts`, (k, n)."""
    out = np.empty((request.ts.size, request.u0.size))
    called(request, "backward", "slopes_delay!", bridge.columns(out), trajectory.handle, request.ts)
    return out


def _models(request: Request, *kinds: tuple[str, ...]) -> list[Any]:
    """Julia's models of the three parts, each with at least these of its own parts compiled."""
    plain = request._replace(parts=(), alg=Tsit5(), sensealg=GaussAdjoint())  # not sparse: each is padded with zeros
    each = (plain._replace(rhs=part.rhs, program=part.program) for part in request.parts)
    return [bridge.model(part, these) for part, these in zip(each, kinds, strict=True)]


def _moves(request: Request) -> bool:
    """Whether the times that f asks for depend on the state or on parameters."""
    _, lags, _ = request.parts
    if not isinstance(lags.rhs, CompiledRHS):
        return True
    graph = lags.rhs.graph("f", lags.program)
    return graph.depends_on("u") or graph.depends_on("p")


def _may_jump(request: Request) -> bool:
    """Whether the state before t0 may jump."""
    past = request.parts[2]
    if not isinstance(past.rhs, CompiledRHS):
        return True
    graph = past.rhs.graph("f", past.program)
    return graph.depends_on("t") and any(node.op in _WITH_JUMPS for node in graph.nodes)


def _asks_for_future(t: float, asked: float) -> InvalidInputError:
    return InvalidInputError(
        "f asks h for a state that is not there yet.", got=f"h({asked:.6g}) at t = {t:.6g}",
        expected="times before t: h(t - lag) with a lag that is not negative",
        fix="a learned lag stays positive as torch.exp(x) or torch.nn.functional.softplus(x)",
    )  # fmt: skip
