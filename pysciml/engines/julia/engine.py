"""The julia engine: OrdinaryDiffEq.jl, Sundials.jl and SciMLSensitivity.jl. See `pysciml.engines.base.Engine`."""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pysciml.algorithms import Algorithm, DefaultODEAlgorithm, JuliaAlgorithm, Rodas5P, check_problem, check_time
from pysciml.engines import derivative
from pysciml.engines.base import BoundaryRequest, Met, Pullback, Request, RootRequest, Trajectory, Watch
from pysciml.engines.julia import bridge
from pysciml.engines.julia.algorithms import asks_for_derivatives, for_backward, julia_algorithm, nonstiff, resolved
from pysciml.engines.julia.errors import JuliaError, stop, translated
from pysciml.engines.julia.events import Search, arguments
from pysciml.engines.julia.runtime import Held, call, enter
from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.rhs.base import CompiledRHS
from pysciml.rhs.julia_source import SourceRHS
from pysciml.rhs.parameters import all_finite
from pysciml.sensitivity import (
    BacksolveAdjoint,
    CollocationAdjoint,
    DirectAdjoint,
    ForwardSensitivity,
    GaussAdjoint,
    InterpolatingAdjoint,
    QuadratureAdjoint,
    SensitivityAlgorithm,
    SteadyStateAdjoint,
)
from pysciml.solution import ReturnCode, Stats

_SENSITIVITIES = (GaussAdjoint, CollocationAdjoint, InterpolatingAdjoint, QuadratureAdjoint, BacksolveAdjoint,
                  ForwardSensitivity, DirectAdjoint)  # fmt: skip
# Their backward solves end at the first jump without an error, and what is returned then is no gradient.
_IN_HALVES = ("dynamical", "second_order")
_NEVER_BACKWARD = ("FBDF", "QNDF")
_ONE_TOLERANCE = "OrdinaryDiffEqFIRK"
_ANY = 1e20  # an absolute tolerance that allows everything


class JuliaEngine:
    """Right-hand sides of every route on Julia's solvers."""

    name = "julia"
    takes_tstops = tells_steps = True

    @property
    def reached(self) -> Callable[[], float]:
        """Reads Julia's own note of it: the thread that asks calls nothing in Julia."""
        place = ctypes.c_double.from_address(call("reached"))
        return lambda: place.value

    def default_algorithm(self, mass: np.ndarray | None) -> Algorithm:
        return DefaultODEAlgorithm()

    def check(self, alg: Algorithm, sensealg: SensitivityAlgorithm, dt: float | None = None, kind: str = "ode") -> None:
        check_problem(alg, kind)
        if not alg.package:
            raise UnsupportedError(f"`{alg.name}` is not available in the julia engine.", got='engine="julia"',
                                   expected="Tsit5, Vern7, Rodas5P, FBDF, CVODE_BDF, ...",
                                   fix="pysciml.solve(prob, pysciml.Rodas5P())")  # fmt: skip
        if not alg.adaptive and dt is None:
            raise InvalidInputError(f"`{alg.name}` has no steps of its own and needs dt.", got="dt=None",
                                    fix="pysciml.solve(prob, alg, dt=0.01)")  # fmt: skip
        if not isinstance(sensealg, _SENSITIVITIES):
            raise UnsupportedError(
                f"`{sensealg.name}` is not available in the julia engine.", got=f"sensealg={sensealg.name}()",
                expected=", ".join(s.__name__ for s in _SENSITIVITIES), fix="sensealg=pysciml.GaussAdjoint()",
            )  # fmt: skip
        if (alg.problem != "ode" or alg.residual) and isinstance(sensealg, ForwardSensitivity):
            raise UnsupportedError(
                f"`ForwardSensitivity` solves the state with its derivatives, which {alg.name} cannot.",
                got="sensealg=ForwardSensitivity()", expected="GaussAdjoint, or another solver: Vern9, Rodas5P, FBDF",
                fix="sensealg=pysciml.GaussAdjoint()",
            )  # fmt: skip
        if alg.residual and isinstance(sensealg, InterpolatingAdjoint):
            raise UnsupportedError(
                f"`InterpolatingAdjoint` goes wrong along what is kept of a solution by {alg.name}.",
                got="sensealg=InterpolatingAdjoint()", expected="GaussAdjoint or QuadratureAdjoint; or Rodas5P, FBDF",
                fix="sensealg=pysciml.GaussAdjoint()",
            )  # fmt: skip
        if isinstance(sensealg, CollocationAdjoint) and (alg.problem != "ode" or alg.residual):
            raise UnsupportedError(
                f"`CollocationAdjoint` needs f and its Jacobian as one, which {alg.name} does not.",
                got="sensealg=CollocationAdjoint()", expected="GaussAdjoint, or another solver: Tsit5, Rodas5P, FBDF",
                fix="sensealg=pysciml.GaussAdjoint()",
            )  # fmt: skip
        if isinstance(sensealg, DirectAdjoint) and not alg.reads_back:
            raise UnsupportedError(
                f"`DirectAdjoint` does not know the steps of {alg.name} in Julia.", got="sensealg=DirectAdjoint()",
                expected="Tsit5, whose steps it reads backwards; or GaussAdjoint, CollocationAdjoint; or embedded DP5",
                fix="pysciml.solve(prob, pysciml.Tsit5(), sensealg=pysciml.DirectAdjoint())",
            )  # fmt: skip
        if isinstance(sensealg.alg, Algorithm) and _never_backward(sensealg.alg):
            raise UnsupportedError(
                f"{sensealg.alg.name} cannot solve backwards: it stops at the first saved time, mistakes the time, or"
                " wants a residual.",
                got=f"sensealg.alg={sensealg.alg!r}", expected="Rodas5P, RadauIIA5, CVODE_BDF, TRBDF2 or KenCarp4",
                fix=f"{sensealg.name}(alg=pysciml.Rodas5P())",
            )  # fmt: skip

    def solve(self, request: Request) -> Trajectory:
        request = _without_slopes(request)
        u = np.empty((request.ts.size, request.rhs.n))
        start = time.perf_counter()
        model, alg, made, numbers = request.once("forward", _held_forward)
        numbers = numbers.copy()
        numbers[bridge.T0] = request.t0
        _apart(request, alg, model)
        each = [None if isinstance(x, float) else x for x in (request.abstol, request.reltol)]
        where = bridge.table(u, numbers, request.u0, request.p, request.mass, request.ts, *each, request.tstops)
        number = entered(request, "forward", "solve_at", bridge.address(where), model.number, made.number)
        stats = counted(numbers, alg, time.perf_counter() - start)
        _check_finite(u, request, "forward")
        return Trajectory(u, stats, handle=Held(number))

    def interpolate(self, request: Request, trajectory: Trajectory, ts: np.ndarray) -> Trajectory:
        u = np.empty((ts.size, request.rhs.n))
        called(request, "forward", "interpolate!", bridge.columns(u), trajectory.handle, ts)
        return Trajectory(u, trajectory.stats, handle=trajectory.handle)

    def vjp(self, request: Request, trajectory: Trajectory, cotangents: np.ndarray) -> Pullback:
        flat = np.empty(request.rhs.n + request.rhs.m)
        start = time.perf_counter()
        settle = _held_backward_explicit if stays_explicit(request, trajectory.stats) else _held_backward
        alg, made, sensealg, numbers = request.once(settle.__name__, settle)
        numbers = numbers.copy()
        where = bridge.table(flat, numbers, request.ts, cotangents)
        entered(request, "backward", "adjoint_at", bridge.address(where), trajectory.handle.number, sensealg.number,
                made.number)  # fmt: skip
        stats = counted(numbers, alg, time.perf_counter() - start)
        _check_finite(flat, request, "backward")
        return Pullback(flat, request.rhs.n, stats)

    def steps(self, trajectory: Trajectory) -> np.ndarray:
        found = np.empty(call("step_count", trajectory.handle))
        call("steps!", found, trajectory.handle)
        return found

    def derivative(self, request: Request, ts: np.ndarray, u: np.ndarray) -> np.ndarray:
        return derivative.along(request, lambda kind, t, row: _evaluate(request, kind, t, row), ts, u)

    def root(self, request: RootRequest) -> tuple[np.ndarray, Stats]:
        """By NonlinearSolve.jl, with the Jacobian of the model."""
        whole, u, numbers = _of_root(request), np.empty(request.rhs.n), np.zeros(2)
        start = time.perf_counter()
        model, alg = bridge.model(whole, ("f", "jac")), julia_algorithm(request.alg)
        called(whole, "forward", "root!", u, numbers, model, alg, request.u0, request.p,
               float(np.min(request.abstol)), request.maxiters or 1000)  # fmt: skip
        nf, njacs = map(int, numbers)
        took = time.perf_counter() - start
        return u, Stats(nf=nf, njacs=njacs, wall_time=took, engine="julia", alg=request.alg.name)

    def evaluate(self, request: RootRequest, kind: str, t: float) -> np.ndarray:
        """f, its Jacobian in u ("jac") or in p ("jac_p") of a right-hand side in Julia's own text."""
        n, columns = request.rhs.n, {"jac": request.rhs.n, "jac_p": request.rhs.m}.get(kind, 1)
        whole, out = _of_root(request), np.empty(n * columns)
        model = bridge.model(whole, ("f", "jac"))
        called(whole, "forward", "evaluate!", out, model, kind, request.u0, request.u0, request.p, float(t))
        return out if kind == "f" else out.reshape(columns, n).T.copy()

    def collocate(self, request: BoundaryRequest) -> tuple[np.ndarray, np.ndarray, str]:
        """A mesh and the states on it; or none, and what Julia says of it."""
        whole = Request(request.rhs, request.program, request.us[0], request.p, request.ts[0], request.ts[-1],
                        request.ts, request.alg, GaussAdjoint(), request.tol, request.tol)  # fmt: skip
        ends = whole._replace(rhs=request.conditions, program=request.conditions_program, p=request.q)
        models = [bridge.model(each, ("f",)) for each in (whole, ends)]
        found = called(whole, "forward", "collocate", models[0], request.p, models[1], request.q, request.times,
                       julia_algorithm(request.alg), request.ts[[0, -1]], bridge.columns(request.us), request.tol,
                       request.maxiters)  # fmt: skip
        count = int(call("mesh_size", found))
        ts, us = np.empty(count), np.empty((count, request.rhs.n))
        call("mesh!", ts, bridge.columns(us), found)
        return ts, us, str(call("mesh_said", found))

    def first_event(self, request: Request, watch: Watch) -> Met:
        request, search = _without_slopes(request), Search(watch.sides.size)
        model, alg = forward_settings(request)
        try:
            handle = called(request, "forward", "first_event!", *search.places, *arguments(request, model, alg, watch))
        except JuliaError:
            raised = getattr(watch.rhs, "raised", None)  # by a condition that was called back
            if raised is None:
                raise
        else:
            if handle is None:
                return search.met(None)
            stats = counted(search.counts, alg, time.perf_counter() - search.start)
            return search.met(Trajectory(np.empty((0, request.rhs.n)), stats, handle=handle))
        watch.rhs.raised = None  # type: ignore[attr-defined]
        raise raised


def forward_settings(request: Request) -> tuple[Any, Algorithm]:
    """What a solve needs besides its numbers: the model and the algorithm."""
    alg = _resolved(request)
    if alg.autonomous and hasattr(request.rhs, "graph"):
        check_time(alg, request.rhs.graph("f", request.program).depends_on("t"))
    if request.mass is not None:
        _check_mass(request, alg, request.mass)
    if isinstance(request.sensealg, (CollocationAdjoint, DirectAdjoint)):
        _check_derivatives(request)
    model = bridge.model(request, _parts(request, alg))
    _apart(request, alg, model)
    return model, alg


def _held_forward(request: Request) -> tuple[Any, Algorithm, Any, np.ndarray]:
    """`forward_settings`, Julia's algorithm, which is let go where nobody holds it, and the numbers of the solve."""
    model, alg = forward_settings(request)
    return model, alg, julia_algorithm(alg), bridge.numbers(request)


def _held_backward(request: Request, explicit: bool = False) -> tuple[Algorithm, Any, Any, np.ndarray]:
    """Those of the backward solve, the sensitivity algorithm before its numbers."""
    alg, tolerances = backward_settings(request, explicit)
    return alg, julia_algorithm(alg), bridge.sensitivity(request), np.array((0.0, 0.0, 0.0, 0.0, *tolerances))


def _held_backward_explicit(request: Request) -> tuple[Algorithm, Any, Any, np.ndarray]:
    return _held_backward(request, explicit=True)


def _of_root(request: RootRequest) -> Request:
    """The right-hand side of a search for a root, as that of a solve."""
    return Request(request.rhs, request.program, request.u0, request.p, 0.0, 1.0, np.ones(1), request.alg,
                   SteadyStateAdjoint(), request.reltol, request.abstol)  # fmt: skip


def _without_slopes(request: Request) -> Request:
    """A fully implicit problem with tolerances for u alone, as its solvers have them, where no others were given.

    The noise of du/dt is that of u times the fastest rate of the problem.
    """
    one = request.alg.package == _ONE_TOLERANCE
    if request.kind != "dae" or one or not isinstance(request.abstol, float):
        return request
    return request._replace(abstol=np.repeat([_ANY, request.abstol], request.rhs.n // 2))


def _never_backward(alg: Algorithm) -> bool:
    return alg.name in _NEVER_BACKWARD or alg.autonomous or alg.residual


def _check_mass(request: Request, alg: Algorithm, mass: np.ndarray) -> None:
    """Raises `UnsupportedError` where a solver or a gradient cannot take one, and makes ready for a DAE."""
    if not (alg.dae or isinstance(alg, JuliaAlgorithm)):
        raise UnsupportedError(
            f"`{alg.name}` cannot take a mass matrix in Julia.", got="mass_matrix",
            expected="a method for them: Rodas5P, FBDF, RadauIIA5, IDA; or f divided by it, where it has no zeros",
            fix="pysciml.solve(prob, pysciml.Rodas5P())",
        )  # fmt: skip
    if isinstance(request.sensealg, BacksolveAdjoint):
        raise UnsupportedError(
            "`BacksolveAdjoint` has no solver for mass matrices.", got="sensealg=BacksolveAdjoint(), and a mass_matrix",
            expected="GaussAdjoint, InterpolatingAdjoint, QuadratureAdjoint or ForwardSensitivity",
            fix="sensealg=pysciml.GaussAdjoint()",
        )  # fmt: skip
    if not mass.all():
        call("load_initialization")


def _check_derivatives(request: Request) -> None:
    """Raises `UnsupportedError` where f has no derivatives of its own, or they are not those of an ODE."""
    own, zeros = isinstance(request.rhs, SourceRHS), 0 if request.mass is None else int((request.mass == 0).sum())
    if own or zeros:
        raise UnsupportedError(
            f"`{request.sensealg.name}` is for ODEs, and for right-hand sides in torch.",
            got="a JuliaFunction" if own else f"{zeros} zeros in mass_matrix",
            expected="GaussAdjoint", fix="sensealg=pysciml.GaussAdjoint()",
        )  # fmt: skip


def _apart(request: Request, alg: Algorithm, model: Any) -> None:
    """Tells the model what a solver that takes it apart will ask for."""
    if alg.problem == "split" and not request.parts:
        raise UnsupportedError(f"`{alg.name}` takes the parts of a problem apart, which an ensemble on threads cannot.",
                               got='executor="threads"', expected='executor="serial"',
                               fix=f"pysciml.solve_ensemble(ensemble, pysciml.{alg.name}())")  # fmt: skip
    made = request.rhs.lowered.setdefault("taken apart", set())
    if alg.problem in _IN_HALVES:
        call("halve!", model, request.kind == "second_order")
    elif request.parts:
        each = [request._replace(rhs=part.rhs, program=part.program) for part in request.parts]
        kinds = [_parts(each[0], Rodas5P()), ("f",)]
        models = [bridge.model(*pair) for pair in zip(each, kinds, strict=True)]
        call("split!", model, models[0], request.parts[0].places, models[1], request.parts[1].places,
             alg.problem == "split" and not alg.implicit)  # fmt: skip
    elif model.number in made:
        call("whole!", model)
        made.discard(model.number)
        return
    else:
        return
    made.add(model.number)


def stays_explicit(request: Request, forward: Stats) -> bool:
    """Whether the problem was never stiff to a solver that switches: its adjoint, of the same rates, is not either."""
    sense = request.sensealg
    chosen = isinstance(sense, GaussAdjoint) and sense.alg is None and request.mass is None
    return chosen and request.alg.autoswitch and forward.njacs == 0


def backward_settings(request: Request, explicit: bool = False) -> tuple[Algorithm, tuple[float, float]]:
    """The algorithm and the tolerances of a backward solve; the model gets the parts it calls.

    Args:
        explicit: whether a solver that switches goes back by its method for what is not stiff.
    """
    sense, forward = request.sensealg, isinstance(request.sensealg, ForwardSensitivity)
    if isinstance(sense, CollocationAdjoint):
        bridge.model(request, ("nonzeros" if bridge.takes_sparse(request) else "jac", "vjp_p"))
        return request.alg, (0.0, 0.0)
    if isinstance(sense, DirectAdjoint):
        return request.alg, (0.0, 0.0)
    alg = sense.alg if isinstance(sense.alg, Algorithm) else _backward_algorithm(request, explicit)
    factors = ("factors",) if isinstance(sense, GaussAdjoint) and bridge.has_factors(request) else ()
    bridge.model(request, (*_parts(request, alg, forward), "vjp", "vjp_p", *factors))
    return alg, (sense.reltol or _smallest(request.reltol), sense.abstol or _smallest(request.abstol))


def _smallest(tolerance: float | np.ndarray) -> float:
    return tolerance if isinstance(tolerance, float) else float(np.min(tolerance))


def _evaluate(request: Request, kind: str, t: float, u: np.ndarray) -> np.ndarray:
    """One part of the right-hand side at a point; a Jacobian as Julia keeps it, by columns."""
    out = np.empty(u.size**2 if kind == "jac" else u.size)
    model = bridge.model(request, (kind,))
    called(request, "forward", "evaluate!", out, model, kind, u, u, request.p, float(t))
    return out.reshape(u.size, u.size).T if kind == "jac" else out


def _parts(request: Request, alg: Algorithm, variations: bool = False) -> tuple[str, ...]:
    """What of a model a solve by `alg` calls, products with its Jacobian apart."""
    if not (variations or asks_for_derivatives(alg)):
        return ("f",)
    return "f", "nonzeros" if bridge.takes_sparse(request) else "jac", "tgrad"


def called(request: Request, direction: str, name: str, *args: Any) -> Any:
    """A call into Julia on behalf of a solve, whose errors are told as that solve's."""
    return _telling(request, direction, call, name, args)


def entered(request: Request, direction: str, name: str, *integers: int) -> int:
    """`called` for Julia's C functions."""
    return _telling(request, direction, enter, name, integers)


def _telling(request: Request, direction: str, function: Callable, name: str, args: tuple) -> Any:
    try:
        return function(name, *args)
    except JuliaError as error:
        failure = translated(error, request, direction)
    raise failure  # out here it keeps the causes it has: what f raised arrives unchanged


def _resolved(request: Request) -> Algorithm:
    rhs = request.rhs
    network = isinstance(rhs, CompiledRHS) and rhs.graph("f", request.program).of_networks > 0
    # The pattern of a network over a batch takes minutes to find.
    sparse = functools.partial(bridge.is_sparse, rhs) if isinstance(rhs, CompiledRHS) and not network else bool
    return resolved(request.alg, rhs.n, _smallest(request.reltol), request.mass is not None, network, sparse)


def _backward_algorithm(request: Request, explicit: bool) -> Algorithm:
    alg = nonstiff(_resolved(request)) if explicit else _resolved(request)
    if isinstance(request.sensealg, ForwardSensitivity):
        return alg
    return for_backward(alg, request.sensealg, mass=request.mass is not None, single=request.single)


def counted(counts: np.ndarray, alg: Algorithm, wall_time: float) -> Stats:
    """What Julia counted, the first four of these numbers."""
    nf, njacs, naccept, nreject = map(int, counts[:4].tolist())
    return Stats(nf, njacs, naccept, nreject, wall_time, "julia", alg.name)


def _check_finite(values: np.ndarray, request: Request, direction: str) -> None:
    if not all_finite(values):
        raise stop(request, direction, ReturnCode.Unstable, float("nan"), "NaN or infinity in the result")
