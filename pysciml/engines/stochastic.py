"""The contract between pysciml and an engine for stochastic equations: as of `engines.base`, for many paths at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pysciml.algorithms import Algorithm
from pysciml.engines.base import RequestPart
from pysciml.errors import SolveError
from pysciml.solution import Stats


class PathsRequest(NamedTuple):
    """N paths of one equation.

    Attributes:
        drift, diffusion: both parts; of a random ODE no diffusion, and the noise follows the state of the drift.
        blocks: how noise enters, as of `SDEProblem.blocks`.
        u0: (N, n) or (1, n) states at t0. p: (N, m) or (1, m) parameters. seeds: (N,) of the paths, not zero.
        t0, t1: the span, forwards. ts: (k,) times to save at, increasing.
        noise: (times, W, Z) of a given path, W (N or 1, k, motions) and Z like it or without rows; or None.
        options: dt, dtmax, maxiters and adaptive, where they were given.
        single: whether to compute in float32. interpretation: of the equation, for algorithms that solve both.
        delays, asked: of an equation with delays, as of `stochastic.equation.Equation`.
        made: what an engine keeps for the next request that differs in u0, p and seeds alone, or None.
    """

    drift: RequestPart
    diffusion: RequestPart | None
    blocks: tuple[int, int, int]
    u0: np.ndarray
    p: np.ndarray
    seeds: np.ndarray
    t0: float
    t1: float
    ts: np.ndarray
    alg: Algorithm
    reltol: float
    abstol: float
    noise: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    options: dict[str, Any]
    single: bool
    delays: tuple[RequestPart, ...] = ()
    asked: tuple[int, int] = (0, 0)
    interpretation: str = "ito"
    made: dict[Any, Any] | None = None

    def once(self, what: Hashable, make: Callable[[], Any]) -> Any:
        """`make()`, or what it gave for such a request before."""
        if self.made is None:
            return make()
        if what not in self.made:
            self.made[what] = make()
        return self.made[what]


@dataclass(eq=False)
class Paths:
    """What solves gave: `u` (N, k, n), NaN where one failed, and by its number the error that each of those had."""

    u: np.ndarray
    errors: dict[int, SolveError]
    stats: Stats
    handle: Any = field(default=None, repr=False)
