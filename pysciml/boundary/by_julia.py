"""Collocation by Julia: the conditions become a right-hand side too, of the states at the times that they look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pysciml.boundary.conditions import Conditions
from pysciml.boundary.flow import Flow, unpacked
from pysciml.engines.base import BoundaryRequest
from pysciml.errors import SolveError, TraceError, UnsupportedError
from pysciml.problems import ODEProblem
from pysciml.rhs.callback import prepare_callback
from pysciml.rhs.padded import Padded
from pysciml.rhs.parameters import pack, real
from pysciml.rhs.trace import prepare
from pysciml.solution import ReturnCode

_MAXITERS = 50  # on one mesh


class Looked:
    """A path of which it is known what times are asked for."""

    def __init__(self, path: Callable[[Any], Any]):
        self.path = path
        self.times: list[float] = []

    def __call__(self, t: Any) -> Any:
        t = torch.as_tensor(t, dtype=torch.float64)
        if t.dim():
            raise UnsupportedError("conditions by Julia look at one time after another.", got=f"sol(t) at {t.numel()}",
                                   expected="sol(t) of one t", fix="[sol(t) for t in ts]")  # fmt: skip
        self.times.append(float(t))
        return self.path(t)


def collocated(engine: Any, alg: Any, program: Any, rhs: Any, flow: Flow, conditions: Conditions,
               guess: Callable[[Any], Any], ts: np.ndarray, us: np.ndarray, x: np.ndarray,
               tol: float) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """A mesh (k,) and the states (k, n) on it. Raises `SolveError` where Julia finds none."""
    like = [*flow.prob.inputs.p, *flow.captured, *conditions.captured]
    parameters = unpacked(torch.from_numpy(x[:-2].copy()), like)
    own = flow.own(parameters[: len(flow.prob.inputs.p)])
    others = parameters[len(parameters) - len(conditions.captured) :]
    ends = (float(x[-2]), float(x[-1]))
    times = np.array(ends) if conditions.two_point else _times(conditions, guess, own, others)
    made = _function(conditions, flow, times, own, others)
    start = torch.from_numpy(np.stack([us[np.argmin(abs(ts - t))] for t in times]).reshape(-1))
    padded = Padded(made, times.size * flow.layout.size, flow.layout.size, conditions.inner_functions)
    start = torch.cat([start, start.new_zeros(padded.n - start.numel())])
    of_ends, compiled = _prepared(padded, start)
    held = sum(real(y).numel() for y in conditions.captured)
    request = BoundaryRequest(
        rhs, program, x[: x.size - 2 - held].copy(), compiled, of_ends, pack([real(y) for y in of_ends.parameters]),
        times, alg, ts, us, tol, _MAXITERS,
    )  # fmt: skip
    mesh, states, said = engine.collocate(request)
    if said or not np.isfinite(states).all():
        raise SolveError(
            f"{alg.name} found no solution: {ReturnCode.ConvergenceFailure.name}.\nLikely cause: no solution near the "
            "guess, or a layer that takes a finer mesh.", retcode=ReturnCode.ConvergenceFailure,
            got=f"{said or 'NaN'} from Julia", expected="a mesh on which the defect is small",
            fix=f"a guess u0 that is nearer, as a function of t or an earlier solution; or {alg.name}(nodes=201)",
        )  # fmt: skip
    return mesh, states


def _times(conditions: Conditions, guess: Callable[[Any], Any], own: tuple, others: list[torch.Tensor]) -> np.ndarray:
    looked = Looked(guess)
    with torch.no_grad():
        conditions(looked, (None, None), own, others)
    return np.unique(np.array(looked.times))


def _function(conditions: Conditions, flow: Flow, times: np.ndarray, own: tuple, others: list[torch.Tensor]) -> Any:
    """The residuals as a function of the states at times."""

    def residuals(t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        each = z.reshape(times.size, -1)
        states = [flow.layout.unflatten(each[i].to(flow.prob.inputs.u[0].dtype)) for i in range(times.size)]

        def path(t: Any) -> Any:
            return states[int(np.argmin(abs(times - float(t))))]

        return conditions(path, (states[0], states[-1]), own, others)

    return residuals


def _prepared(padded: Padded, start: torch.Tensor) -> tuple[Any, Any]:
    try:
        return prepare(padded, 0.0, start)
    except TraceError:
        return prepare_callback(ODEProblem(padded, start, (0.0, 1.0)))
