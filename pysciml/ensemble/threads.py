"""Trajectories on Julia's threads: one call into Julia for all, which calls nothing of Python's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pysciml.engines.base import Request
from pysciml.engines.julia.ensembles import Trajectories, adjoint_many, solve_many
from pysciml.first_order import first_order_only
from pysciml.rhs.parameters import to_numpy


@dataclass(eq=False)
class Call:
    """One solve of an ensemble on its way through autograd. `result` is set by the forward solve.

    Attributes:
        request: makes the Request of a member from u0, p, t0 and ts. keep: whether a gradient may be asked for.
    """

    request: Callable[..., Request]
    t0: float
    ts: np.ndarray
    keep: bool
    result: Trajectories = field(default=None)  # type: ignore[assignment]


class SolveMany(torch.autograd.Function):
    """(N or 1, n) initial states and (N or 1, m) parameters, float64, to the (N, k, n) saved states."""

    @staticmethod
    def forward(ctx: Any, call: Call, u0: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        states, parameters = np.ascontiguousarray(to_numpy(u0)), np.ascontiguousarray(to_numpy(p))
        request = call.request(u0=states[0].copy(), p=parameters[0].copy(), t0=call.t0, ts=call.ts)
        call.result = solve_many(request, states, parameters, call.keep)
        ctx.call, ctx.request, ctx.like = call, request, (u0, p)
        return torch.from_numpy(call.result.u)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple:
        du0, dp, stats = adjoint_many(ctx.request, ctx.call.result, np.ascontiguousarray(to_numpy(grad)))
        ctx.call.result.stats.backward = stats
        found = [_of_one(x, like) for x, like in zip((du0, dp), ctx.like, strict=True)]
        name = f"{ctx.request.alg.name} with {ctx.request.sensealg.name}"
        return None, *first_order_only(name, ctx.like, found)


def _of_one(rows: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """The gradient in what all members share is the sum of theirs."""
    return torch.from_numpy(rows if like.shape[0] == rows.shape[0] else rows.sum(axis=0, keepdims=True))
