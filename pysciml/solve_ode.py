"""From an ODEProblem to its Solution."""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml import autograd, events
from pysciml.algorithms import DP5, Algorithm, by_name
from pysciml.callbacks import Callback, CallbackSet, as_set
from pysciml.config import config
from pysciml.control import (
    SaveAt,
    check_times,
    check_tolerances,
    check_transforms,
    every_step,
    in_order,
    is_complex,
    save_times,
    settled,
    solve_as_pairs,
    split_parts,
    tolerances,
)
from pysciml.engines import select
from pysciml.engines.base import Met, Request, Watch
from pysciml.engines.crossing import on_grid
from pysciml.engines.pieces import stopping
from pysciml.errors import InvalidInputError, PySciMLWarning, TraceError, UnsupportedError
from pysciml.problems import ODEProblem, check_halves, kind, plain
from pysciml.rhs import callback, functorch
from pysciml.rhs.captured import Substituted
from pysciml.rhs.julia_source import JuliaFunction, prepare_julia
from pysciml.rhs.parameters import leaf_names, pack, real, to_numpy
from pysciml.rhs.trace import prepare_for
from pysciml.sensitivity import DirectAdjoint, GaussAdjoint, SensitivityAlgorithm
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
    leaves = prob.inputs.u
    alg = by_name(alg) if isinstance(alg, str) else alg
    check_options(alg, route, dt=dt, dtmax=dtmax, maxiters=maxiters)
    control = settled(prob, saveat, tstops, d_discontinuities, save_everystep, save_idxs, progress)
    in_julia = isinstance(prob.f, JuliaFunction)
    name = select.choose(engine, alg, sensealg, leaves[0].device.type == "cpu", in_julia)
    reltol, abstol = tolerances(prob, reltol, abstol)
    ts = save_times(prob, saveat)
    _check_memory(prob.inputs.u_layout.size, ts.numel())
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
    common = select.engine(name), alg, program, rhs, reltol, abstol, sensealg, control
    return _path(prob, callback, ts, _flat_machine(*common, **steps))


def _path(prob: ODEProblem, callback: Any, ts: torch.Tensor, machine: events.Machine) -> Solution:
    return machine.run(prob, ts, None) if callback is None else events.solve(prob, as_set(callback), ts, machine)


def _flat_machine(engine, alg, program, rhs, reltol, abstol, sensealg, control, **steps) -> events.Machine:
    common = engine, alg, program, rhs, reltol, abstol, sensealg

    def request(prob: ODEProblem) -> Request:
        t0, t1 = prob.span
        make = request_maker(prob, *common, **steps)
        return make(u0=pack(prob.inputs.u), p=pack([*prob.inputs.p, *program.captured]), t0=t0, ts=np.array([t1]))

    def run(prob: ODEProblem, ts: torch.Tensor, met: Met | None) -> Solution:
        return _solve_flat(prob, ts, *common, control, met=met, **steps)

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


def captured_by(program: Any) -> list[torch.Tensor]:
    """The tensors that f captured, as the caller has them."""
    f = program.f
    functions = [hole.module for hole in f.holes.values()] if isinstance(f, JuliaFunction) else [f]
    return functorch.originals(functions, program.captured)


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


def request_maker(prob, engine, alg, program, rhs, reltol, abstol, sensealg, **steps) -> functools.partial[Request]:
    """What makes an engine's Request from the values u0, p, t0 and ts, the rest being checked and settled."""
    mass = None
    if prob.mass_matrix is not None:
        with functorch.outside():
            mass = pack(pytree.tree_leaves(prob.mass_matrix))
    alg, sensealg = alg or engine.default_algorithm(mass), sensealg or GaussAdjoint()
    if mass is not None and not alg.dae and not mass.all():
        takes = type(engine.default_algorithm(mass)).__name__
        raise UnsupportedError(
            f"`{alg.name}` cannot solve a mass matrix with zeros.",
            got=f"{int((mass == 0).sum())} zeros",
            expected=takes,
            fix=f"pysciml.solve(prob, pysciml.{takes}())",
        )
    engine.check(alg, sensealg, steps.get("dt"), kind(prob.f))
    check_halves(alg, prob)
    check_tolerances(alg, reltol, abstol)
    reltol, abstol = (functorch.numbers(x) if isinstance(x, torch.Tensor) else x for x in (reltol, abstol))
    single = prob.inputs.u[0].dtype is torch.float32 and alg.package != "Sundials"
    return functools.partial(Request, rhs=rhs, program=program, t1=prob.span[1], alg=alg, sensealg=sensealg,
                             reltol=reltol, abstol=abstol, mass=mass, kind=kind(prob.f),
                             single=single and config.single_precision, **steps)  # fmt: skip


def _solve_flat(prob, ts, engine, alg, program, rhs, reltol, abstol, sensealg, control, *, met: Met | None = None,
                **steps) -> Solution:  # fmt: skip
    """Solves with an engine, which sees flat vectors; or takes the states of a search that has solved already."""
    leaves, (t0, t1), engine = prob.inputs.u, prob.tspan, stopping(engine, control.tstops, control.jumps)
    request = request_maker(prob, engine, alg, program, rhs, reltol, abstol, sensealg, **steps)
    captured = captured_by(program)
    inputs = _to_host([*leaves, *prob.inputs.p, *map(real, captured)], prob)
    out_device, names = leaves[0].device, functools.partial(parameter_names, prob, captured)
    mass = request.keywords["mass"]
    given = _checking(request) if functorch.transforming() else request
    call = autograd.Call(engine, rhs, program, given, leaves[0].dtype, len(leaves), names, mass)
    if met is not None and met.trajectory is not None:
        call.dense, call.solved = met.trajectory, _solved(request, inputs, len(leaves), prob.span[0])
    with control.watch(engine.reached if control.progress else None):
        if control.every_step:
            ts = every_step(call, t0, inputs).to(ts.device)
        u = autograd.solve(call, t0, t1, ts.cpu(), inputs)

    def dense(times: torch.Tensor) -> Any:
        again = replace(call, dense=call.trajectory)
        values = in_order(
            times.cpu(), prob.span[1] < prob.span[0], lambda ts: autograd.solve(again, t0, t1, ts, inputs)
        )
        return control.pick(program.u_layout.unflatten(values.to(out_device)))

    found = control.pick(program.u_layout.unflatten(u.to(out_device)))
    return Solution(ts, found, prob, ReturnCode.Success, call.stats, dense)


def _solved(
    request: Callable[..., Request], inputs: list[torch.Tensor], states: int, t0: float
) -> Callable[..., Request]:
    """What makes the requests of a solve that was made already."""
    return request(u0=pack(inputs[:states]), p=pack(inputs[states:]), t0=t0, ts=np.empty(0))._replace


def _checking(request: Callable[..., Request]) -> Callable[..., Request]:
    """`request`, which looks at the times of each member where `vmap` maps over times."""

    def checked(*, t0: float, t1: float, ts: np.ndarray, **given: Any) -> Request:
        check_times(ts, t0, t1)
        return request(t0=t0, t1=t1, ts=ts, **given)

    return checked


def parameter_names(prob: ODEProblem, captured: Sequence[torch.Tensor]) -> list[str]:
    """What the user calls each parameter: `p['k']`, `net.0.weight`, a closure's variable, or "captured tensor 2"."""
    known = {id(x): name for name, x in _reach(prob.f).items()}
    own = leaf_names(prob.p, "p") if prob.p is not None else []
    return own + [known.get(id(x), f"captured tensor {i}") for i, x in enumerate(captured)]


def _tensors_of(prob: ODEProblem) -> dict[str, torch.Tensor]:
    """The tensors a problem is seen to depend on, by the names the user has for them."""
    parts = {"u0": prob.u0} | ({} if prob.p is None else {"p": prob.p})
    own = {
        n: x
        for root, tree in parts.items()
        for n, x in zip(leaf_names(tree, root), pytree.tree_leaves(tree), strict=True)
    }
    return own | _reach(prob.f)


def _reach(f: Any) -> dict[str, torch.Tensor]:
    """Tensors and module parameters that f holds itself, in its closure or by the names of its globals."""
    inner = getattr(f, "inner_functions", ())
    if inner:
        return {name: x for g in inner for name, x in _reach(g).items()}
    code, cells = getattr(f, "__code__", None), getattr(f, "__closure__", None) or ()
    held = dict(zip(code.co_freevars, (c.cell_contents for c in cells), strict=True)) if code else {}
    held |= {k: v for k, v in getattr(f, "__globals__", {}).items() if code and k in code.co_names}
    found = {name: value for name, value in held.items() if isinstance(value, torch.Tensor)}
    modules = {name: value for name, value in held.items() if isinstance(value, torch.nn.Module)}
    for name, module in (modules | ({"": f} if isinstance(f, torch.nn.Module) else {})).items():
        for path, x in (*module.named_parameters(), *module.named_buffers()):
            found[f"{name}.{path}" if name else path] = x
    return found


def _to_host(tensors: list[torch.Tensor], prob: ODEProblem) -> list[torch.Tensor]:
    """CPU copies, made outside the autograd Function so that no engine runs on autograd's device threads."""
    if all(x.is_cpu for x in tensors):
        return tensors
    warnings.warn("state or parameters on a GPU are copied to the CPU at every solve; pysciml.DP5() in the embedded "
                  "engine solves on the GPU.", PySciMLWarning, stacklevel=4)  # fmt: skip
    return [x.cpu() for x in tensors]


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
    used = _tensors_of(prob)
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
        check_times(ts.detach().cpu().numpy(), *given.span)
        out, counted, _ = states(given, ts=ts)
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
