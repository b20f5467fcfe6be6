"""The one place where torch's autograd meets an engine.

`Solve` is the map (t0, saveat, state leaves, parameter leaves) -> saved states. Its vjp in the states and parameters is
the engine's; in the times it is exact: a saved state moves along du/dt, and a later start is a shift of u0 against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pysciml.engines.base import Engine, Request, Trajectory
from pysciml.errors import InvalidInputError
from pysciml.first_order import first_order_only
from pysciml.rhs.base import RightHandSide
from pysciml.rhs.parameters import all_finite, pack, to_numpy
from pysciml.solution import Stats


def _unsolved(**changes: Any) -> Request:
    raise RuntimeError("there is no solve yet to interpolate")


@dataclass(eq=False)
class Call:
    """One solve on its way through autograd: what stays the same, and what came of it.

    Attributes:
        engine: who solves. rhs: what. request: makes the Request, given the values u0, p, t0 and ts.
        dtype: of the user's state. n_state: how many of the leaves are the state.
        names: gives what the user calls each parameter leaf.
        dense: the trajectory to interpolate instead of solving, or None.
        solved, trajectory, stats: set by the forward solve; `stats.backward` by the backward one.
    """

    engine: Engine
    rhs: RightHandSide
    request: Callable[..., Request]
    dtype: torch.dtype
    n_state: int
    names: Callable[[], list[str]]
    dense: Trajectory | None = None
    trajectory: Trajectory | None = None
    solved: Callable[..., Request] = _unsolved
    stats: Stats = field(default_factory=Stats)


def solve(call: Call, t0: Any, ts: torch.Tensor, leaves: Sequence[torch.Tensor]) -> torch.Tensor:
    """The (k, n) states at `ts`, differentiable in t0, ts and all leaves."""
    return _Solve.apply(call, t0, ts, *leaves)


def solve_first(call: Call, t0: Any, leaves: Sequence[torch.Tensor]) -> Trajectory:
    """A solve that autograd does not see, to be interpolated as `Call.dense`."""
    state, parameters = leaves[: call.n_state], leaves[call.n_state :]
    request = call.request(u0=pack(state), p=pack(parameters), t0=float(t0), ts=np.zeros(0))
    request = request._replace(ts=np.array([request.t1]))
    _check_values(call, request, parameters)
    call.solved = request._replace
    return call.engine.solve(request)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call: Call, t0, ts: torch.Tensor, *leaves: torch.Tensor) -> torch.Tensor:
        state, parameters = leaves[: call.n_state], leaves[call.n_state :]
        if call.dense is None:
            request = call.request(u0=pack(state), p=pack(parameters), t0=float(t0), ts=to_numpy(ts).copy())
            _check_values(call, request, parameters)
            call.trajectory = call.engine.solve(request)
            call.solved = request._replace
        else:
            # The values of the solve it belongs to: an optimizer may have changed the tensors since.
            request = call.solved(ts=to_numpy(ts).copy())
            call.trajectory = call.engine.interpolate(request, call.dense, request.ts)
        call.stats = call.trajectory.stats
        ctx.call, ctx.request, ctx.trajectory = call, request, call.trajectory
        ctx.like = (t0, ts, *leaves)
        u = torch.from_numpy(call.trajectory.u)
        return u if call.dtype is torch.float64 else u.to(call.dtype)

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        call, request, trajectory = ctx.call, ctx.request, ctx.trajectory
        g = to_numpy(grad)
        _, needs_t0, needs_ts, *needs = ctx.needs_input_grad
        d_t0 = d_ts = None
        pieces: list[torch.Tensor | None] = [None] * len(needs)
        if needs_t0 or any(needs):
            pull = call.engine.vjp(request, trajectory, np.ascontiguousarray(g))
            call.stats.backward = pull.stats
            pieces = _split(pull.flat, ctx.like[2:], needs)
            if needs_t0:
                slope = call.engine.derivative(request, np.array([request.t0]), request.u0[None])
                d_t0 = _like(torch.tensor(-(pull.u0 @ slope[0])).reshape(ctx.like[0].shape), ctx.like[0])
        if needs_ts:
            slopes = call.engine.derivative(request, request.ts, trajectory.u)
            d_ts = _like(torch.from_numpy((g * slopes).sum(axis=1)), ctx.like[1])
        name = f"{request.alg.name} with {request.sensealg.name}"
        return None, *first_order_only(name, ctx.like, [d_t0, d_ts, *pieces])


def _check_values(call: Call, request: Request, parameters: Sequence[torch.Tensor]) -> None:
    sizes, known = (request.u0.size, request.p.size), (call.rhs.n, call.rhs.m)
    if sizes != known:
        raise InvalidInputError(
            "a tensor of the problem has changed its shape since the problem was made.",
            got="{} states and {} parameters".format(*sizes), expected="{} and {}".format(*known),
            fix="make the problem anew: pysciml.ODEProblem(f, u0, tspan, p)",
        )  # fmt: skip
    if all_finite(request.p):
        return
    bad = next(i for i, x in enumerate(parameters) if not torch.isfinite(x).all())
    name, x = call.names()[bad], parameters[bad]
    raise InvalidInputError(
        f"the parameter `{name}` must be finite.",
        got=f"{int((~torch.isfinite(x)).sum())} NaN or infinite of {x.numel()} values",
        fix="look at the step before: a learning rate too large, or a loss that was not finite",
    )


def _split(flat: np.ndarray, leaves: Sequence[torch.Tensor], needs: Sequence[bool]) -> list[torch.Tensor | None]:
    pieces = torch._utils._unflatten_dense_tensors(torch.from_numpy(flat), leaves)
    return [_like(x, leaf) if needed else None for x, leaf, needed in zip(pieces, leaves, needs, strict=True)]


def _like(values: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    return values if leaf.dtype is torch.float64 and leaf.is_cpu else values.to(leaf)
