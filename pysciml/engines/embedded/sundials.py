"""CVODES and IDAS, through CasADi's `integrator`.

CasADi fixes the time grid when an integrator is built, so integrators are kept by grid (relative to t0, which is one
more parameter, so that equal grids at different times share one). Building one costs milliseconds.

Reference: Andersson et al., "CasADi", Math. Prog. Comp. 11 (2019); Hindmarsh et al., "SUNDIALS", ACM TOMS 31 (2005).
"""

from __future__ import annotations

import functools
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import casadi as ca
import numpy as np

from pysciml.algorithms import CVODE_BDF, IDA, Algorithm, CVODE_Adams
from pysciml.algorithms.sundials import SundialsAlgorithm
from pysciml.engines import derivative
from pysciml.engines.base import Met, Pullback, Request, RootRequest, Trajectory, Watch, explained
from pysciml.engines.crossing import on_grid
from pysciml.engines.embedded import roots
from pysciml.engines.embedded.buffers import NumpyFunction
from pysciml.engines.embedded.implicit import eliminated
from pysciml.engines.embedded.listen import listening
from pysciml.errors import SolveError, UnsupportedError
from pysciml.rhs import lower_casadi
from pysciml.rhs.base import CompiledRHS
from pysciml.rhs.graph import Graph
from pysciml.rhs.parameters import all_finite
from pysciml.sensitivity import ForwardSensitivity, GaussAdjoint, InterpolatingAdjoint, SensitivityAlgorithm
from pysciml.solution import ReturnCode, Stats

MAXITERS = 100_000
_KEPT_INTEGRATORS = 64
# Steps between checkpoints of longer solves. Measured on the test problems at tolerances 1e-6 to 1e-10: up to 100 all
# adjoints succeed, with 250 and more the longest stiff ones end in CV_TOO_MUCH_WORK.
_CHECKPOINTS = 50
_ONE_SEGMENT = 400
_NEWTON_SCHEMES = {"Dense": "direct", "GMRES": "gmres", "BCG": "bcgstab", "TFQMR": "tfqmr"}
_FLAGS = {
    "TOO_MUCH_WORK": ReturnCode.MaxIters,
    "ERR_FAILURE": ReturnCode.DtLessThanMin,
    "CONV_FAILURE": ReturnCode.ConvergenceFailure,
    "CONV_FAIL": ReturnCode.ConvergenceFailure,
    "TOO_MUCH_ACC": ReturnCode.DtLessThanMin,
    "RHSFUNC": ReturnCode.Unstable,
    "FIRST_RHSFUNC": ReturnCode.Unstable,
    "REPTD_RHSFUNC": ReturnCode.Unstable,
    "UNREC_RHSFUNC": ReturnCode.Unstable,
    "FIRST_RES": ReturnCode.Unstable,
    "REP_RES": ReturnCode.Unstable,
    "RES": ReturnCode.Unstable,
    "LSETUP": ReturnCode.ConvergenceFailure,
    "LSOLVE": ReturnCode.ConvergenceFailure,
    "LINESEARCH": ReturnCode.InitialFailure,
    "NO_RECOVERY": ReturnCode.InitialFailure,
    "BAD_EWT": ReturnCode.Unstable,
}


@dataclass(frozen=True)
class _Plan:
    """Everything an integrator is built for."""

    alg: SundialsAlgorithm
    reltol: float
    abstol: float | tuple[float, ...]
    grid: bytes
    backwards: bool
    mass: bytes | None
    dt: float | None
    dtmax: float | None
    maxiters: int
    checkpoints: int | None


class _Integrator:
    """A CasADi integrator with its adjoint and forward sensitivities, built when first used.

    The state u is split into differential variables x and algebraic ones z, both divided by `scale`, which turns one
    absolute tolerance for all into one for each. The du/dt of a fully implicit problem is `hidden` where it can be had
    from the others by `slopes`.
    """

    def __init__(self, request: Request, plan: _Plan):
        self.n, self.m = request.rhs.n, request.rhs.m
        self.plan, self.grid = plan, np.frombuffer(plan.grid)
        self.scale = 1.0 if isinstance(plan.abstol, float) else np.asarray(plan.abstol) / max(plan.abstol)
        mass = np.ones(self.n) if request.mass is None else request.mass
        self.differential, self.algebraic = np.flatnonzero(mass), np.flatnonzero(mass == 0)
        self._back = np.argsort(np.concatenate([self.differential, self.algebraic]))  # from (x, z) to u
        self.dae = self._equations(_graph(request, "f"), mass)
        self.hidden: np.ndarray = np.zeros(0, np.int64)
        self.slopes: Any = None
        if request.kind == "dae":
            self._hide(mass)
        self.solver = ca.integrator("solve", _plugin(plan.alg), self.dae, 0.0, self.grid, _options(plan))
        self.forward = NumpyFunction(self.solver)

    def _equations(self, graph: Graph, mass: np.ndarray) -> dict[str, Any]:
        scalar = graph.operations <= lower_casadi.SCALAR_LIMIT
        kind = ca.SX if scalar else ca.MX
        t, x, z = kind.sym("t"), kind.sym("x", self.differential.size), kind.sym("z", self.algebraic.size)
        p = kind.sym("p", self.m + 1)  # the user's, and t0
        sign = -1.0 if self.plan.backwards else 1.0
        u = (ca.vertcat(x, z) if self.algebraic.size else x)[self._back.tolist()] * self.scale
        values = {"t": p[self.m] + sign * t, "u": u, "p": p[: self.m]}
        (f,) = lower_casadi.function(graph, "f", scalar).call([values[name] for name in graph.inputs], True, False)
        ode = sign * f / np.where(mass == 0, 1.0, mass) / self.scale
        dae = {"t": t, "x": x, "p": p, "ode": ode[self.differential.tolist()]}
        return dae | ({"z": z, "alg": f[self.algebraic.tolist()]} if self.algebraic.size else {})

    def _hide(self, mass: np.ndarray) -> None:
        half = self.n // 2
        found = eliminated(self.dae, mass[half:] != 0)
        if found is not None:
            self.dae, self.hidden, self.algebraic = found.dae, np.arange(half), self.algebraic[half:]
            self._back = np.argsort(np.concatenate([self.differential, self.algebraic, self.hidden]))
            self.slopes = found.slopes.map(self.grid.size)

    @cached_property
    def _differentiable(self) -> ca.Function:
        """(x0, z0, p) -> xf, to differentiate: the solver itself, or for a DAE its underlying ODE.

        IDAS fails to find consistent initial values for many adjoint DAEs. The same solution solves the ODE in (x, z)
        that index reduction gives, z' = -(dg/dz)^-1 (dg/dx x' + dg/dt), with z(t0) from g = 0; that ODE's adjoint is
        an ordinary one.
        """
        if not self.algebraic.size:
            return self.solver
        dae, both = self.dae, ca.vertcat(self.dae["x"], self.dae["z"])
        g_x, g_z, g_t = (ca.jacobian(dae["alg"], dae[name]) for name in ("x", "z", "t"))
        slope = ca.vertcat(dae["ode"], -ca.solve(g_z, g_x @ dae["ode"] + g_t))
        options = _options(replace(self.plan, alg=CVODE_BDF(linear_solver=self.plan.alg.linear_solver)))
        ode = {"t": dae["t"], "x": both, "p": dae["p"], "ode": slope}
        solver = ca.integrator("reduced", "cvodes", ode, 0.0, self.grid, options)
        x0, z0, p = (
            ca.MX.sym("x0", self.differential.size),
            ca.MX.sym("z0", self.algebraic.size),
            ca.MX.sym("p", self.m + 1),
        )
        g = ca.Function("g", [dae["z"], dae["x"], dae["p"], dae["t"]], [dae["alg"]])
        consistent = ca.rootfinder("consistent", "newton", g)(z0, x0, p, 0.0)
        final = solver(x0=ca.vertcat(x0, consistent), p=p)["xf"]
        return ca.Function("reduced", [x0, z0, p], [final], ["x0", "z0", "p"], ["xf"])

    @cached_property
    def adjoint(self) -> NumpyFunction:
        function = self._differentiable.factory("adjoint", ["x0", "z0", "p", "adj:xf"], ["adj:x0", "adj:p"])
        return NumpyFunction(function)

    @cached_property
    def variations(self) -> NumpyFunction:
        """The solve along one direction for each differential state and each parameter."""
        return NumpyFunction(self._differentiable.forward(self.differential.size + self.m))

    def split(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States (n,) or (k, n) as CasADi's scaled x and z, times along columns."""
        scaled = u / self.scale
        return scaled[..., self.differential].T, scaled[..., self.algebraic].T

    def seed(self, cotangents: np.ndarray, u: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cotangents (k, n) of the states as those of (x, z), times along columns; and of p, by what is hidden."""
        seeds, of_p = np.concatenate(self.split(cotangents * self.scale**2)), np.zeros(p.size)
        if self.slopes is not None:
            hidden = (cotangents * self.scale)[:, self.hidden].T
            out = self._slopes_back(**self._along_grid(*self.split(u), p), adj_du=hidden)
            seeds += np.concatenate([out["adj_x"], out["adj_z"]])
            of_p = out["adj_p"].sum(axis=1)
        return seeds, of_p

    def join(self, xf: np.ndarray, zf: np.ndarray, p: np.ndarray) -> np.ndarray:
        both = [xf, zf] if self.algebraic.size else [xf]
        if self.slopes is not None:
            both.append(self._slopes(**self._along_grid(xf, zf, p))["du"])
        return np.ascontiguousarray(np.concatenate(both).T[:, self._back] * self.scale)

    def _along_grid(self, x: np.ndarray, z: np.ndarray, p: np.ndarray) -> dict[str, np.ndarray]:
        return {"t": self.grid, "x": x, "z": z, "p": np.tile(p, (self.grid.size, 1)).T}

    @cached_property
    def _slopes(self) -> NumpyFunction:
        return NumpyFunction(self.slopes)

    @cached_property
    def _slopes_back(self) -> NumpyFunction:
        wanted = ["adj:x", "adj:z", "adj:p"]
        return NumpyFunction(self._slopes.function.factory("back", ["t", "x", "z", "p", "adj:du"], wanted))


def _plugin(alg: Algorithm) -> str:
    return "idas" if isinstance(alg, IDA) else "cvodes"


def _options(plan: _Plan) -> dict[str, Any]:
    alg = plan.alg
    options = {
        "reltol": plan.reltol,
        "abstol": plan.abstol if isinstance(plan.abstol, float) else max(plan.abstol),
        "max_num_steps": plan.maxiters,
        "newton_scheme": _NEWTON_SCHEMES[alg.linear_solver],
        "steps_per_checkpoint": plan.checkpoints or _ONE_SEGMENT + 50,
        # Up to a hundred times more accurate than "polynomial" on stiff problems.
        "interpolation_type": "hermite",
        # Or the steps of the adjoint know nothing of the parameters' gradient, and grow past what it needs.
        "quad_err_con": True,
        "show_eval_warnings": False,
    }
    if alg.max_order:
        options["max_order"] = alg.max_order  # CVODES does not hear of "max_multistep_order"
    if alg.krylov_dim:
        options["max_krylov"] = alg.krylov_dim
    if plan.dtmax:
        options["max_step_size"] = plan.dtmax
    if isinstance(alg, (CVODE_BDF, CVODE_Adams)):
        options["linear_multistep_method"] = "bdf" if isinstance(alg, CVODE_BDF) else "adams"
        options["nonlinear_solver_iteration"] = alg.method.lower()
        if plan.dt:
            options["step0"] = plan.dt
    return options


class SundialsEngine:
    """Compiled right-hand sides on SUNDIALS. See `pysciml.engines.base.Engine`."""

    name = "embedded"
    takes_tstops = tells_steps = False
    reached: Callable[[], float] | None = None  # CasADi solves in one call, during which Python does not run

    def default_algorithm(self, mass: np.ndarray | None) -> SundialsAlgorithm:
        return CVODE_BDF() if mass is None else IDA()

    def check(self, alg: Algorithm, sensealg: SensitivityAlgorithm, dt: float | None = None, kind: str = "ode") -> None:
        if dt is not None and isinstance(alg, IDA):
            raise UnsupportedError(
                "`IDA` chooses its first step itself.",
                got=f"dt={dt!r}",
                expected="dtmax, a largest step",
                fix="pysciml.solve(prob, pysciml.IDA()) without dt",
            )
        if not isinstance(sensealg, (GaussAdjoint, InterpolatingAdjoint, ForwardSensitivity)):
            raise UnsupportedError(
                f"`{sensealg.name}` is not available for {alg.name} in the embedded engine.",
                got=f"sensealg={sensealg.name}()", expected="GaussAdjoint, InterpolatingAdjoint or ForwardSensitivity",
                fix=f"pysciml.solve(prob, pysciml.{alg.name}(), sensealg=pysciml.GaussAdjoint())",
            )  # fmt: skip
        if sensealg.alg is not None and not isinstance(sensealg.alg, type(alg)):
            raise UnsupportedError(
                "CasADi solves backwards with the forward algorithm.",
                got=f"sensealg.alg={sensealg.alg!r} for {alg.name}",
                fix=f"{sensealg.name}() without alg",
            )

    def solve(self, request: Request) -> Trajectory:
        integrator = _integrator(request)
        x0, z0 = integrator.split(request.u0)
        start = time.perf_counter()
        out, buffer = _run(integrator.forward, request, "forward", x0=x0, z0=z0, p=_parameters(request))
        stats = _stats(buffer.stats(), request.alg, time.perf_counter() - start)
        u = integrator.join(out["xf"], out["zf"], _parameters(request))
        _check_finite(u, request, "forward", stats)
        return Trajectory(u, stats, handle=integrator)

    def interpolate(self, request: Request, trajectory: Trajectory, ts: np.ndarray) -> Trajectory:
        # CasADi keeps no dense output, so this is one more solve, saved at other times: exact to the same tolerance.
        return self.solve(request._replace(ts=ts))

    def vjp(self, request: Request, trajectory: Trajectory, cotangents: np.ndarray) -> Pullback:
        if isinstance(request.sensealg, ForwardSensitivity):
            return self._forward_sensitivity(request, _backward(request, trajectory), trajectory.u, cotangents)
        integrator = _backward(request, trajectory)
        x0, z0 = integrator.split(request.u0)
        start = time.perf_counter()
        seeds, of_p = integrator.seed(cotangents, trajectory.u, _parameters(request))
        out, _ = _run(integrator.adjoint, request, "backward", x0=x0, z0=z0, p=_parameters(request), adj_xf=seeds)
        return self._pullback(integrator, request, out["adj_x0"], out["adj_p"].ravel() + of_p, start)

    def _forward_sensitivity(
        self, request: Request, integrator: _Integrator, u: np.ndarray, cotangents: np.ndarray
    ) -> Pullback:
        x0, z0 = integrator.split(request.u0)
        start = time.perf_counter()
        states, count = integrator.differential.size, integrator.differential.size + request.rhs.m
        directions = np.eye(count)
        towards_p = np.vstack([directions[states:], np.zeros(count)])  # none for t0, the last parameter
        out, _ = _run(integrator.variations, request, "backward", x0=x0, z0=z0, p=_parameters(request),
                   fwd_x0=directions[:states], fwd_p=towards_p)  # fmt: skip
        seeds, of_p = integrator.seed(cotangents, u, _parameters(request))
        moved = out["fwd_xf"].reshape(len(seeds), count, -1)  # (state, direction, time)
        gradient = np.einsum("sdt,st->d", moved, seeds)
        return self._pullback(integrator, request, gradient[:states], gradient[states:] + of_p[:-1], start)

    def _pullback(
        self, integrator: _Integrator, request: Request, adj_x0: np.ndarray, adj_p: np.ndarray, start: float
    ) -> Pullback:
        # CasADi does not hand out what its backward integrator counted.
        stats = Stats(wall_time=time.perf_counter() - start, engine=self.name, alg=request.alg.name)
        du0 = np.zeros(request.rhs.n)
        du0[integrator.differential] = adj_x0.ravel()
        flat = np.concatenate([du0 / integrator.scale, adj_p.ravel()[: request.rhs.m]])
        _check_finite(flat, request, "backward", stats)
        return Pullback(flat, request.rhs.n, stats)

    def steps(self, trajectory: Trajectory) -> np.ndarray:
        raise NotImplementedError("CasADi keeps the states at the times that were asked for alone")

    def derivative(self, request: Request, ts: np.ndarray, u: np.ndarray) -> np.ndarray:
        return derivative.along(request, functools.partial(_evaluate, request), ts, u)

    def root(self, request: RootRequest) -> tuple[np.ndarray, Stats]:
        return roots.root(request)

    def first_event(self, request: Request, watch: Watch) -> Met:
        conditions = request._replace(rhs=watch.rhs, program=watch.program, p=watch.p)
        z, k = np.zeros(watch.rhs.n), watch.sides.size

        def values(t: float, u: np.ndarray) -> np.ndarray:
            z[: u.size] = u
            if isinstance(watch.rhs, CompiledRHS):
                return _evaluate(conditions, "f", t, z)[:k].copy()
            return watch.rhs.f(t, z, watch.p)[:k]  # type: ignore[attr-defined]

        def states(ts: np.ndarray) -> np.ndarray:
            return self.solve(request._replace(ts=ts)).u

        return on_grid(states, values, watch, request.t0, request.t1)


def _graph(request: Request, kind: str) -> Graph:
    """A graph of what came by the compiled route, the one that leads here."""
    return cast("CompiledRHS", request.rhs).graph(kind, request.program)


def _evaluate(request: Request, kind: str, t: float, u: np.ndarray) -> np.ndarray:
    key = ("casadi", kind)
    graph = _graph(request, kind)
    if key not in request.rhs.lowered:
        request.rhs.lowered[key] = NumpyFunction(lower_casadi.function(graph, kind))
    out = request.rhs.lowered[key](t=t, u=u, p=request.p)["out"].ravel()
    return out.reshape(u.size, u.size) if kind == "jac" else out


def _integrator(request: Request, *, backward: bool = False) -> _Integrator:
    plan = _plan(request, backward)
    kept: OrderedDict[_Plan, _Integrator] = request.rhs.lowered.setdefault("integrators", OrderedDict())
    integrator = kept.get(plan)
    if integrator is None:
        integrator = kept[plan] = _Integrator(request, plan)
        if len(kept) > _KEPT_INTEGRATORS:
            kept.popitem(last=False)
    else:
        kept.move_to_end(plan)
    return integrator


def _backward(request: Request, trajectory: Trajectory) -> _Integrator:
    """The integrator whose derivatives are taken.

    CVODES leaves a trace in its memory when an adjoint passes a checkpoint: later gradients from it differ within the
    tolerances. So solves of up to `_ONE_SEGMENT` steps are kept in one segment, and longer ones get an integrator of
    their own, made for this gradient alone: equal calls give equal gradients, to the bit.
    """
    sense = request.sensealg
    own = sense.reltol is not None or sense.abstol is not None or sense.alg is not None
    if isinstance(sense, ForwardSensitivity):
        return _integrator(request, backward=True) if own else trajectory.handle
    plan, steps = _plan(request, backward=True), trajectory.stats.naccept
    if plan.checkpoints is None:
        plan = replace(plan, checkpoints=_CHECKPOINTS)
        if not own and steps is not None and steps <= _ONE_SEGMENT:
            return trajectory.handle
    return _Integrator(request, plan)


def _plan(request: Request, backward: bool) -> _Plan:
    sense, alg = request.sensealg, request.alg
    if backward and isinstance(sense.alg, SundialsAlgorithm):
        alg = sense.alg
    if not isinstance(alg, SundialsAlgorithm):
        raise TypeError(f"{alg.name} is not an algorithm of SUNDIALS")
    reltol = sense.reltol if backward and sense.reltol else request.reltol
    abstol: Any = sense.abstol if backward and sense.abstol else request.abstol
    backwards = request.t1 < request.t0
    grid = np.abs(request.ts - request.t0)
    return _Plan(
        alg=alg, reltol=float(reltol),
        abstol=float(abstol) if np.ndim(abstol) == 0 else tuple(abstol.tolist()), grid=grid.tobytes(),
        backwards=backwards, mass=None if request.mass is None else request.mass.tobytes(), dt=request.dt,
        dtmax=request.dtmax, maxiters=request.maxiters or MAXITERS,
        checkpoints=getattr(sense, "checkpoints", None),
    )  # fmt: skip


def _parameters(request: Request) -> np.ndarray:
    return np.append(request.p, request.t0)


def _run(function: NumpyFunction, request: Request, direction: str, **inputs: np.ndarray) -> tuple[dict, Any]:
    with listening() as said:
        try:
            return function.counted(**inputs)
        except RuntimeError as error:
            raise _solve_error(str(error), "".join(said), request, direction) from error


def _solve_error(message: str, said: str, request: Request, direction: str) -> BaseException:
    if "KeyboardInterrupt" in message or "KeyboardInterrupt" in said:
        return KeyboardInterrupt()  # CasADi swallows it and lets SUNDIALS fail instead
    flag = re.search(r'returned "((?:CV|IDA)_(\w+))"', message)
    retcode = next((code for key, code in _FLAGS.items() if flag and flag[2].startswith(key)), ReturnCode.Failure)
    if "t + h = t" in said and retcode is ReturnCode.MaxIters:
        retcode = ReturnCode.DtLessThanMin
    reached = re.findall(r"[Aa]t t = (\S+?),? ", said)
    sign = -1.0 if request.t1 < request.t0 else 1.0
    t = request.t0 + sign * float(reached[-1]) if reached else float("nan")
    return _stopped(
        request, direction, retcode, t, None, f"{flag[1]} from SUNDIALS" if flag else message.splitlines()[-1]
    )


def _stopped(request: Request, direction: str, retcode: ReturnCode, t: float, stats, detail: str) -> SolveError:
    where = f" at t = {t:.6g}" if t == t else ""
    cause, remedy = explained(retcode, request, t)
    if direction == "backward":
        loose = 10 * request.reltol
        remedy = (
            "sensealg=pysciml.InterpolatingAdjoint(checkpoints=20), or sensealg=pysciml.GaussAdjoint("
            f"reltol={loose:g}, abstol=...) to loosen the backward solve alone; or {remedy}"
        )
    return SolveError(
        f"the {direction} solve by {request.alg.name} stopped{where}, of the span ({request.t0:g}, {request.t1:g}): "
        f"{retcode.name}.\nLikely cause: {cause}.", retcode=retcode, t=t, direction=direction, stats=stats,
        got=detail, fix=remedy,
    )  # fmt: skip


def _check_finite(values: np.ndarray, request: Request, direction: str, stats: Stats) -> None:
    if not all_finite(values):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=-1)) if values.ndim == 2 else np.zeros(0, int)
        t = float(request.ts[bad[0]]) if bad.size else float("nan")
        raise _stopped(request, direction, ReturnCode.Unstable, t, stats, "NaN or infinity in the result")


def _stats(raw: dict[str, Any], alg: Algorithm, wall_time: float) -> Stats:
    return Stats(nf=raw.get("nfevals"), njacs=raw.get("nlinsetups"), naccept=raw.get("nsteps"),
                 nreject=raw.get("netfails"), wall_time=wall_time, engine="embedded", alg=alg.name)  # fmt: skip


ALGORITHMS = (CVODE_BDF, CVODE_Adams, IDA)
