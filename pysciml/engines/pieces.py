"""Solves in pieces: from one jump of the right-hand side to the next, each piece a solve of its own.

A solver that steps over a jump finds it by rejecting steps. One that stops there still meets it, since the last stage
of a step and the first of the next are both evaluated at the jump, one of them on the wrong side; error estimates see
little of it (Tsit5's 1/50). So a piece ends a few roundings before the jump and the next begins as many after it.
Solvers start anew there, forwards and backwards, as a multistep method must.

Reference: Hairer, Norsett and Wanner, "Solving Ordinary Differential Equations I", II.6.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pysciml.algorithms import Algorithm
from pysciml.engines.base import Engine, Met, Pullback, Request, RootRequest, Trajectory, Watch
from pysciml.errors import UnsupportedError
from pysciml.sensitivity import SensitivityAlgorithm
from pysciml.solution import Stats

_ROUNDINGS = 4  # of the larger of t and the span, which solvers and CasADi's relative times stay well within


def stopping(engine: Engine, tstops: np.ndarray, jumps: np.ndarray) -> Engine:
    """The engine itself, or one that solves in pieces where there are jumps, or stops that it cannot make itself."""
    stops = jumps if engine.takes_tstops else np.concatenate([jumps, tstops])
    return InPieces(engine, stops, jumps) if stops.size else engine


@dataclass(eq=False)
class Piece:
    """One solve: its request, the rows of the whole that it answers, and what came of it.

    The last of its times is the end of the piece, where the next one starts, asked for or not.
    """

    request: Request
    rows: np.ndarray
    trajectory: Trajectory


class InPieces:
    """An engine that solves from stop to stop. See `pysciml.engines.base.Engine`.

    Args:
        stops: times inside the span, in any order. jumps: those of them where f jumps.
    """

    def __init__(self, engine: Engine, stops: np.ndarray, jumps: np.ndarray):
        self.engine, self.name = engine, engine.name
        self.takes_tstops, self.tells_steps, self.reached = True, engine.tells_steps, engine.reached
        self._stops, self._jumps = np.unique(stops), set(jumps.tolist())

    def default_algorithm(self, mass: np.ndarray | None) -> Algorithm:
        return self.engine.default_algorithm(mass)

    def check(self, alg: Algorithm, sensealg: SensitivityAlgorithm, dt: float | None = None, kind: str = "ode") -> None:
        self.engine.check(alg, sensealg, dt, kind)

    def solve(self, request: Request) -> Trajectory:
        spans, pieces = self._spans(request), []
        u0 = request.u0
        for (t0, t1), rows in zip(spans, _owned(request.ts, spans), strict=True):
            part = request._replace(t0=t0, t1=t1, u0=u0, ts=_times(request.ts[rows], t0, t1))
            pieces.append(Piece(part, rows, self.engine.solve(part)))
            u0 = pieces[-1].trajectory.u[-1]
        return _joined(pieces, request.ts.size)

    def vjp(self, request: Request, trajectory: Trajectory, cotangents: np.ndarray) -> Pullback:
        total, stats = np.zeros(request.rhs.n + request.rhs.m), []
        for piece in reversed(trajectory.handle):
            g = np.zeros((piece.request.ts.size, request.rhs.n))
            g[: piece.rows.size] = cotangents[piece.rows]
            g[-1] += total[: request.rhs.n]
            pull = self.engine.vjp(piece.request, piece.trajectory, g)
            total[: request.rhs.n] = pull.u0
            total[request.rhs.n :] += pull.p
            stats.append(pull.stats)
        return Pullback(total, request.rhs.n, _sum(stats))

    def interpolate(self, request: Request, trajectory: Trajectory, ts: np.ndarray) -> Trajectory:
        pieces = []
        for old, rows in zip(trajectory.handle, _owned(ts, self._spans(request)), strict=True):
            part = old.request._replace(ts=_times(ts[rows], old.request.t0, old.request.t1))
            pieces.append(Piece(part, rows, self.engine.interpolate(part, old.trajectory, part.ts)))
        return _joined(pieces, ts.size)

    def root(self, request: RootRequest) -> tuple[np.ndarray, Stats]:
        return self.engine.root(request)

    def first_event(self, request: Request, watch: Watch) -> Met:
        raise UnsupportedError("events are not looked for in a solve in pieces.", got="callback and d_discontinuities",
                               fix="PresetTimeCallback(times), where the solver starts anew")  # fmt: skip

    def steps(self, trajectory: Trajectory) -> np.ndarray:
        first, *others = trajectory.handle
        found = [self.engine.steps(first.trajectory)]
        found += [self.engine.steps(piece.trajectory)[1:] for piece in others]
        for i, piece in enumerate(trajectory.handle[:-1]):
            found[i][-1] = self._stop_near(piece.request.t1)
        return np.concatenate(found)

    def derivative(self, request: Request, ts: np.ndarray, u: np.ndarray) -> np.ndarray:
        out, spans = np.empty_like(u), self._spans(request)
        for (t0, t1), rows in zip(spans, _owned(ts, spans), strict=True):
            if rows.size:
                out[rows] = self.engine.derivative(request, _clipped(ts[rows], t0, t1), u[rows])
        return out

    def beside_jumps(self, request: Request) -> tuple[float, np.ndarray]:
        """t0 and ts, each on the side of a jump that its state is meant on: after it at t0, before it later."""
        ts, spans = request.ts.copy(), self._spans(request)
        for (t0, t1), rows in zip(spans, _owned(ts, spans), strict=True):
            ts[rows] = _clipped(ts[rows], t0, t1)
        return spans[0][0], ts

    def _spans(self, request: Request) -> list[tuple[float, float]]:
        """The ends of the pieces, in the order of the solve."""
        low, high = sorted((request.t0, request.t1))
        inner = self._stops[(self._stops > low) & (self._stops < high)]
        ends = np.array([low, *inner, high])
        width = _ROUNDINGS * float(np.spacing(_real(request)(max(abs(low), abs(high), high - low))))
        gaps = np.array([width if t in self._jumps else 0.0 for t in ends])
        pairs = list(zip((ends + gaps)[:-1].tolist(), (ends - gaps)[1:].tolist(), strict=True))
        return pairs if request.t1 > request.t0 else [(b, a) for a, b in reversed(pairs)]

    def _stop_near(self, t: float) -> float:
        return float(self._stops[np.argmin(abs(self._stops - t))])


def _real(request: Request) -> Callable[[float], Any]:
    return np.float32 if request.single else np.float64


def _owned(ts: np.ndarray, spans: Sequence[tuple[float, float]]) -> list[np.ndarray]:
    """The places of the times that belong to each piece: those after the piece before, up to a jump and its gap."""
    sign = 1.0 if spans[0][1] > spans[0][0] else -1.0
    middles = np.array([(a[1] + b[0]) / 2 for a, b in itertools.pairwise(spans)])
    slack = 4 * _ROUNDINGS * np.spacing(max(abs(t) for span in spans for t in span))
    owners = np.searchsorted(sign * middles + slack, sign * ts)
    return [np.flatnonzero(owners == i) for i in range(len(spans))]


def _clipped(ts: np.ndarray, t0: float, t1: float) -> np.ndarray:
    return np.clip(ts, min(t0, t1), max(t0, t1))


def _times(ts: np.ndarray, t0: float, t1: float) -> np.ndarray:
    """The times to save at in a piece, its end among them."""
    clipped = _clipped(ts, t0, t1)
    return clipped if clipped.size and clipped[-1] == t1 else np.append(clipped, t1)


def _joined(pieces: list[Piece], count: int) -> Trajectory:
    u = np.empty((count, pieces[0].request.rhs.n))
    for piece in pieces:
        u[piece.rows] = piece.trajectory.u[: piece.rows.size]
    return Trajectory(u, _sum([piece.trajectory.stats for piece in pieces]), handle=pieces)


def _sum(each: Sequence[Stats]) -> Stats:
    def total(name: str) -> int | None:
        counts = [getattr(s, name) for s in each]
        return None if None in counts else sum(counts)

    return Stats(nf=total("nf"), njacs=total("njacs"), naccept=total("naccept"), nreject=total("nreject"),
                 wall_time=sum(s.wall_time for s in each), engine=each[0].engine, alg=each[0].alg)  # fmt: skip
