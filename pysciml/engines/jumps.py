"""The contract between pysciml and an engine for jump processes: as of `engines.base`, for many paths at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pysciml.algorithms import JumpAlgorithm
from pysciml.engines.base import RequestPart
from pysciml.errors import SolveError
from pysciml.solution import Stats


class JumpsRequest(NamedTuple):
    """N paths of one jump process of R channels and n states.

    Attributes:
        rates: the rates, padded to a square, of which the first R results count; None of mass action.
        reactants: (R, n) integers of mass action, whose constants are the parameters then; else None.
        changes: (R, n). depends: (R, n) integers, 1 where a rate depends on a state.
        u0: (N, n) or (1, n) states at t0. p: (N, m) or (1, m) parameters. seeds: (N,) of the paths.
        t0, t1: the span, forwards. ts: (k,) times to save at, increasing.
        dt: the longest leap of a fixed length, else NaN. maxiters: most events of a path, or leaps.
        keep: whether all events are wanted.
    """

    rates: RequestPart | None
    reactants: np.ndarray | None
    changes: np.ndarray
    depends: np.ndarray
    u0: np.ndarray
    p: np.ndarray
    seeds: np.ndarray
    t0: float
    t1: float
    ts: np.ndarray
    alg: JumpAlgorithm
    dt: float
    maxiters: int
    keep: bool


class Events(NamedTuple):
    """All events of N paths, one path after the other: `counts` (N,) of each, `t` and `channel` (sum of counts,)."""

    counts: np.ndarray
    t: np.ndarray
    channel: np.ndarray


@dataclass(eq=False)
class JumpPaths:
    """What solves gave: `u` (N, k, n), NaN where one failed, its error by its number, and the events if kept."""

    u: np.ndarray
    errors: dict[int, SolveError]
    stats: Stats
    events: Events | None
