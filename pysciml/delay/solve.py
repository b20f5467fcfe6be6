"""From a DDEProblem to its Solution."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import torch

from pysciml.algorithms import (
    Algorithm,
    AutoTsit5,
    AutoVern7,
    DefaultODEAlgorithm,
    MethodOfSteps,
    Rodas5P,
    by_name,
    check_problem,
    check_time,
)
from pysciml.config import config
from pysciml.control import SaveAt, check_tolerances, in_order, save_times, tolerances
from pysciml.delay import autograd
from pysciml.delay.pieces import OtherCallsError, Pieces, pieces
from pysciml.engines import select
from pysciml.engines.base import Request
from pysciml.engines.parts import captured_by_any, with_places
from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.flat import reach, to_host
from pysciml.problems import DDEProblem, ODEProblem
from pysciml.rhs import functorch
from pysciml.rhs.julia_source import JuliaFunction
from pysciml.rhs.parameters import count, leaf_names
from pysciml.rhs.together import prepare_together
from pysciml.sensitivity import CollocationAdjoint, SensitivityAlgorithm
from pysciml.solution import ReturnCode, Solution
from pysciml.solve_ode import check_options

_TIGHT = 1e-6  # the tolerance below which a higher order pays
Prepared = list[tuple[Any, Any]]


def solve_delay(
    prob: DDEProblem,
    alg: Algorithm | str | None = None,
    *,
    saveat: SaveAt = None,
    reltol: float | None = None,
    abstol: Any = None,
    sensealg: SensitivityAlgorithm | None = None,
    engine: str | None = None,
    route: str | None = None,
    dt: float | None = None,
    dtmax: float | None = None,
    maxiters: int | None = None,
) -> Solution:
    """`pysciml.solve` of a `DDEProblem`, whose arguments these are.

    Args:
        alg: `MethodOfSteps`, or an ODE solver to make it of, or a name. None: of a solver that changes when the problem
            turns stiff, `AutoTsit5` or, for tolerances below 1e-6, `AutoVern7`.
    """
    alg = by_name(alg) if isinstance(alg, str) else alg
    check_options(alg, route, dt=dt, dtmax=dtmax, maxiters=maxiters)
    _check_asked(prob, sensealg, engine, alg)
    alike = cast("ODEProblem", prob)  # in all that is looked at here
    reltol, abstol = tolerances(alike, reltol, abstol)
    method = _method(alg, reltol)
    _check_method(method, reltol, abstol, dt)
    ts, prepared = save_times(alike, saveat), _prepared(prob, route)
    if method.alg.autonomous and hasattr(prepared[0][1], "graph"):
        check_time(method.alg, True)  # the times that f asks for depend on t
    captured = captured_by_any(prepared)
    leaves = to_host([*prob.inputs.u, *prob.inputs.p, *captured])
    request = functools.partial(
        Request, rhs=prepared[0][1], program=prepared[0][0], t1=prob.span[1], alg=method,
        sensealg=sensealg or CollocationAdjoint(), reltol=_numbers(reltol), abstol=_numbers(abstol), kind="dde",
        parts=with_places(prepared, prob.inputs.p, captured), dt=dt, dtmax=dtmax, maxiters=maxiters,
    )  # fmt: skip
    n, m = prob.inputs.u_layout.size, sum(map(count, [*prob.inputs.p, *captured]))
    names = functools.partial(_names, prob, captured)
    call = autograd.Call(_engine(), autograd.Sizes(n, m), request, prob.inputs.u[0].dtype, len(prob.inputs.u), names)
    return _solution(prob, call, ts, leaves)


def _solution(prob: DDEProblem, call: autograd.Call, ts: torch.Tensor, leaves: list[torch.Tensor]) -> Solution:
    layout, device, (t0, _) = prob.inputs.u_layout, prob.inputs.u[0].device, prob.tspan
    u = autograd.solve(call, t0, ts.cpu(), leaves)

    def dense(times: torch.Tensor) -> Any:
        again = replace(call, dense=call.solved)
        backwards = prob.span[1] < prob.span[0]
        values = in_order(times.cpu(), backwards, lambda ts: autograd.solve(again, t0, ts, leaves))
        return layout.unflatten(values.to(device))

    return Solution(ts, layout.unflatten(u.to(device)), prob, ReturnCode.Success, call.stats, dense)


def _engine() -> Any:
    select.engine("julia")  # says how to get it where there is none
    from pysciml.engines.julia import delay

    return delay


def _check_asked(prob: DDEProblem, sensealg: Any, engine: str | None, alg: Algorithm | None) -> None:
    """Raises for what no solve with delays can do."""
    if functorch.transforming():
        raise UnsupportedError("a solve with delays cannot be transformed by torch.func.", got="a transform under way",
                               expected="backward()", fix="torch.autograd.grad(loss, parameters)")  # fmt: skip
    if isinstance(prob.f, JuliaFunction):
        raise UnsupportedError("a DDEProblem takes no JuliaFunction.", got="f as Julia source", expected="f in torch",
                               fix="def f(t, u, h): return -h(t - 1.0)")  # fmt: skip
    name, auto = select.engine_name(engine), (engine or config.engine) == "auto"
    if name == "embedded" and not auto:
        raise UnsupportedError(
            "the embedded engine has no solver for delays.", got='engine="embedded"', expected='engine="julia"',
            fix='pysciml.solve(prob, engine="julia")\n(get Julia: python -m pysciml julia install)',
        )  # fmt: skip
    if sensealg is not None and not isinstance(sensealg, CollocationAdjoint):
        raise UnsupportedError(
            f"`{getattr(sensealg, 'name', sensealg)}` is not available for a DDEProblem.",
            got=f"sensealg={sensealg!r:.80}", expected="CollocationAdjoint",
            fix="sensealg=pysciml.CollocationAdjoint()",
        )  # fmt: skip


def _method(alg: Algorithm | None, reltol: float | torch.Tensor) -> MethodOfSteps:
    if isinstance(alg, MethodOfSteps) and not isinstance(alg.alg, DefaultODEAlgorithm):
        return alg
    inner, constrained = (alg.alg, alg.constrained) if isinstance(alg, MethodOfSteps) else (alg, False)
    if inner is None or isinstance(inner, DefaultODEAlgorithm):
        tight = float(torch.as_tensor(reltol).min()) < _TIGHT
        inner = AutoVern7(Rodas5P()) if tight else AutoTsit5()
    return MethodOfSteps(inner, constrained)


def _check_method(method: MethodOfSteps, reltol: Any, abstol: Any, dt: float | None) -> None:
    check_problem(method, "dde")
    check_tolerances(method.alg, reltol, abstol)
    if not method.alg.adaptive and dt is None:
        raise InvalidInputError(f"`{method.name}` has no steps of its own and needs dt.", got="dt=None",
                                fix="pysciml.solve(prob, alg, dt=0.01)")  # fmt: skip


def _prepared(prob: DDEProblem, route: str | None) -> Prepared:
    """The program and the right-hand side of each of the problem's three functions."""
    with contextlib.suppress(OtherCallsError):
        return _prepare(prob, pieces(prob), route)
    try:
        return _prepare(prob, pieces(prob, anew=True), route)
    except OtherCallsError:
        raise InvalidInputError(
            "f asks for another number of past states at each call.", got="h called in a branch or a random loop",
            expected="as many calls of h in every run of f", fix="torch.where(condition, h(t - a), h(t - b))",
        ) from None  # fmt: skip


def _prepare(prob: DDEProblem, made: Pieces, route: str | None) -> Prepared:
    flat = torch.cat([x.detach().reshape(-1) for x in prob.inputs.u])
    examples = [flat.repeat(-(-part.n // flat.numel()))[: part.n] for part in made]  # u0 as often as it is in there
    functions = [SimpleNamespace(f=f, u0=z, tspan=prob.tspan, p=prob.p) for f, z in zip(made, examples, strict=True)]
    return prepare_together(functions, route, "f or h cannot be compiled, so they are", stacklevel=7)


def _numbers(tolerance: Any) -> Any:
    return functorch.numbers(tolerance) if isinstance(tolerance, torch.Tensor) else tolerance


def _names(prob: DDEProblem, captured: Sequence[torch.Tensor]) -> list[str]:
    """What the user calls each parameter."""
    known = {id(x): name for f in (prob.h, prob.f) for name, x in reach(f).items()}
    own = leaf_names(prob.p, "p") if prob.p is not None else []
    return own + [known.get(id(x), f"captured tensor {i}") for i, x in enumerate(captured)]
