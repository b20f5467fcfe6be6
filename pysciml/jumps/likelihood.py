"""How likely a path is, as a function of what the rates depend on: what the derivatives of means are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.engines.jumps import Events
from pysciml.errors import UnsupportedError
from pysciml.first_order import refusing
from pysciml.problems import JumpProblem


@dataclass(eq=False)
class Stays:
    """All stays of N paths, one path after the other: between two events a path stays where it is.

    Attributes:
        path: (M,) whose each is. u: (M, n) where. dt: (M,) how long. left: (E,) which end in an event, in order.
        channel: (E,) that event's channel.
    """

    path: torch.Tensor
    u: torch.Tensor
    dt: torch.Tensor
    left: torch.Tensor
    channel: torch.Tensor

    @classmethod
    def of(cls, prob: JumpProblem, u0: torch.Tensor, events: Events) -> Stays:
        """Those of paths from u0 (N or 1, n), all from one end of the span to the other."""
        (t0, t1), counts = prob.span, events.counts
        path = np.repeat(np.arange(counts.size), counts + 1)
        first = np.concatenate([[0], np.cumsum(counts + 1)[:-1]])
        last = np.cumsum(counts + 1) - 1
        entered = np.ones(path.size, bool)
        entered[first] = False  # a stay that an event began
        left = np.ones(path.size, bool)
        left[last] = False
        begin, end = np.full(path.size, t0), np.full(path.size, t1)
        begin[entered], end[left] = events.t, events.t
        change = np.zeros((path.size, prob.changes.shape[1]))
        change[entered] = prob.changes.numpy()[events.channel]
        total = np.cumsum(change, axis=0)
        moved = total - total[first][path]  # since the path's own start, which has no change of its own
        start = u0.detach().double().cpu().expand(counts.size, -1)[torch.from_numpy(path)]
        return cls(torch.from_numpy(path), start + torch.from_numpy(moved), torch.from_numpy(end - begin),
                   torch.from_numpy(np.flatnonzero(left)), torch.from_numpy(events.channel))  # fmt: skip


def log_likelihood(prob: JumpProblem, u0: torch.Tensor, p: Any, p_differs: bool, events: Events) -> torch.Tensor:
    """(N,) sum of log rates[j] at the events less the integral of all rates, of paths from u0 (N or 1, n).

    Args:
        p: of the problem, or with a leading N where it differs among the paths.
    """
    stays = Stays.of(prob, u0, events)
    rates = _rates(prob, stays, p, p_differs)
    fired = torch.log(rates[stays.left, stays.channel])
    waited = -stays.dt * rates.sum(dim=1)
    count = events.counts.size
    found = waited.new_zeros(count).index_add(0, stays.path, waited)
    found = found.index_add(0, stays.path[stays.left], fired)
    return refusing(
        found, [u0], "the likelihood of a path says how its rates depend on p, but its states move with u0 too.",
        got="a u0 that requires grad", expected="gradients in p and in what the rates capture",
        fix="JumpProblem(rates, changes, u0.detach(), tspan, p)",
    )  # fmt: skip


def _rates(prob: JumpProblem, stays: Stays, p: Any, p_differs: bool) -> torch.Tensor:
    """(M, R) the rates at all stays: all at once where torch can, else one by one."""
    t, u = torch.tensor(prob.span[0], dtype=torch.float64, device=prob.u0.device), stays.u.to(prob.u0.device)
    p = pytree.tree_map(lambda x: x[stays.path.to(x.device)], p) if p_differs else p
    parameters, dims = ((), ()) if prob.p is None else ((p,), (0 if p_differs else None,))
    try:
        found = torch.func.vmap(prob.rates, in_dims=(None, 0, *dims))(t, u, *parameters)
    except RuntimeError:  # it branches on values
        pick = [pytree.tree_map(lambda x, i=i: x[i], p) if p_differs else p for i in range(len(u))]
        found = torch.stack([prob.rates(t, x, *(() if prob.p is None else (q,)))
                             for x, q in zip(u, pick, strict=True)])  # fmt: skip
    return found.double().cpu()


def no_events(why: str, fix: str) -> UnsupportedError:
    """The error where the events of a path are not known."""
    return UnsupportedError("the likelihood of a path needs all of its events.", got=why,
                            expected="paths by an exact algorithm: Direct, SortingDirect, NRM, RSSA, ...",
                            fix=fix)  # fmt: skip
