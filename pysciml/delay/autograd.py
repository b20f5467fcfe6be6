"""Where torch's autograd meets a solve with delays: (t0, saveat, state leaves, parameter leaves) -> saved states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pysciml.autograd import _check_values, _like, _split
from pysciml.engines.base import Request, Trajectory
from pysciml.errors import UnsupportedError
from pysciml.rhs.parameters import pack, to_numpy
from pysciml.solution import Stats


@dataclass(frozen=True)
class Sizes:
    """How many states and parameters a problem has as a whole."""

    n: int
    m: int


@dataclass(eq=False)
class Call:
    """One solve on its way through autograd.

    Attributes:
        engine: who solves: what has `solve`, `vjp`, `interpolate` and `slopes`, as `engines/julia/delay.py`.
        rhs: the sizes of the whole. request: makes the Request, given the values u0, p, t0 and ts.
        dtype: of the user's state. n_state: how many of the leaves are the state. names: what parameters are called.
        dense: the solve to interpolate instead of solving, with its request, or None.
        solved, stats: set by the forward solve; `stats.backward` by the backward one.
    """

    engine: Any
    rhs: Sizes
    request: Callable[..., Request]
    dtype: torch.dtype
    n_state: int
    names: Callable[[], list[str]]
    dense: tuple[Request, Trajectory] | None = None
    solved: tuple[Request, Trajectory] | None = None
    stats: Stats = field(default_factory=Stats)


def solve(call: Call, t0: Any, ts: torch.Tensor, leaves: Sequence[torch.Tensor]) -> torch.Tensor:
    """The (k, n) states at `ts`, differentiable once in t0, ts and all leaves."""
    return _Solve.apply(call, t0, ts, *leaves)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, call: Call, t0, ts: torch.Tensor, *leaves: torch.Tensor) -> torch.Tensor:
        state, parameters = leaves[: call.n_state], leaves[call.n_state :]
        times = to_numpy(ts).copy()
        if call.dense is None:
            request = call.request(u0=pack(state), p=pack(parameters), t0=float(t0), ts=times)
            _check_values(call, request, parameters)  # type: ignore[arg-type] # what it asks of a Call is here
            trajectory = call.engine.solve(request)
        else:
            request = call.dense[0]._replace(ts=times)
            trajectory = call.engine.interpolate(request, call.dense[1])
        call.solved, call.stats = (request, trajectory), trajectory.stats
        ctx.call, ctx.solved, ctx.like = call, call.solved, (t0, ts, *leaves)
        u = torch.from_numpy(trajectory.u)
        return u if call.dtype is torch.float64 else u.to(call.dtype)

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        if torch.is_grad_enabled():  # that is: create_graph
            raise UnsupportedError(
                "second derivatives of a problem with delays are not available.",
                got="create_graph=True, or torch.func.hessian", expected="first derivatives: backward()",
                fix="loss.backward()  # without create_graph",
            )  # fmt: skip
        call, (request, trajectory) = ctx.call, ctx.solved
        g = np.ascontiguousarray(to_numpy(grad))
        _, needs_t0, needs_ts, *needs = ctx.needs_input_grad
        d_t0 = d_ts = None
        pieces: list[torch.Tensor | None] = [None] * len(needs)
        if needs_t0 or any(needs):
            pull, start = call.engine.vjp(request, trajectory, g)
            call.stats.backward = pull.stats
            pieces = _split(pull.flat, ctx.like[2:], needs)
            d_t0 = _like(torch.tensor(start).reshape(ctx.like[0].shape), ctx.like[0]) if needs_t0 else None
        if needs_ts:
            slopes = call.engine.slopes(request, trajectory)
            d_ts = _like(torch.from_numpy((g * slopes).sum(axis=1)), ctx.like[1])
        return None, d_t0, d_ts, *pieces
