"""From a BVProblem to its Solution.

An algorithm comes near to a solution; from there the starts of initial value problems between some nodes are changed
until these join and the conditions hold, to the tolerances of the solver. So whatever led there, what is solved in the
end are the equations that gradients are taken of.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pysciml.algorithms import (
    DP5,
    Algorithm,
    Collocation4,
    MultiShooting,
    ShootingMethod,
    by_name,
    check_problem,
)
from pysciml.boundary import by_julia
from pysciml.boundary.conditions import Conditions
from pysciml.boundary.flow import Flow
from pysciml.boundary.numbers import numbers
from pysciml.boundary.start import Start, guessed, start
from pysciml.boundary.system import System
from pysciml.control import SaveAt, save_times, tolerances
from pysciml.engines import select
from pysciml.engines.base import RootRequest
from pysciml.errors import PySciMLWarning, SolveError, TraceError
from pysciml.flat import captured_by
from pysciml.problems import BVProblem, TwoPointBVProblem, plain
from pysciml.rhs import functorch
from pysciml.rhs.captured import parameters_of
from pysciml.rhs.julia_source import JuliaFunction
from pysciml.rhs.parameters import flatten, real
from pysciml.roots import Equations, solution
from pysciml.sensitivity import SensitivityAlgorithm
from pysciml.solution import ReturnCode, Solution, Stats
from pysciml.solution.stats import total
from pysciml.solve_ode import check_options, prepare_rhs
from pysciml.transforms import InTorch, apply

_MAXITERS = 200
_SLACK = 100.0  # a flow is as exact as its tolerances but for such a factor, and so is what joins flows


def solve_boundary(
    prob: BVProblem,
    alg: Algorithm | str | None = None,
    *,
    saveat: SaveAt = None,
    reltol: float | None = None,
    abstol: Any = None,
    sensealg: SensitivityAlgorithm | None = None,
    engine: str | None = None,
    route: str | None = None,
    maxiters: int | None = None,
) -> Solution:
    """`pysciml.solve` of a `BVProblem`, whose arguments these are."""
    alg = by_name(alg) if isinstance(alg, str) else alg
    check_options(alg, route, maxiters=maxiters)
    if alg is not None:
        check_problem(alg, "boundary")
    in_julia = isinstance(prob.f, JuliaFunction)
    by = alg.alg if isinstance(alg, ShootingMethod) else alg  # type: ignore[attr-defined] # all have one
    by = None if isinstance(by, Collocation4) else by  # whose flows either engine solves
    name = select.choose(engine, by, sensealg, prob.inputs.u[0].device.type == "cpu", in_julia)
    alg = alg or (Collocation4() if isinstance(prob, TwoPointBVProblem) else MultiShooting())
    if name == "embedded":
        select.check_algorithm(alg, name, "boundary")
    reltol, abstol = tolerances(prob.ode, reltol, abstol)
    search = _Search(prob, alg, name, route, reltol, abstol, sensealg, maxiters)
    ts = save_times(prob.ode, saveat)
    s, x = search.solution()
    states = apply(InTorch(search.system.states), s, x, ts.cpu())[0]
    build: Callable = search.system.flow.state

    def dense(times: torch.Tensor) -> Any:
        return build(apply(InTorch(search.system.states), s, x, times.cpu())[0])

    return Solution(ts, build(states), prob, ReturnCode.Success, search.stats, dense)


class _Search:
    """One solve.

    Attributes:
        system: the equations. stats: what was counted.
    """

    def __init__(self, prob: BVProblem, alg: Algorithm, engine: str, route: str | None, reltol: Any, abstol: Any,
                 sensealg: SensitivityAlgorithm | None, maxiters: int | None):  # fmt: skip
        self.prob, self.alg, self.maxiters = prob, alg, maxiters or _MAXITERS
        self.reltol, self.abstol, self.engine = reltol, abstol, select.engine(engine)
        route = self._prepare(route)
        outer = plain(prob.ode)
        with functorch.outside():
            f = outer.remake(f=self.program.f)
        solver = alg.alg if isinstance(alg, ShootingMethod) else None  # type: ignore[attr-defined] # all have one
        if engine == "embedded":
            if route == "callback":
                solver = solver or DP5()
            if solver is not None:
                select.check_algorithm(solver, engine)
        flow = Flow(f, list(self.program.captured), solver, _wide(reltol), _wide(abstol), sensealg, engine,
                    route)  # fmt: skip
        self.conditions = self._conditions(flow)
        self.system = System(flow, self.conditions, np.array([0.0, 1.0]))
        self._starts: dict[bytes, Start] = {}

    def _prepare(self, route: str | None) -> str | None:
        """Sets the right-hand side, and returns the route that it takes in the end."""
        try:
            self.program, self.rhs = prepare_rhs(self.prob.ode, route)
        except TraceError as refusal:
            if isinstance(self.prob.f, JuliaFunction) or route == "compiled":
                raise
            warnings.warn(f"f cannot be compiled, so it is called back from the solver, which is slower:\n{refusal}",
                          PySciMLWarning, stacklevel=7)  # fmt: skip
            self.program, self.rhs = prepare_rhs(self.prob.ode, "callback")
            return "callback"
        return route

    def _conditions(self, flow: Flow) -> Conditions:
        """bc, with the tensors that it captured."""
        prob, n = self.prob, flow.layout.size

        with functorch.outside():
            own = flow.own([x.detach() for x in flow.prob.inputs.p])
        guess = functools.partial(self._at, flow)
        ends = guess(prob.span[0]), guess(prob.span[1])
        made = Conditions(prob, prob.bc, n)
        bc = functorch.plain(made.raw, guess, ends, own)
        with functorch.outside():
            made.captured = parameters_of(None, lambda: bc(guess, ends, own))
        made.met = functorch.originals([bc], made.captured)
        return made

    def _at(self, flow: Flow, t: Any) -> Any:
        """The guess at a time."""
        with functorch.outside(), torch.no_grad():
            times = np.atleast_1d(functorch.number(t) if isinstance(t, torch.Tensor) else float(t))
            return flow.state(torch.from_numpy(guessed(self.prob, times)[0]))

    @property
    def stats(self) -> Stats:
        counted = total(self.system.flow.parts)
        counted.alg, counted.engine = self.alg.name, self.engine.name
        return counted

    def solution(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The states at the nodes, and the parameters with the two ends of the span; both differentiable."""
        prob, system = self.prob, self.system
        leaves = [*prob.inputs.p, *captured_by(self.program), *self.conditions.met]
        ends = [torch.as_tensor(t, dtype=torch.float64) for t in prob.tspan]
        x = torch.cat([real(y).reshape(-1).to("cpu", torch.float64) for y in (*leaves, *ends)])
        first = functorch.numbers(functorch.example(x)).copy()
        found = self._start(first)
        system.nodes = found.nodes
        guess = self._guess(found)
        residual = InTorch(system.residual)
        equations = Equations(lambda s, x: apply(residual, s, x)[0], self._solve, system.jacobian,
                              "solution of the boundary value problem", singular=self._reltol)  # fmt: skip
        return solution(equations, guess, x), x

    def _guess(self, found: Start) -> torch.Tensor:
        """The states at the nodes, hanging on the user's guess, in which the gradient is zero."""
        leaves = [] if callable(self.prob.u0) else flatten(self.prob.u0)[0]
        s = torch.from_numpy(found.states.reshape(-1).copy())
        return s + sum(0.0 * x.to("cpu", torch.float64).sum() for x in leaves if isinstance(x, torch.Tensor))

    def _start(self, x: np.ndarray) -> Start:
        key = x.tobytes()
        if key not in self._starts:
            flow = self.system.flow
            held = sum(real(y).numel() for y in self.conditions.captured)
            f = numbers(self.program, self.rhs, x[: x.size - 2 - held].copy(), self._in_engine)
            with functorch.outside():
                self._starts[key] = start(
                    self.prob, self.alg, flow, self.conditions, f, x, self._reltol, self._in_julia
                )
        return self._starts[key]

    @property
    def _reltol(self) -> float:
        return float(np.min(functorch.numbers(torch.as_tensor(self.reltol))))

    def _in_engine(self, kind: str, t: float, u: np.ndarray, p: np.ndarray) -> np.ndarray:
        request = RootRequest(self.rhs, self.program, u, p, self.alg, 1.0, 1.0)
        return self.engine.evaluate(request, kind, t)  # type: ignore[attr-defined] # Julia's

    def _in_julia(self, alg: Algorithm, ts: np.ndarray, us: np.ndarray, x: np.ndarray, tol: float) -> tuple:
        return by_julia.collocated(self.engine, alg, self.program, self.rhs, self.system.flow, self.conditions,
                                   functools.partial(self._at, self.system.flow), ts, us, x, tol)  # fmt: skip

    def _solve(self, guess: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The states at the nodes for other values of the parameters, by Powell's hybrid method."""
        from scipy.optimize import root

        found = self._start(x)
        system, given = self.system, torch.from_numpy(x)
        states = found.states
        if found.nodes.size != system.nodes.size or (found.nodes != system.nodes).any():
            states = np.stack([np.interp(system.nodes, found.nodes, column) for column in states.T], axis=1)
        last: list[np.ndarray] = []

        def residual(s: np.ndarray) -> np.ndarray:
            try:
                with torch.no_grad():
                    r = system.residual(torch.from_numpy(s.copy()), given)[0].numpy()
            except SolveError:
                if not last:
                    raise
                return 10.0 * last[-1]  # a step too far, from which no solver came back
            if self._good(r, s, 1.0):
                raise _Found(s.copy())
            last.append(r)
            return r

        try:
            with functorch.outside():
                end = root(residual, states.reshape(-1), jac=lambda s: system.jacobian(s.copy(), x), method="hybr",
                           options={"xtol": 1e-14, "maxfev": self.maxiters})  # fmt: skip
        except _Found as done:
            return done.args[0]
        if not self._good(end.fun, end.x, _SLACK):
            raise self._failed(end.fun)
        return end.x

    def _good(self, r: np.ndarray, s: np.ndarray, slack: float) -> bool:
        n = self.system.n
        sizes = np.abs(s.reshape(-1, n)).max(axis=0)
        reltol, abstol = (_each(x, n) for x in (self.reltol, self.abstol))
        allowed = slack * (abstol + reltol * sizes)
        joins, conditions = np.abs(r[:-n].reshape(-1, n)), np.abs(r[-n:])
        return bool((joins <= allowed).all() and (conditions <= allowed.max(initial=0.0)).all())

    def _failed(self, r: np.ndarray) -> SolveError:
        n = self.system.n
        return SolveError(
            f"{self.alg.name} found no solution: {ReturnCode.ConvergenceFailure.name}.\nLikely cause: a guess that is "
            "too far from any, no solution at all, or solutions that grow too much over a part of the span.",
            retcode=ReturnCode.ConvergenceFailure, stats=self.stats,
            got=f"conditions off by {np.abs(r[-n:]).max():.3g}, parts by {np.abs(r[:-n]).max():.3g}",
            expected="both within the tolerances",
            fix="a guess u0 that is nearer (a function of t, an earlier solution); pysciml.MultiShooting(20); or a "
            "sequence of problems from an easy one on, by prob.remake(u0=sol)",
        )  # fmt: skip


class _Found(Exception):  # noqa: N818 - no error
    """States at which the equations hold."""


def _wide(tolerance: Any) -> Any:
    """What a flow is solved to: a tenth, since errors of parts add up."""
    return 0.1 * tolerance


def _each(tolerance: Any, n: int) -> np.ndarray:
    return np.broadcast_to(functorch.numbers(tolerance) if isinstance(tolerance, torch.Tensor) else tolerance, (n,))
