"""Conditions looked at in Julia, at every step of a solve. A compiled condition is never asked of Python."""

from __future__ import annotations

import time

import numpy as np

from pysciml.algorithms import Tsit5
from pysciml.engines.base import Met, Request, Trajectory, Watch
from pysciml.engines.julia import bridge
from pysciml.engines.julia.algorithms import julia_algorithm
from pysciml.rhs.base import CompiledRHS
from pysciml.sensitivity import GaussAdjoint


def conditions(request: Request, watch: Watch):
    """The conditions as a model of Julia's."""
    plain = request._replace(rhs=watch.rhs, program=watch.program, alg=Tsit5(), sensealg=GaussAdjoint(), mass=None)
    return bridge.model(plain, ("f",))


def can_go_on(request: Request) -> bool:
    """Whether a solve that an event has ended can be differentiated as it is: by our own adjoint, not by SciML's."""
    plain = request.mass is None or bool((request.mass == 1).all())
    return isinstance(request.rhs, CompiledRHS) and isinstance(request.sensealg, GaussAdjoint) and plain


class Search:
    """What comes back of a search: the places Julia writes to."""

    def __init__(self, count: int):
        self.t, self.fired, self.largest, self.counts = (
            np.zeros(1), np.zeros(count, np.int64), np.zeros(count), np.zeros(4, np.int64),
        )  # fmt: skip
        self.start = time.perf_counter()

    @property
    def places(self) -> tuple[np.ndarray, ...]:
        return self.t, self.fired, self.largest, self.counts

    def met(self, trajectory: Trajectory | None) -> Met:
        return Met(float(self.t[0]), tuple(np.flatnonzero(self.fired).tolist()), self.largest, trajectory)


def arguments(request: Request, model, alg, watch: Watch) -> tuple:
    """What `first_event!` takes after the places it writes to."""
    mass = np.zeros(0) if request.mass is None else request.mass
    abstol = np.atleast_1d(np.asarray(request.abstol, float))
    return (
        can_go_on(request), model, julia_algorithm(alg), request.u0, request.p, mass, request.t0, request.t1,
        request.reltol, abstol, bridge.steps(request), conditions(request, watch), watch.p, watch.sides, watch.bands,
        watch.kinds, watch.points,
    )  # fmt: skip
