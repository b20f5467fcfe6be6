"""The one place where torch's autograd meets an engine.

`_Solve` is the map (t0, saveat, state leaves, parameter leaves) -> saved states. Its vjp in states and parameters is
the engine's; in the times it is exact: a saved state moves along du/dt, and a later start is a shift of u0 against it.
It is the quick form. Where a transform of torch.func is active, or a gradient shall be differentiated in turn, the
operations of `derivatives.py` take its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pysciml.derivatives import States, known
from pysciml.engines.base import Engine, Pullback, Request, Trajectory
from pysciml.errors import InvalidInputError
from pysciml.rhs import functorch
from pysciml.rhs.base import RightHandSide
from pysciml.rhs.parameters import all_finite, pack, to_numpy
from pysciml.solution import Stats
from pysciml.transforms import apply


def _unsolved(**changes: Any) -> Request:
    raise RuntimeError("there is no solve yet to interpolate")


@dataclass(eq=False)
class Call:
    """One solve on its way through autograd: what stays the same, and what came of it.

    Attributes:
        engine: who solves. rhs, program: what. request: makes the Request, given the values u0, p, t0 and ts.
        dtype: of the user's state. n_state: how many of the leaves are the state.
        names: gives what the user calls each parameter leaf. exact: whether all leaves are float64.
        dense: the trajectory to interpolate instead of solving, or None.
        solved, trajectory, stats: set by the forward solve; `stats.backward` by the backward one.
    """

    engine: Engine
    rhs: RightHandSide
    program: Any
    request: Callable[..., Request]
    dtype: torch.dtype
    n_state: int
    names: Callable[[], list[str]]
    mass: np.ndarray | None = None
    exact: bool = False
    dense: Trajectory | None = None
    trajectory: Trajectory | None = None
    solved: Callable[..., Request] = _unsolved
    stats: Stats = field(default_factory=Stats)


def solve(call: Call, t0: Any, t1: Any, ts: torch.Tensor, leaves: Sequence[torch.Tensor]) -> torch.Tensor:
    """The (k, n) states at `ts`, differentiable in t0, ts and all leaves."""
    if functorch.transforming():
        (u,) = apply(_operation(call), *_inputs(call, t0, t1, ts, leaves))
        return u.to(call.dtype)
    return _Solve.apply(call, t0, ts, *leaves)


def solve_first(call: Call, t0: Any, leaves: Sequence[torch.Tensor]) -> Trajectory:
    """A solve that autograd does not see, to be interpolated as `Call.dense`."""
    state, parameters = leaves[: call.n_state], leaves[call.n_state :]
    request = call.request(u0=pack(state), p=pack(parameters), t0=float(t0), ts=np.zeros(0))
    request = request._replace(ts=np.array([request.t1]))
    _check_values(call, request, parameters)
    call.solved = request._replace
    return call.engine.solve(request)


def _operation(call: Call) -> States:
    def told(result: Trajectory | Pullback) -> None:
        if isinstance(result, Pullback):
            call.stats.backward = result.stats
        else:
            call.stats, call.trajectory = result.stats, result

    def request(**given: Any) -> Request:
        made = call.request(**given)
        _check_values(call, made, ())
        return made

    return States(call.engine, request, call.rhs, call.program, call.mass, told)


def _inputs(call: Call, t0: Any, t1: Any, ts: torch.Tensor, leaves: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The inputs of a `States`."""
    parts = leaves[: call.n_state], leaves[call.n_state :]
    flat = [torch.cat([x.reshape(-1).double() for x in part]) if part else ts.new_zeros(0) for part in parts]
    return [*(torch.as_tensor(t, dtype=torch.float64) for t in (t0, t1)), ts, *flat]


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call: Call, t0, ts: torch.Tensor, *leaves: torch.Tensor) -> torch.Tensor:
        state, parameters = leaves[: call.n_state], leaves[call.n_state :]
        if call.dense is None:
            values, n = pack(leaves), sum(map(torch.numel, state))
            request = call.request(u0=values[:n], p=values[n:], t0=float(t0), ts=to_numpy(ts).copy())
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
        if torch.is_grad_enabled():  # that is: create_graph
            return None, *_differentiably(ctx, grad)
        g = to_numpy(grad)
        _, needs_t0, needs_ts, *needs = ctx.needs_input_grad
        d_t0 = d_ts = None
        pieces: list[torch.Tensor | None] = [None] * len(needs)
        if needs_t0 or any(needs):
            pull = call.engine.vjp(request, trajectory, np.ascontiguousarray(g))
            call.stats.backward = pull.stats
            pieces = _split(pull.flat, ctx.like[2:], needs, call.exact)
            if needs_t0:
                slope = call.engine.derivative(request, np.array([request.t0]), request.u0[None])
                d_t0 = _like(torch.tensor(-(pull.u0 @ slope[0])).reshape(ctx.like[0].shape), ctx.like[0])
        if needs_ts:
            slopes = call.engine.derivative(request, request.ts, trajectory.u)
            d_ts = _like(torch.from_numpy((g * slopes).sum(axis=1)), ctx.like[1])
        return None, d_t0, d_ts, *pieces


def _differentiably(ctx: Any, grad: torch.Tensor) -> tuple:
    """The gradients in t0, ts and all leaves, which can be differentiated again."""
    call, request = ctx.call, ctx.request
    t0, ts, *leaves = ctx.like
    xs = _inputs(call, t0, request.t1, ts, leaves)
    now, then = (known(*map(np.asarray, values)) for values in (
        map(to_numpy, xs), (request.t0, request.t1, request.ts, request.u0, request.p)))  # fmt: skip
    if now != then:
        raise _changed(call, leaves)
    operation = _operation(call)
    operation.solved[then] = request, ctx.trajectory
    _, needs_t0, needs_ts, *_ = ctx.needs_input_grad
    d_t0, _, d_ts, *d_leaves = operation.pull(xs, (grad.double(),), (needs_t0, False, needs_ts, True, True))
    pieces = torch.cat([d for d in d_leaves if d is not None]).split([x.numel() for x in leaves])
    found = [d.reshape(x.shape).to(x) for d, x in zip(pieces, leaves, strict=True)]
    return None if d_t0 is None else d_t0.reshape(t0.shape).to(t0), d_ts, *found


def _changed(call: Call, leaves: Sequence[torch.Tensor]) -> InvalidInputError:
    return InvalidInputError(
        "a second derivative needs the values that were solved with, and a tensor has changed since.",
        got=f"another value among u0, times and {', '.join(call.names())}"[:200],
        fix="differentiate before the optimizer's step, or solve again",
    )  # fmt: skip


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
    if not parameters:
        raise InvalidInputError("the parameters must be finite.", got="NaN or infinity", fix="torch.isfinite(p)")
    bad = next(i for i, x in enumerate(parameters) if not torch.isfinite(x).all())
    name, x = call.names()[bad], parameters[bad]
    raise InvalidInputError(
        f"the parameter `{name}` must be finite.",
        got=f"{int((~torch.isfinite(x)).sum())} NaN or infinite of {x.numel()} values",
        fix="look at the step before: a learning rate too large, or a loss that was not finite",
    )


def _split(
    flat: np.ndarray, leaves: Sequence[torch.Tensor], needs: Sequence[bool], exact: bool = False
) -> list[torch.Tensor | None]:
    found, start = [], 0
    for leaf, needed in zip(leaves, needs, strict=True):
        size = leaf.numel()
        found.append(torch.from_numpy(flat[start : start + size].reshape(leaf.shape)) if needed else None)
        start += size
    if exact:
        return found
    return [None if x is None else _like(x, leaf) for x, leaf in zip(found, leaves, strict=True)]


def _like(values: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    return values if leaf.dtype is torch.float64 and leaf.is_cpu else values.to(leaf)
