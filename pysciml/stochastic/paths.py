"""Where torch's autograd meets the paths of stochastic equations."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pysciml.autograd import _split
from pysciml.engines.stochastic import Paths, PathsRequest
from pysciml.first_order import first_order_only
from pysciml.rhs.parameters import pack, to_numpy


@functools.cache
def _julia() -> Any:
    """The julia engine, which is loaded only to solve."""
    from pysciml.engines.julia import stochastic

    return stochastic


@dataclass(eq=False)
class Call:
    """One solve on its way through autograd. `request` is made by the forward solve from `make`, and `paths` too.

    Attributes:
        ts: the times to give states at. differ: of how many leaves, the first ones, each path has its own.
    """

    make: Any
    ts: np.ndarray
    differ: int
    request: PathsRequest | None = None
    paths: Any = field(default=None)


class SolvePaths(torch.autograd.Function):
    """(N or 1, n) initial states, float64, and leaves of the parameters on the CPU, to the (N, k, n) saved states.

    With `call.paths` there already, those are taken, at the times `call.ts`.
    """

    @staticmethod
    def forward(ctx: Any, call: Call, u0: torch.Tensor, *leaves: torch.Tensor) -> torch.Tensor:
        if call.paths is None:
            call.request = call.make(u0=np.ascontiguousarray(to_numpy(u0)), p=_rows(leaves, call.differ))
            call.paths = _julia().solve_paths(call.request)
            u = call.paths.u
        else:
            u = _julia().at_times(call.paths, call.ts)
        ctx.call, ctx.like = call, (u0, *leaves)
        return torch.from_numpy(u)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple:
        call, request = ctx.call, ctx.call.request._replace(ts=ctx.call.ts)
        paths = Paths(np.empty((*grad.shape[:1], 0, grad.shape[2])), {}, call.paths.stats, call.paths.handle)
        du0, dp, stats = _julia().adjoint_paths(request, paths, to_numpy(grad))
        call.paths.stats.backward = stats
        u0, *leaves = ctx.like
        found = _pieces(dp, leaves, call.differ, ctx.needs_input_grad[2:])
        start = du0 if u0.shape[0] == du0.shape[0] else du0.sum(axis=0, keepdims=True)
        return None, *first_order_only("a stochastic equation", ctx.like, [torch.from_numpy(start), *found])


def _rows(leaves: Sequence[torch.Tensor], differ: int) -> np.ndarray:
    """(N, m) parameters; (1, m) where no path has its own."""
    if not differ:
        return pack(leaves)[None]
    count = leaves[0].shape[0]
    own = [to_numpy(x).reshape(count, -1) for x in leaves[:differ]]
    shared = pack(leaves[differ:])
    return np.concatenate([*own, np.broadcast_to(shared, (count, shared.size))], axis=1)


def _pieces(rows: np.ndarray, leaves: Sequence[torch.Tensor], differ: int, needs: Sequence[bool]) -> list:
    """The gradients of the leaves, from those (N, m) of the paths: in what all paths share it is the sum of theirs."""
    found: list[torch.Tensor | None] = []
    start = 0
    for leaf, needed in zip(leaves[:differ], needs[:differ], strict=True):
        stop = start + leaf.numel() // len(rows)
        found.append(torch.from_numpy(rows[:, start:stop].reshape(leaf.shape)).to(leaf.dtype) if needed else None)
        start = stop
    shared = rows[0, start:] if len(rows) == 1 else rows[:, start:].sum(axis=0)
    return found + _split(shared, leaves[differ:], needs[differ:])
