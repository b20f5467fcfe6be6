"""From an ODEProblem to its Solution."""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml import events
from pysciml.algorithms import DP5, Algorithm, by_name
from pysciml.callbacks import Callback, CallbackSet, as_set
from pysciml.config import config
from pysciml.control import (
    SaveAt,
    check_transforms,
    in_order,
    is_complex,
    moved_inside,
    save_times,
    settled,
    solve_as_pairs,
    split_parts,
    tolerances,
)
from pysciml.engines import select
from pysciml.engines.base import Met, Request, Watch
from pysciml.engines.crossing import on_grid
from pysciml.errors import InvalidInputError, PySciMLWarning, TraceError, UnsupportedError
from pysciml.flat import Flat, captured_by, remember, remembered, request_maker, tensors_of
from pysciml.problems import ODEProblem, kind, plain
from pysciml.rhs import callback, functorch
from pysciml.rhs.captured import Substituted
from pysciml.rhs.julia_source import JuliaFunction, prepare_julia
from pysciml.rhs.parameters import pack, to_numpy
from pysciml.rhs.trace import prepare_for
from pysciml.sensitivity import DirectAdjoint, SensitivityAlgorithm
from pysciml.solution import ReturnCode, Solution, Stats
from pysciml.transforms import InTorch, apply

_ROUTES = ("compiled", "callback")
_MAY_BE_DIRECT = (DirectAdjoint, type(None))
_SMALL = 2**20  # bytes that need no look at how much memory there is


def solve_ode(
    prob: ODEProblem,
    alg: Algorithm | str | None = None,
    *,
    saveat: SaveAt = None,
    reltol: float | None = None,
    abstol: Any = None,
    callback: Callback | CallbackSet | Sequence[Callback] | None = None,
    sensealg: SensitivityAlgorithm | None = None,
    engine: str | None = None,
    route: str | None = None,
    dt: float | None = None,
    dtmax: float | None = None,
    maxiters: int | None = None,
    tstops: Any = (),
    d_discontinuities: Any = (),
    save_everystep: bool = False,
    save_idxs: Any = None,
    progress: bool = False,
) -> Solution:
    """`pysciml.solve` of an `ODEProblem`, whose arguments these are."""
    leaf, wanted = prob.inputs.u[0], engine or config.engine
    asked = (alg, reltol, abstol, callback, sensealg, wanted, select.engine_name(wanted), route, dt, dtmax, maxiters,
             tstops, d_discontinuities, save_everystep, save_idxs, progress,
             leaf.dtype is torch.float32 and config.single_precision)  # fmt: skip
    known = remembered(prob, asked)
    if known is not None:
        return known.solve(prob, _times(prob, saveat))
    check_transforms(prob, save_everystep, progress)
    if callback is not None:
        events.check_alone(prob, tstops=tstops, d_discontinuities=d_discontinuities, save_everystep=save_everystep,
                           save_idxs=save_idxs, progress=progress)  # fmt: skip
    if is_complex(prob.u0) or is_complex(prob.p):
        again = functools.partial(
            solve_ode, saveat=saveat, sensealg=sensealg, engine=engine, route=route, dt=dt, dtmax=dtmax,
            maxiters=maxiters, tstops=tstops, d_discontinuities=d_discontinuities, save_everystep=save_everystep,
            progress=progress,
        )  # fmt: skip
        return solve_as_pairs(again, prob, alg, reltol, abstol, save_idxs)
    in_julia = isinstance(prob.f, JuliaFunction)
    alg = by_name(alg) if isinstance(alg, str) else alg
    check_options(alg, route, dt=dt, dtmax=dtmax, maxiters=maxiters)
    name = select.choose(engine, alg, sensealg, leaf.is_cpu, in_julia)
    control = settled(prob, saveat, tstops, d_discontinuities, save_everystep, save_idxs, progress)
    reltol, abstol = tolerances(prob, reltol, abstol)
    ts = _times(prob, saveat)
    steps: dict[str, Any] = {
        "dt": dt,
        "dtmax": dtmax,
        "maxiters": maxiters,
        "tstops": control.tstops if control.tstops.size else None,
    }
    if name == "embedded":
        if alg is not None:
            select.check_algorithm(alg, name, kind(prob.f))
        if _is_eager(prob, alg, route):
            return _path(prob, callback, ts, _eager_machine(alg or DP5(), reltol, abstol, sensealg, control, **steps))
    try:
        program, rhs = prepare_rhs(prob, route)
    except TraceError as refusal:
        eager = name == "embedded" and alg is None and prob.mass_matrix is None
        if in_julia or route == "compiled" or not (name == "julia" or eager):
            raise
        by = "is called back from Julia" if name == "julia" else "is solved by eager torch"
        warnings.warn(f"f cannot be compiled, so it {by}, which is slower:\n{refusal}", PySciMLWarning, stacklevel=4)
        if eager:
            return _path(prob, callback, ts, _eager_machine(DP5(), reltol, abstol, sensealg, control, **steps))
        program, rhs = prepare_rhs(prob, "callback")
    free = alg is None and route is None and prob.mass_matrix is None and isinstance(sensealg, _MAY_BE_DIRECT)
    if free and select.prefers_torch(engine, name, rhs, program):
        return _path(prob, callback, ts, _eager_machine(DP5(), reltol, abstol, sensealg, control, **steps))
    steps["parts"] = split_parts(prob, alg, program, functools.partial(prepare_rhs, route=_route_of(rhs)), captured_by)
    common = select.engine(name), alg, program, rhs, reltol, abstol, sensealg
    if callback is not None:
        return _path(prob, callback, ts, _flat_machine(*common, control, **steps))
    flat = Flat.of(prob, *common, control, **steps)
    remember(prob, asked, flat)
    return flat.solve(prob, ts)


def _times(prob: ODEProblem, saveat: SaveAt) -> torch.Tensor:
    ts = save_times(prob, saveat)
    _check_memory(prob.inputs.u_layout.size, ts.numel())
    return ts


def _path(prob: ODEProblem, callback: Any, ts: torch.Tensor, machine: events.Machine) -> Solution:
    return machine.run(prob, ts, None) if callback is None else events.solve(prob, as_set(callback), ts, machine)


def _flat_machine(engine, alg, program, rhs, reltol, abstol, sensealg, control, **steps) -> events.Machine:
    common = engine, alg, program, rhs, reltol, abstol, sensealg

    def request(prob: ODEProblem) -> Request:
        t0, t1 = prob.span
        make = request_maker(prob, *common, **steps)
        return make(u0=pack(prob.inputs.u), p=pack([*prob.inputs.p, *program.captured]), t0=t0, ts=np.array([t1]))

    def run(prob: ODEProblem, ts: torch.Tensor, met: Met | None) -> Solution:
        return Flat.of(prob, *common, control, **steps).solve(prob, ts, met)

    def search(prob: ODEProblem, watch: Watch) -> Met:
        return engine.first_event(request(prob), watch)

    def slope(prob: ODEProblem, t: float, u: Any) -> Any:
        leaves = pytree.tree_leaves(u)
        flat = engine.derivative(request(prob), np.array([t]), pack(leaves)[None])[0]
        return prob.inputs.u_layout.unflatten(torch.from_numpy(flat).to(leaves[0]))

    return events.Machine(run, search, slope)


def _eager_machine(alg, reltol, abstol, sensealg, control, **steps) -> events.Machine:
    def run(prob: ODEProblem, ts: torch.Tensor, met: Met | None) -> Solution:
        return _solve_eager(prob, alg, ts, reltol, abstol, sensealg, control, **steps)

    def search(prob: ODEProblem, watch: Watch) -> Met:
        leaf, p = prob.inputs.u[0], () if prob.p is None else (prob.p,)

        def states(ts: np.ndarray) -> np.ndarray:
            u = run(prob, torch.from_numpy(ts).to(leaf.device), None).u
            return np.concatenate([to_numpy(x).reshape(len(ts), -1) for x in pytree.tree_leaves(u)], axis=1)

        def values(t: float, u: np.ndarray) -> np.ndarray:
            state = prob.inputs.u_layout.unflatten(torch.from_numpy(u).to(leaf))
            return to_numpy(watch.program.f.values(torch.tensor(t).to(leaf), state, *p))

        return on_grid(states, values, watch, *prob.span)

    def slope(prob: ODEProblem, t: float, u: Any) -> Any:
        leaf, p = prob.inputs.u[0], () if prob.p is None else (prob.p,)
        with torch.no_grad():
            return prob.f(torch.tensor(t).to(leaf), u, *p)

    return events.Machine(run, search, slope, compiles=False)


def prepare_rhs(prob: ODEProblem, route: str | None) -> tuple[Any, Any]:
    """The right-hand side as an engine takes it, on the route asked for: with plain values, outside of torch.func."""
    if not functorch.transforming():
        return _prepare(prob, route)
    outer = plain(prob)
    with functorch.outside():
        return _prepare(outer, route)


def _prepare(prob: ODEProblem, route: str | None) -> tuple[Any, Any]:
    if isinstance(prob.f, JuliaFunction):
        return prepare_julia(prob)
    if route == "callback":
        return callback.prepare_callback(prob)
    return prepare_for(prob.f, prob.tspan[0], prob.inputs)


def _route_of(rhs: Any) -> str | None:
    return "callback" if isinstance(rhs, callback.CallbackRHS) else None


def _is_eager(prob: ODEProblem, alg: Algorithm | None, route: str | None) -> bool:
    on_device = prob.inputs.u[0].device.type != "cpu"
    if alg is None:
        return route == "callback" or (on_device and route is None and prob.mass_matrix is None)
    eager = alg.embedded == "torchdiffeq"
    if route is not None and eager != (route == "callback"):
        raise UnsupportedError(
            f"`{alg.name}` cannot take the {route} route in the embedded engine.", got=f'route="{route}"',
            expected="CVODE_BDF, CVODE_Adams and IDA are compiled; Tsit5, DP5, BS3, Heun and Euler are eager",
            fix=f"pysciml.solve(prob, pysciml.{'DP5' if route == 'callback' else 'CVODE_BDF'}())",
        )  # fmt: skip
    return eager


def _solve_eager(prob, alg, ts, reltol, abstol, sensealg, control, **steps) -> Solution:
    from pysciml.engines.embedded import eager  # imports torchdiffeq and SciPy: only when it solves

    if prob.mass_matrix is not None:
        raise UnsupportedError(
            f"`{alg.name}` cannot take a mass matrix.",
            got="mass_matrix",
            expected="IDA or CVODE_BDF",
            fix="pysciml.solve(prob, pysciml.IDA())",
        )
    states: Callable = functools.partial(eager.solve, alg=alg, reltol=reltol, abstol=abstol,
                               sensealg=sensealg or DirectAdjoint(),
                               jumps=control.jumps, watch=control.watch, **steps)  # fmt: skip
    if control.every_step:
        with torch.no_grad():
            ts = states(prob, ts=ts[-1:])[2]
    u, stats = _eager_states(states, prob, ts)
    used = tensors_of(prob)
    versions = {name: x._version for name, x in used.items()}

    def dense(times: torch.Tensor) -> Any:
        changed = [name for name, x in used.items() if x._version != versions[name]]
        if changed:
            raise InvalidInputError(
                "eager torch solves again for sol(t), and a parameter has changed since sol was made.",
                got=f"another value of `{changed[0]}`",
                fix="solve again, or save at these times: pysciml.solve(prob, saveat=t)",
            )
        backwards = prob.span[1] < prob.span[0]
        return control.pick(in_order(times, backwards, lambda ts: _eager_states(states, prob, ts)[0]))

    return Solution(ts, control.pick(u), prob, ReturnCode.Success, stats, dense)


def _eager_states(states: Callable, prob: ODEProblem, ts: torch.Tensor) -> tuple[Any, Stats]:
    """What `states(prob, ts=ts)` gives, as one operation where torch.func transforms it: each member has own steps."""
    if not functorch.transforming():
        return states(prob, ts=ts)[:2]
    outer = plain(prob)
    with functorch.outside():
        captured = callback.prepare_callback(outer)[0].captured
    counts, stats, inputs = (2, len(prob.inputs.u), len(prob.inputs.p)), Stats(), prob.inputs

    def run(ts: torch.Tensor, *xs: torch.Tensor) -> list[torch.Tensor]:
        times, u, p, others = _parts(xs, counts)
        given = outer.remake(f=Substituted(outer.f, captured, others), tspan=tuple(times), u0=inputs.u_layout.build(u),
                             p=inputs.p_layout and inputs.p_layout.build(p))  # fmt: skip
        out, counted, _ = states(given, ts=moved_inside(ts, *given.span))
        vars(stats).update(vars(counted))
        return pytree.tree_leaves(out)

    times = [torch.as_tensor(t, dtype=torch.float64, device=ts.device) for t in prob.tspan]
    out = apply(InTorch(run), ts, *times, *inputs.u, *inputs.p, *functorch.originals([outer.f], captured))
    return inputs.u_layout.build(list(out)), stats


def _parts(xs: Sequence[torch.Tensor], counts: Sequence[int]) -> list[list[torch.Tensor]]:
    """The first so many, the next so many, ..., and the rest."""
    ends = [0, *itertools.accumulate(counts), len(xs)]
    return [list(xs[a:b]) for a, b in itertools.pairwise(ends)]


def check_options(alg: Algorithm | None, route: str | None, **steps: Any) -> None:
    """Raises `InvalidInputError` for what cannot be an algorithm, a route or a step."""
    if alg is not None and not isinstance(alg, Algorithm):
        raise InvalidInputError("alg must be an algorithm or its name.", got=f"{alg!r:.80}", fix="pysciml.CVODE_BDF()")
    if route is not None and route not in _ROUTES:
        raise InvalidInputError(f"there is no route {route!r}.", got=f"route={route!r}", expected=", ".join(_ROUTES))
    for name, value in steps.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InvalidInputError(f"{name} must be positive.", got=f"{name}={value!r}", fix=f"leave {name} out")


def _check_memory(n: int, saved: int) -> None:
    need = 8 * n * (2 * saved + 30)  # the saved states twice, and a multistep method's history
    if need < _SMALL:
        return
    limit = config.memory_limit_bytes()
    if need > limit:
        raise InvalidInputError(
            f"this solve would take about {need / 2**30:.3g} GiB, more than the limit of {limit / 2**30:.3g} GiB.",
            got=f"{n} states, {saved} saved times",
            fix="save fewer times, split the state, or raise pysciml.config.memory_limit",
        )
