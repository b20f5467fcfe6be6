"""Where torch's autograd meets the paths of stochastic equations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pysciml.engines.stochastic import Paths, PathsRequest
from pysciml.first_order import first_order_only
from pysciml.rhs.parameters import to_numpy


@dataclass(eq=False)
class Call:
    """One solve on its way through autograd. `request` is made by the forward solve from `make`, and `paths` too."""

    make: Any
    ts: np.ndarray
    request: PathsRequest | None = None
    paths: Any = field(default=None)


class SolvePaths(torch.autograd.Function):
    """(N or 1, n) initial states and (N or 1, m) parameters, float64, to the (N, k, n) saved states.

    With `call.paths` there already, those are taken, at the times `call.ts`.
    """

    @staticmethod
    def forward(ctx: Any, call: Call, u0: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        from pysciml.engines.julia.stochastic import at_times, solve_paths  # loads the julia engine: only to solve

        if call.paths is None:
            call.request = call.make(u0=np.ascontiguousarray(to_numpy(u0)), p=np.ascontiguousarray(to_numpy(p)))
            call.paths = solve_paths(call.request)
            u = call.paths.u
        else:
            u = at_times(call.paths, call.ts)
        ctx.call, ctx.like = call, (u0, p)
        return torch.from_numpy(u)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple:
        from pysciml.engines.julia.stochastic import adjoint_paths

        call, request = ctx.call, ctx.call.request._replace(ts=ctx.call.ts)
        paths = Paths(np.empty((*grad.shape[:1], 0, grad.shape[2])), {}, call.paths.stats, call.paths.handle)
        du0, dp, stats = adjoint_paths(request, paths, to_numpy(grad))
        call.paths.stats.backward = stats
        found = [_of_one(x, like) for x, like in zip((du0, dp), ctx.like, strict=True)]
        return None, *first_order_only("a stochastic equation", ctx.like, found)


def _of_one(rows: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """The gradient in what all paths share is the sum of theirs."""
    return torch.from_numpy(rows if like.shape[0] == rows.shape[0] else rows.sum(axis=0, keepdims=True))
