"""The contract between pysciml and an engine for compiled right-hand sides.

An engine sees flat float64 vectors and Graphs, never a user's tensor or pytree; what is above it (autograd, solve,
fit) sees no solver. Every engine passes `tests/contract`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import is_
from typing import Any, NamedTuple, Protocol

import numpy as np

from pysciml.algorithms import Algorithm
from pysciml.rhs.base import RightHandSide
from pysciml.sensitivity import SensitivityAlgorithm
from pysciml.solution import ReturnCode, Stats


class RequestPart(NamedTuple):
    """One part of a split right-hand side: as of `Request`, and where among the parameters of the whole its own are."""

    rhs: RightHandSide
    program: Any
    places: np.ndarray


class Request(NamedTuple):
    """One solve.

    Attributes:
        rhs: the right-hand side, of any route. program: what it came from; a compiled one's recorded run, for graphs
            not traced yet.
        u0: (n,) state at t0. p: (m,) parameters. t0, t1: the span, in either direction.
        ts: (k,) times to save at, strictly monotone from t0 towards t1.
        reltol, abstol: scalar or (n,). mass: (n,) diagonal of the mass matrix, or None for the identity.
        kind: what the right-hand side is, one of `pysciml.algorithms.PROBLEMS`.
        parts: the two that a split right-hand side is the sum of, for a solver that takes it apart; or none.
        single: whether an engine that can shall compute in float32.
        dt: first (or fixed) step. dtmax: largest step. maxiters: most steps. None leaves it to the engine.
        tstops: (j,) times inside the span to step on, in any order; for engines that say `takes_tstops`.
        made: what an engine keeps of its settings for the next request of the same origin, or None; see `once`.
    """

    rhs: RightHandSide
    program: Any
    u0: np.ndarray
    p: np.ndarray
    t0: float
    t1: float
    ts: np.ndarray
    alg: Algorithm
    sensealg: SensitivityAlgorithm
    reltol: float | np.ndarray
    abstol: float | np.ndarray
    mass: np.ndarray | None = None
    single: bool = False
    dt: float | None = None
    dtmax: float | None = None
    maxiters: int | None = None
    tstops: np.ndarray | None = None
    kind: str = "ode"
    parts: tuple[RequestPart, ...] = ()
    made: dict[str, Any] | None = None

    def once(self, what: str, make: Callable[[Request], Any]) -> Any:
        """`make(self)`, or what it gave when all but u0, p, t0 and the times of a request was the very same."""
        if self.made is None:
            return make(self)
        settings = (self.rhs, self.t1, self.alg, self.sensealg, self.reltol, self.abstol, self.mass, self.single,
                    self.dt, self.dtmax, self.maxiters, self.kind, self.parts)  # fmt: skip
        then = self.made.get(what)
        if then is None or not all(map(is_, then[0], settings)):
            self.made[what] = then = settings, make(self)
        return then[1]


class RootRequest(NamedTuple):
    """One search for u with 0 = f(u).

    Attributes:
        rhs, program: f, as of `Request`. u0: (n,) the guess. p: (m,) parameters. alg: a `RootFinder`.
        reltol, abstol: scalar or (n,): |f| <= abstol + reltol |u| in each state is good enough, and a root finder may
            go on from there. maxiters: most iterations. None leaves it to the engine.
    """

    rhs: RightHandSide
    program: Any
    u0: np.ndarray
    p: np.ndarray
    alg: Algorithm
    reltol: float | np.ndarray
    abstol: float | np.ndarray
    maxiters: int | None = None


class BoundaryRequest(NamedTuple):
    """One boundary value problem.

    Attributes:
        rhs, program, p: f, as of `Request`. conditions, conditions_program, q: the conditions, a right-hand side of the
            states at `times` (k,), one after another, whose first n results are the residuals; and its parameters.
        alg: a method for them. ts, us: (m,) and (m, n), a guess at equal steps. tol: of the residual.
        maxiters: most iterations.
    """

    rhs: RightHandSide
    program: Any
    p: np.ndarray
    conditions: RightHandSide
    conditions_program: Any
    q: np.ndarray
    times: np.ndarray
    alg: Algorithm
    ts: np.ndarray
    us: np.ndarray
    tol: float
    maxiters: int


@dataclass(eq=False)
class Trajectory:
    """What a solve gave: `u` is (k, n), one row a time of `ts`. `handle` is the engine's own, for `vjp`."""

    u: np.ndarray
    stats: Stats
    retcode: ReturnCode = ReturnCode.Success
    handle: Any = field(default=None, repr=False)


class Watch(NamedTuple):
    """Conditions to be looked at along a solve.

    Attributes:
        rhs, program: the conditions as a right-hand side: of its state the first n are the solve's, and of its results
            the first k are the conditions. p: (m,) its parameters.
        sides: (k,) the sign that each has at the start, or will have right after it; 0 where none is known.
        bands: (k,) of a condition that was just met, how large it may be and still count as zero, until it has been
            larger: a solve comes to an event with its tolerance, and may cross once more. 0 for the others.
        kinds: (k,) what counts: 1 a crossing to positive, -1 to negative, 0 both; `AT_STEPS`, positive after a step.
        points: looks in a step.
    """

    rhs: RightHandSide
    program: Any
    p: np.ndarray
    sides: np.ndarray
    bands: np.ndarray
    kinds: np.ndarray
    points: int


AT_STEPS = 2


class Met(NamedTuple):
    """Where a solve met conditions, or its end.

    Attributes:
        t: the time. fired: the conditions that were met, none at the end of the span.
        largest: (k,) the largest absolute value of each that was seen.
        trajectory: the solve so far, to interpolate and to differentiate, where it can be; else None.
    """

    t: float
    fired: tuple[int, ...]
    largest: np.ndarray
    trajectory: Trajectory | None = None


def explained(code: ReturnCode, request: Request, t: float) -> tuple[str, str]:
    """The likely cause of a failure at time t and what to try, for the problem at hand."""
    algebraic = request.mass is not None and not request.mass.all()
    started = abs(t - request.t0) > 1e-9 * abs(request.t1 - request.t0)
    if not algebraic or (code is ReturnCode.MaxIters and started):
        return code.cause, code.remedy
    return (
        f"{code.cause}; or algebraic equations that do not determine the algebraic variables, an index above 1",
        f"differentiate such a constraint in time until the algebraic variables occur in it; or {code.remedy}",
    )


@dataclass(eq=False)
class Pullback:
    """Cotangents of the inputs, `u0` (n,) and `p` (m,), one after the other in `flat`."""

    flat: np.ndarray
    n: int
    stats: Stats

    @property
    def u0(self) -> np.ndarray:
        return self.flat[: self.n]

    @property
    def p(self) -> np.ndarray:
        return self.flat[self.n :]


class Engine(Protocol):
    """What pysciml asks of an engine. Every method raises `SolveError` when the solver does not reach the end.

    Attributes:
        takes_tstops: whether it steps on `Request.tstops` itself.
        tells_steps: whether it can say where a solver stepped, by `steps`.
        reached: says up to which time the solve under way has come, asked on another thread; None if it cannot.
    """

    name: str
    takes_tstops: bool
    tells_steps: bool

    @property
    def reached(self) -> Callable[[], float] | None: ...

    def default_algorithm(self, mass: np.ndarray | None) -> Algorithm:
        """What is taken when none is named: right for stiff and non-stiff alike, and for a mass matrix."""

    def check(self, alg: Algorithm, sensealg: SensitivityAlgorithm, dt: float | None = None, kind: str = "ode") -> None:
        """Raises `UnsupportedError`, naming what would work, if this engine lacks one of them.

        Args:
            kind: of the right-hand side, as of `Request`.
        """

    def solve(self, request: Request) -> Trajectory:
        """The state at `request.ts`."""

    def vjp(self, request: Request, trajectory: Trajectory, cotangents: np.ndarray) -> Pullback:
        """The gradient of sum(cotangents * u) in u0 and p. Args: cotangents (k, n), one row a time of `ts`."""

    def interpolate(self, request: Request, trajectory: Trajectory, ts: np.ndarray) -> Trajectory:
        """The dense solution at other times of the span, (len(ts), n)."""

    def steps(self, trajectory: Trajectory) -> np.ndarray:
        """(k,) times the solver stepped on, strictly monotone from t0 to t1."""

    def derivative(self, request: Request, ts: np.ndarray, u: np.ndarray) -> np.ndarray:
        """du/dt at states on the solution, (len(ts), n); for a DAE that of the algebraic variables too."""

    def root(self, request: RootRequest) -> tuple[np.ndarray, Stats]:
        """Where a search for a root ended, (n,), whether it is one or not; and what was counted."""

    def first_event(self, request: Request, watch: Watch) -> Met:
        """Solves until a condition is met. Raises `UnsupportedError` for conditions that it cannot look at."""
