"""solve(): from a problem to a Solution."""

from __future__ import annotations

import functools
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
from pysciml.engines import select
from pysciml.engines.base import Met, Request, Watch
from pysciml.engines.crossing import on_grid
from pysciml.errors import InvalidInputError, PySciMLWarning, TraceError, UnsupportedError
from pysciml.problems import ODEProblem
from pysciml.rhs import callback
from pysciml.rhs.julia_source import JuliaFunction, prepare_julia
from pysciml.rhs.parameters import leaf_names, pack, to_numpy
from pysciml.rhs.trace import prepare_for
from pysciml.sensitivity import DirectAdjoint, GaussAdjoint, SensitivityAlgorithm
from pysciml.solution import ReturnCode, Solution

SaveAt = float | Sequence[float] | torch.Tensor | None
_DEFAULT_TOLERANCES = {torch.float64: (1e-6, 1e-8), torch.float32: (1e-4, 1e-6)}
_ROUTES = ("compiled", "callback")
_SMALL = 2**20  # bytes that need no look at how much memory there is
_FEW = 1000  # saved times that are remembered as checked


def solve(
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
) -> Solution:
    """Solves a problem; the result is differentiable in u0, p, module parameters, captured tensors and times.

    Args:
        prob: the problem.
        alg: an algorithm or its name. None, with Julia: `DefaultODEAlgorithm`, which chooses as SciML does and
            switches when f turns stiff; embedded: `CVODE_BDF` (`IDA` with a mass matrix), right for stiff and
            non-stiff alike, and `DP5` where f cannot be compiled or lives on a GPU.
        saveat: times to save at, strictly monotone from t0 towards t1, a list or a tensor (which may require grad); or
            a number, the spacing from t0 on; None saves both ends of the span.
        reltol, abstol: local error tolerances, positive; `abstol` may be one per state, in u0's structure. Defaults
            1e-6 and 1e-8 in float64, 1e-4 and 1e-6 in float32.
        callback: events, one or several: `ContinuousCallback`, `VectorContinuousCallback`, `DiscreteCallback`,
            `PresetTimeCallback`. At the time of an event the state before it is saved; `sol.events` has both. A solve
            that an event terminates ends with its time and the state after it.
        sensealg: how gradients are computed. None: `GaussAdjoint` compiled, `DirectAdjoint` eager.
        engine: "julia", "embedded", or "auto": julia where it is set up; None takes `pysciml.config.engine`.
        route: "compiled" or "callback" (f stays Python); None compiles f where that is possible, and says where not.
        dt: first step, or the step of a fixed-step method. dtmax: largest step. maxiters: most steps.

    Raises:
        InvalidInputError: an argument that cannot mean anything. UnsupportedError: this engine cannot do it; says what
            can. TraceError: f cannot be compiled. SolveError: the solver did not reach the end; says where it stopped.

    Example:
        >>> import torch, pysciml as ps
        >>> f = lambda t, u: torch.stack([u[1], -u[0]])
        >>> prob = ps.ODEProblem(f, torch.tensor([1.0, 0.0], dtype=torch.float64), (0.0, 3.0))
        >>> sol = ps.solve(prob, ps.CVODE_Adams(), saveat=0.5, reltol=1e-10, abstol=1e-10)
        >>> torch.allclose(sol.u[:, 0], torch.cos(sol.t), atol=1e-8)
        True
    """
    if not isinstance(prob, ODEProblem):
        raise InvalidInputError("solve needs a problem.", got=type(prob).__name__,
                                fix="pysciml.solve(pysciml.ODEProblem(f, u0, tspan))")  # fmt: skip
    leaves = prob.inputs.u
    alg = by_name(alg) if isinstance(alg, str) else alg
    check_options(alg, route, dt=dt, dtmax=dtmax, maxiters=maxiters)
    in_julia = isinstance(prob.f, JuliaFunction)
    name = select.choose(engine, alg, sensealg, leaves[0].device.type == "cpu", in_julia)
    reltol, abstol = tolerances(prob, reltol, abstol)
    ts = save_times(prob, saveat)
    _check_memory(prob.inputs.u_layout.size, ts.numel())
    steps = {"dt": dt, "dtmax": dtmax, "maxiters": maxiters}
    if name == "embedded":
        if alg is not None:
            select.check_algorithm(alg, name)
        if _is_eager(prob, alg, route):
            return _path(prob, callback, ts, _eager_machine(alg or DP5(), reltol, abstol, sensealg, **steps))
    try:
        program, rhs = prepare_rhs(prob, route)
    except TraceError as refusal:
        eager = name == "embedded" and alg is None and prob.mass_matrix is None
        if in_julia or route == "compiled" or not (name == "julia" or eager):
            raise
        by = "is called back from Julia" if name == "julia" else "is solved by eager torch"
        warnings.warn(f"f cannot be compiled, so it {by}, which is slower:\n{refusal}", PySciMLWarning, stacklevel=2)
        if eager:
            return _path(prob, callback, ts, _eager_machine(DP5(), reltol, abstol, sensealg, **steps))
        program, rhs = prepare_rhs(prob, "callback")
    common = select.engine(name), alg, program, rhs, reltol, abstol, sensealg
    if callback is None:
        return _solve_flat(prob, ts, *common, **steps)
    return _path(prob, callback, ts, _flat_machine(*common, **steps))


def _path(prob: ODEProblem, callback: Any, ts: torch.Tensor, machine: events.Machine) -> Solution:
    return machine.run(prob, ts, None) if callback is None else events.solve(prob, as_set(callback), ts, machine)


def _flat_machine(engine, alg, program, rhs, reltol, abstol, sensealg, **steps) -> events.Machine:
    common = engine, alg, program, rhs, reltol, abstol, sensealg

    def request(prob: ODEProblem) -> Request:
        t0, t1 = prob.span
        make = request_maker(prob, *common, **steps)
        return make(u0=pack(prob.inputs.u), p=pack([*prob.inputs.p, *program.captured]), t0=t0, ts=np.array([t1]))

    def run(prob: ODEProblem, ts: torch.Tensor, met: Met | None) -> Solution:
        return _solve_flat(prob, ts, *common, met=met, **steps)

    def search(prob: ODEProblem, watch: Watch) -> Met:
        return engine.first_event(request(prob), watch)

    def slope(prob: ODEProblem, t: float, u: Any) -> Any:
        leaves = pytree.tree_leaves(u)
        flat = engine.derivative(request(prob), np.array([t]), pack(leaves)[None])[0]
        return prob.inputs.u_layout.unflatten(torch.from_numpy(flat).to(leaves[0]))

    return events.Machine(run, search, slope)


def _eager_machine(alg, reltol, abstol, sensealg, **steps) -> events.Machine:
    def run(prob: ODEProblem, ts: torch.Tensor, met: Met | None) -> Solution:
        return _solve_eager(prob, alg, ts, reltol, abstol, sensealg, **steps)

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
    """The right-hand side as an engine takes it, on the route asked for."""
    if isinstance(prob.f, JuliaFunction):
        return prepare_julia(prob)
    if route == "callback":
        return callback.prepare_callback(prob)
    return prepare_for(prob.f, prob.tspan[0], prob.inputs)


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


def request_maker(prob, engine, alg, program, rhs, reltol, abstol, sensealg, **steps) -> Callable[..., Request]:
    """What makes an engine's Request from the values u0, p, t0 and ts, the rest being checked and settled."""
    mass = None if prob.mass_matrix is None else pack(pytree.tree_leaves(prob.mass_matrix))
    alg, sensealg = alg or engine.default_algorithm(mass), sensealg or GaussAdjoint()
    if mass is not None and not alg.dae and not mass.all():
        takes = type(engine.default_algorithm(mass)).__name__
        raise UnsupportedError(
            f"`{alg.name}` cannot solve a mass matrix with zeros.",
            got=f"{int((mass == 0).sum())} zeros",
            expected=takes,
            fix=f"pysciml.solve(prob, pysciml.{takes}())",
        )
    engine.check(alg, sensealg, steps.get("dt"))
    if isinstance(abstol, torch.Tensor):
        abstol = abstol.detach().cpu().double().numpy()
    single = prob.inputs.u[0].dtype is torch.float32 and alg.package != "Sundials"
    return functools.partial(Request, rhs=rhs, program=program, t1=prob.span[1], alg=alg, sensealg=sensealg,
                             reltol=reltol, abstol=abstol, mass=mass, single=single and config.single_precision,
                             **steps)  # fmt: skip


def _solve_flat(prob, ts, engine, alg, program, rhs, reltol, abstol, sensealg, *, met: Met | None = None,
                **steps) -> Solution:  # fmt: skip
    """Solves with an engine, which sees flat vectors; or takes the states of a search that has solved already."""
    leaves = prob.inputs.u
    request = request_maker(prob, engine, alg, program, rhs, reltol, abstol, sensealg, **steps)
    inputs = _to_host([*leaves, *prob.inputs.p, *program.captured], prob)
    out_device, names = leaves[0].device, functools.partial(parameter_names, prob, program.captured)
    call = autograd.Call(engine, rhs, request, leaves[0].dtype, len(leaves), names)
    if met is not None and met.trajectory is not None:
        call.dense, call.solved = met.trajectory, _solved(request, inputs, len(leaves), prob.span[0])
    u = autograd.solve(call, prob.tspan[0], ts.cpu(), inputs)

    def dense(times: torch.Tensor) -> Any:
        again = replace(call, dense=call.trajectory)
        values = _in_order(
            times.cpu(), prob.span[1] < prob.span[0], lambda ts: autograd.solve(again, prob.tspan[0], ts, inputs)
        )
        return program.u_layout.unflatten(values.to(out_device))

    return Solution(ts, program.u_layout.unflatten(u.to(out_device)), prob, ReturnCode.Success, call.stats, dense)


def _solved(request: Callable[..., Request], inputs: list[torch.Tensor], states: int, t0: float) -> Callable[..., Request]:
    """What makes the requests of a solve that was made already."""
    return request(u0=pack(inputs[:states]), p=pack(inputs[states:]), t0=t0, ts=np.empty(0))._replace


def _in_order(times: torch.Tensor, backwards: bool, solve_at: Callable[[torch.Tensor], Any]) -> Any:
    """The states at times in any order, asked for in the order of the solve.

    A time that comes again is asked for again, so that each has a gradient of its own.
    """
    values = times.detach().cpu().numpy()
    order = np.argsort(-values if backwards else values, kind="stable")
    along = -values[order] if backwards else values[order]
    _, starts, counts = np.unique(along, return_index=True, return_counts=True)
    turns = [order[starts[counts > k] + k] for k in range(counts.max())]
    found = [solve_at(times[torch.from_numpy(turn).to(times.device)]) for turn in turns]
    place = torch.from_numpy(np.argsort(np.concatenate(turns))).to(times.device)
    return pytree.tree_map(lambda *xs: torch.cat(xs)[place], *found)


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


def _solve_eager(prob, alg, ts, reltol, abstol, sensealg, **steps) -> Solution:
    from pysciml.engines.embedded import eager  # imports torchdiffeq and SciPy: only when it solves

    if prob.mass_matrix is not None:
        raise UnsupportedError(
            f"`{alg.name}` cannot take a mass matrix.",
            got="mass_matrix",
            expected="IDA or CVODE_BDF",
            fix="pysciml.solve(prob, pysciml.IDA())",
        )
    sensealg = sensealg or DirectAdjoint()
    u, stats = eager.solve(prob, alg, ts, reltol, abstol, sensealg, **steps)
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

        def at(ts: torch.Tensor) -> Any:
            return eager.solve(prob, alg, ts, reltol, abstol, sensealg, **steps)[0]

        return _in_order(times, prob.span[1] < prob.span[0], at)

    return Solution(ts, u, prob, ReturnCode.Success, stats, dense)


def save_times(prob: ODEProblem, saveat: SaveAt) -> torch.Tensor:
    """The (k,) times to save at, float64 on the state's device, differentiable in tspan or saveat.

    Raises:
        InvalidInputError: no times, times outside the span, or not strictly monotone from t0 towards t1.
    """
    device = prob.inputs.u[0].device
    if saveat is None or (isinstance(saveat, (int, float)) and not isinstance(saveat, bool)):
        t0, t1 = (torch.as_tensor(t, dtype=torch.float64, device=device) for t in prob.tspan)
        return torch.stack([t0, t1]) if saveat is None else _spaced(t0, t1, float(saveat))
    ts = saveat
    if not (isinstance(ts, torch.Tensor) and ts.dtype is torch.float64 and ts.device == device):
        # Python's numbers are float64; as a tensor of torch's default dtype they would no longer lie where they were put.
        ts = torch.as_tensor(ts, dtype=None if isinstance(ts, torch.Tensor) else torch.float64, device=device).double()
    _check_times(to_numpy(ts), *prob.span)
    return ts


def _check_times(ts: np.ndarray, t0: float, t1: float) -> None:
    if ts.ndim == 1 and ts.size and (_fit if ts.size <= _FEW else _fit.__wrapped__)(ts.tobytes(), t0, t1):
        return
    got, hint = f"saveat={ts.ravel().tolist()!r:.80}", "saveat=torch.linspace(t0, t1, 50)"
    if ts.ndim != 1 or ts.size == 0:
        raise InvalidInputError(
            "saveat must hold at least one time, in one dimension.", got=f"shape {list(ts.shape)}", fix=hint
        )
    first, last = ts.min(), ts.max()
    if not (math.isfinite(first) and math.isfinite(last)):
        raise InvalidInputError("saveat must be finite.", got=got, fix=hint)
    low, high = min(t0, t1), max(t0, t1)
    slack = 1e-12 * max(abs(low), abs(high), high - low)
    if first < low - slack or last > high + slack:
        raise InvalidInputError("saveat must lie inside tspan.", got=got, expected=f"times from {low:g} to {high:g}",
                                fix=f"tspan=({min(low, first):g}, {max(high, last):g})")  # fmt: skip
    if not ((ts[1:] > ts[:-1]) if t1 > t0 else (ts[1:] < ts[:-1])).all():
        raise InvalidInputError("saveat must be strictly monotone from t0 towards t1, each time once.", got=got,
                                fix="saveat=torch.unique(saveat)" + ("" if t1 > t0 else ".flip(0)"))  # fmt: skip


@functools.lru_cache(64)  # a training loop asks for the same times at each of its steps
def _fit(times: bytes, t0: float, t1: float) -> bool:
    """Whether all is well, told quickly; False for a NaN too."""
    ts, low, high = np.frombuffer(times), t0, t1
    if t1 < t0:
        ts, low, high = -ts, -t0, -t1
    return bool(low <= ts[0] and ts[-1] <= high and (ts[:-1] < ts[1:]).all())


def _spaced(t0: torch.Tensor, t1: torch.Tensor, spacing: float) -> torch.Tensor:
    if not (math.isfinite(spacing) and spacing > 0):
        raise InvalidInputError("saveat as a number is a spacing and must be positive.", got=f"saveat={spacing!r}",
                                fix="saveat=0.1")  # fmt: skip
    span = float(t1.detach() - t0.detach())
    count = math.floor(abs(span) / spacing * (1 + 1e-12)) + 1
    return t0 + math.copysign(spacing, span) * torch.arange(count, dtype=torch.float64, device=t0.device)


def tolerances(prob: ODEProblem, reltol: Any, abstol: Any) -> tuple[float, float | torch.Tensor]:
    """Both tolerances, checked, with the defaults of the state's dtype."""
    leaf = prob.inputs.u[0]
    default = _DEFAULT_TOLERANCES[leaf.dtype]
    reltol = default[0] if reltol is None else reltol
    abstol = default[1] if abstol is None else abstol
    if isinstance(abstol, torch.Tensor) and abstol.numel() == 1:
        abstol = float(abstol)
    if not isinstance(abstol, (int, float)):
        abstol = _tolerance_per_state(prob, abstol)
    for name, value in (("reltol", reltol), ("abstol", abstol)):
        smallest = float(value.min()) if isinstance(value, torch.Tensor) else float(value)
        if not (math.isfinite(smallest) and smallest > 0):
            raise InvalidInputError(
                f"{name} must be positive.", got=f"{name}={smallest!r}", fix=f"{name}={default[0]:g}"
            )
    if leaf.dtype is torch.float32 and float(reltol) < 1e-6:
        warnings.warn(
            f"reltol={float(reltol):g} is finer than float32 resolves (1e-7): use float64 for it.",
            PySciMLWarning,
            stacklevel=3,
        )
    return float(reltol), abstol


def _tolerance_per_state(prob: ODEProblem, abstol: Any) -> torch.Tensor:
    u_leaves = prob.inputs.u
    leaves, spec = pytree.tree_flatten(abstol)
    tensors = [torch.as_tensor(x, dtype=torch.float64) for x in leaves]
    if spec != prob.inputs.u_layout.spec or any(
        x.shape not in (u.shape, ()) for x, u in zip(tensors, u_leaves, strict=True)
    ):
        raise InvalidInputError("abstol must be a number, or one per state in the structure of u0.",
                                got=f"shapes {[list(x.shape) for x in tensors]}", fix="abstol=1e-8")  # fmt: skip
    return torch.cat([x.expand(u.shape).reshape(-1) for x, u in zip(tensors, u_leaves, strict=True)])


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
