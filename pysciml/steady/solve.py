"""From a SteadyStateProblem to its SteadyStateSolution."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pysciml.algorithms import Algorithm, DynamicSS, NewtonRaphson, SSRootfind, TrustRegion, by_name, check_problem
from pysciml.control import tolerances
from pysciml.engines import select
from pysciml.engines.base import Engine, RootRequest
from pysciml.errors import InvalidInputError, PySciMLWarning, SolveError, TraceError, UnsupportedError
from pysciml.flat import captured_by, parameter_names
from pysciml.problems import SteadyStateProblem
from pysciml.rhs import functorch
from pysciml.rhs.base import CompiledRHS
from pysciml.rhs.julia_source import JuliaFunction
from pysciml.rhs.parameters import all_finite, real
from pysciml.roots import Equations, solution
from pysciml.sensitivity import SensitivityAlgorithm, SteadyStateAdjoint
from pysciml.solution import ReturnCode, Stats, SteadyStateSolution
from pysciml.solve_ode import check_options, prepare_rhs
from pysciml.steady import dynamic
from pysciml.steady.field import Field, field_of

_LARGE = 200  # states
_FINER = 0.01  # how much finer than what is asked for DynamicSS solves on its way


def solve_steady(
    prob: SteadyStateProblem,
    alg: Algorithm | str | None = None,
    *,
    reltol: float | None = None,
    abstol: Any = None,
    sensealg: SensitivityAlgorithm | None = None,
    engine: str | None = None,
    route: str | None = None,
    maxiters: int | None = None,
) -> SteadyStateSolution:
    """`pysciml.solve` of a `SteadyStateProblem`, whose arguments these are."""
    alg = by_name(alg) if isinstance(alg, str) else alg
    check_options(alg, route, maxiters=maxiters)
    if alg is not None:
        check_problem(alg, "steady_state")
    _check_sensealg(sensealg)
    reltol, abstol = tolerances(prob.ode, reltol, abstol)
    in_julia = isinstance(prob.f, JuliaFunction)
    name = select.choose(engine, _deciding(alg), None, prob.inputs.u[0].device.type == "cpu", in_julia)
    program, rhs = _prepared(prob, route)
    algs = [alg] if alg is not None else _default(rhs)
    if name == "embedded":
        select.check_algorithm(algs[0], name, "steady_state")
    search = _Search(prob, algs, select.engine(name), program, rhs, _number(reltol), _number(abstol), maxiters)
    captured = captured_by(program)
    guess = _flat(prob.inputs.u)
    xs = _flat([*prob.inputs.p, *map(real, captured)])
    _check_finite(prob, captured, xs)
    search.field = field_of(
        program, rhs, search.in_engine, *(functorch.numbers(functorch.example(x)) for x in (guess, xs))
    )
    equations = Equations(search.field.torch, search.run, search.field.jacobian, "steady state")
    u = solution(equations, guess, xs)
    with torch.no_grad():
        resid = search.field.torch(u, xs)
    build = lambda flat: prob.inputs.u_layout.unflatten(flat.to(prob.inputs.u[0]))  # noqa: E731 - of both
    return SteadyStateSolution(build(u), build(resid.detach()), prob, ReturnCode.Success, search.stats)


def _check_sensealg(sensealg: SensitivityAlgorithm | None) -> None:
    if sensealg is not None and not isinstance(sensealg, SteadyStateAdjoint):
        raise UnsupportedError(
            "a steady state is differentiated by the implicit function theorem.", got=f"sensealg={sensealg!r:.60}",
            expected="SteadyStateAdjoint", fix="sensealg=pysciml.SteadyStateAdjoint(), or leave it out",
        )  # fmt: skip


def _default(rhs: Any) -> list[Algorithm]:
    """One for roots, which for large systems leaves out the zeros of Jacobians; and the flow, where that finds none."""
    return [NewtonRaphson() if rhs.n > _LARGE and isinstance(rhs, CompiledRHS) else TrustRegion(), DynamicSS()]


def _deciding(alg: Algorithm | None) -> Algorithm | None:
    """The algorithm that decides which engine solves, where only one has it."""
    return alg.alg if isinstance(alg, DynamicSS) else alg


def _number(tolerance: Any) -> Any:
    return functorch.numbers(tolerance) if isinstance(tolerance, torch.Tensor) else tolerance


def _prepared(prob: SteadyStateProblem, route: str | None) -> tuple[Any, Any]:
    try:
        return prepare_rhs(prob.ode, route)
    except TraceError as refusal:
        if isinstance(prob.f, JuliaFunction) or route == "compiled":
            raise
        warnings.warn(f"f cannot be compiled, so it is called back from the solver, which is slower:\n{refusal}",
                      PySciMLWarning, stacklevel=6)  # fmt: skip
        return prepare_rhs(prob.ode, "callback")


def _flat(leaves: Sequence[torch.Tensor]) -> torch.Tensor:
    """One float64 vector on the CPU, differentiable."""
    if not leaves:
        return torch.zeros(0, dtype=torch.float64)
    return torch.cat([x.reshape(-1).to("cpu", torch.float64) for x in leaves])


def _check_finite(prob: SteadyStateProblem, captured: Sequence[torch.Tensor], xs: torch.Tensor) -> None:
    if all_finite(functorch.numbers(xs)):
        return
    leaves = [*prob.inputs.p, *captured]
    bad = next(i for i, x in enumerate(leaves) if not np.isfinite(functorch.numbers(x)).all())
    raise InvalidInputError(f"the parameter `{parameter_names(prob.ode, captured)[bad]}` must be finite.",
                            got=f"NaN or infinity among its {leaves[bad].numel()} values",
                            fix="look at the step before: a learning rate too large?")  # fmt: skip


class _Search:
    """One solve: from a guess and parameters in numbers to a steady state.

    Attributes:
        field: f. stats: what the last search counted.
    """

    field: Field

    def __init__(self, prob: SteadyStateProblem, algs: Sequence[Algorithm], engine: Engine, program: Any, rhs: Any,
                 reltol: Any, abstol: Any, maxiters: int | None):  # fmt: skip
        self.prob, self.algs, self.engine = prob, algs, engine
        self.program, self.rhs, self.maxiters = program, rhs, maxiters
        self.reltol, self.abstol, self.stats = reltol, abstol, Stats()

    def run(self, guess: np.ndarray, p: np.ndarray) -> np.ndarray:
        """The steady state. Raises `SolveError` where no method found one: what the first says of it."""
        first, *others = self.algs
        try:
            return self._found(first, guess, p)
        except SolveError:
            for alg in others:
                with contextlib.suppress(SolveError):
                    return self._found(alg, guess, p)
            raise

    def _found(self, alg: Algorithm, guess: np.ndarray, p: np.ndarray) -> np.ndarray:
        find = self._follow if isinstance(alg, DynamicSS) else self._root
        u, self.stats = find(alg, guess, p)
        if not self._settled(u, p):
            raise _not_found(alg, u, self.field.value(u, p), self.stats)
        return u

    def in_engine(self, kind: str, t: float, u: np.ndarray, p: np.ndarray) -> np.ndarray:
        return self.engine.evaluate(self._request(TrustRegion(), u, p), kind, t)  # type: ignore[attr-defined] # Julia's

    def _settled(self, u: np.ndarray, p: np.ndarray) -> bool:
        f = self.field.value(u, p)
        return bool(np.isfinite(u).all() and (np.abs(f) <= self.abstol + self.reltol * np.abs(u)).all())

    def _request(self, alg: Algorithm, guess: np.ndarray, p: np.ndarray) -> RootRequest:
        return RootRequest(self.rhs, self.program, guess, p, alg, self.reltol, self.abstol, self.maxiters)

    def _root(self, alg: Algorithm, guess: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, Stats]:
        alg = alg.parts[0] if isinstance(alg, SSRootfind) and self.engine.name == "embedded" else alg
        with functorch.outside():
            return self.engine.root(self._request(alg, guess, p))

    def _follow(self, alg: Any, guess: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, Stats]:
        return dynamic.follow(alg, self._step(alg.alg), lambda u: self._settled(u, p),
                              self.field.value(guess, p), guess, p)  # fmt: skip

    def _step(self, alg: Algorithm | None) -> dynamic.Step:
        return dynamic.stepper(self.prob, self.engine, alg, self.program, self.rhs, _FINER * self.reltol,
                               _FINER * self.abstol, self.maxiters)  # fmt: skip


def _not_found(alg: Algorithm, u: np.ndarray, f: np.ndarray, stats: Stats) -> SolveError:
    finite = np.isfinite(f).all() and np.isfinite(u).all()
    code = ReturnCode.ConvergenceFailure if finite else ReturnCode.Unstable
    largest = f"|f| = {np.abs(f).max():.3g} where it ended" if finite else "NaN or infinity in u or f"
    if isinstance(alg, DynamicSS):
        cause = "the flow oscillates, grows, is stiff for its solver, or slower than the time it was given"
        fix = "pysciml.DynamicSS(pysciml.CVODE_BDF()); or pysciml.TrustRegion(), which finds unstable states too"
    else:
        cause = "no steady state near u0, or a u0 that is too far from it; a singular Jacobian; a kink in f"
        fix = "a u0 nearer to it, or pysciml.solve(prob, pysciml.DynamicSS()), which follows the flow from u0"
    return SolveError(
        f"{alg.name} found no steady state: {code.name}.\nLikely cause: {cause}.", retcode=code, stats=stats,
        got=largest, expected="|f| <= abstol + reltol |u| in every state", fix=fix,
    )  # fmt: skip
