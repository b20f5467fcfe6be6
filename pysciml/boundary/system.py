"""A boundary value problem as equations: parts of the span, each an initial value problem, that join; and conditions.

Reference: Ascher, Mattheij and Russell, "Numerical Solution of Boundary Value Problems for Ordinary Differential
Equations", SIAM (1995), chapter 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.boundary.conditions import Conditions
from pysciml.boundary.flow import Flow, unpacked
from pysciml.control import in_order
from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.rhs.captured import leaves_of

_NEAR = 1e-11  # of the span or of a part: a time this near to a node is the node's

_ROUNDING = 1e-9  # of the span: how far outside a time may be
_BESIDE = 1e-6  # of a part: how far a solve goes that is asked for its start alone


@dataclass(eq=False)
class System:
    """0 = R(s, x): s are the states at the nodes, one after another; x the parameters and the two ends of the span.

    Attributes:
        nodes: (k + 1,) places of the nodes in the span, from 0 to 1.
        like: the plain tensors that x stands for: leaves of p, what f captured, what bc captured.
    """

    flow: Flow
    conditions: Conditions
    nodes: np.ndarray

    @property
    def n(self) -> int:
        return self.flow.layout.size

    @property
    def like(self) -> list[torch.Tensor]:
        return [*self.flow.prob.inputs.p, *self.flow.captured, *self.conditions.captured]

    def residual(self, s: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor]:
        """How far the parts are from joining (k n,), and from the conditions (n,)."""
        with torch.enable_grad() if s.requires_grad or x.requires_grad else torch.no_grad():
            ends, conditions = self._parts(self._split(s), x)
            out = torch.cat([*(end - u for end, u in zip(ends, self._split(s)[1:], strict=True)), conditions])
        return (_of(out, s, x),)

    def jacobian(self, s: np.ndarray, x: np.ndarray) -> np.ndarray:
        """dR/ds: the rows of one state in all parts come of one backward pass."""
        n, count = self.n, self.nodes.size
        us = [u.clone().requires_grad_() for u in self._split(torch.from_numpy(s))]
        out = np.zeros((count, n, count, n))
        with torch.enable_grad():
            ends, conditions = self._parts(us, torch.from_numpy(x))
            sums = torch.stack(ends).sum(dim=0)
            for row in range(n):
                for k, g in enumerate(gradients(sums[row], us[:-1])):
                    out[k, row, k] = g.numpy()
                for k, g in enumerate(gradients(conditions[row], us)):
                    out[-1, row, k] = g.numpy()
        for k in range(count - 1):
            out[k, :, k + 1] -= np.eye(n)
        return out.reshape(count * n, count * n)

    def states(self, s: torch.Tensor, x: torch.Tensor, ts: torch.Tensor) -> tuple[torch.Tensor]:
        """The states (k, n) at times (k,), in any order."""
        parameters, t0, h = self._given(x)
        path = _Path(self, self._split(s), parameters, t0, h)
        return (_of(path.at(ts), s, x, ts),)

    def _split(self, s: torch.Tensor) -> list[torch.Tensor]:
        return list(s.reshape(self.nodes.size, self.n).unbind())

    def _given(self, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """The parameters, the start of the span and its length."""
        flat, t0, t1 = x[:-2], x[-2], x[-1]
        return unpacked(flat, self.like), t0, t1 - t0

    def _parts(self, us: list[torch.Tensor], x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Where each part ends, and the residuals of the conditions."""
        parameters, t0, h = self._given(x)
        path = _Path(self, us, parameters, t0, h)
        ends = [path.onwards(k, torch.ones(1, dtype=torch.float64))[0] for k in range(len(us) - 1)]
        own, held = self.flow.own(parameters[: len(self.flow.prob.inputs.p)]), len(self.conditions.captured)
        others = parameters[len(parameters) - held :]
        return ends, self.conditions(path, path.ends(), own, others)


class _Path:
    """The solution between nodes: `path(t)` is a state, in the user's structure."""

    def __init__(self, system: System, us: Sequence[torch.Tensor], parameters: Sequence[torch.Tensor],
                 t0: torch.Tensor, h: torch.Tensor):  # fmt: skip
        self.system, self.us, self.t0, self.h = system, us, t0, h
        held = len(system.conditions.captured)
        self.parameters = list(parameters[: len(parameters) - held])

    def onwards(self, k: int, places: torch.Tensor) -> torch.Tensor:
        """The states at places, from 0 to 1, of the part that node k begins."""
        a, b = self.system.nodes[k], self.system.nodes[k + 1]
        return self.system.flow(self.us[k], self.t0 + a * self.h, (b - a) * self.h, places, self.parameters)

    def at(self, ts: torch.Tensor) -> torch.Tensor:
        """The states (k, n) at times in any order."""
        nodes = self.system.nodes
        places = (ts - self.t0) / self.h
        which = np.clip(np.searchsorted(nodes + _NEAR, places.detach().numpy()) - 1, 0, nodes.size - 2)
        parts = np.unique(which)
        found = [in_order(self._inside(places[torch.from_numpy(which == k)], k), False, partial(self._rising, int(k)))
                 for k in parts]  # fmt: skip
        back = np.argsort(np.concatenate([np.flatnonzero(which == k) for k in parts]))
        return torch.cat(found)[torch.from_numpy(back)]

    def _inside(self, places: torch.Tensor, k: int) -> torch.Tensor:
        """Places of the span as those of a part; what rounding puts beside a node is moved, and keeps its gradient."""
        a, b = self.system.nodes[k], self.system.nodes[k + 1]
        inside = (places - a) / (b - a)
        moved = torch.where(inside <= _NEAR, 0.0, torch.where(inside >= 1 - _NEAR, 1.0, inside))
        return inside + (moved - inside).detach()

    def _rising(self, k: int, places: torch.Tensor) -> torch.Tensor:
        """The states (k, n) at rising places of a part. At a node it is the node's, whoever asks: or the derivatives
        of the equations in the states at nodes would be those of other equations than in the parameters.
        """
        first, last = places <= 0, places >= 1
        between = places[~(first | last)]
        rows = [self._node(k, k, place) for place in places[first]]
        rows += [self.onwards(k, between)] if between.numel() else []
        return torch.cat(rows + [self._node(k + 1, k, place - 1) for place in places[last]])

    def _node(self, node: int, part: int, beside: torch.Tensor) -> torch.Tensor:
        """The state (1, n) at a node. `beside` is zero, but its derivatives may not be."""
        if not beside.requires_grad:
            return self.us[node][None]
        nodes = self.system.nodes
        t, h = self.t0 + nodes[node] * self.h, (nodes[part + 1] - nodes[part]) * self.h
        return self.system.flow(self.us[node], t, h, beside[None], self.parameters, until=_BESIDE)

    def _check(self, t: torch.Tensor) -> None:
        t0, h = float(self.t0.detach()), float(self.h.detach())
        places = (t.detach().cpu() - t0) / h
        if not ((places >= -_ROUNDING) & (places <= 1 + _ROUNDING)).all():
            raise _outside(t, t0, t0 + h)

    def ends(self) -> tuple[Any, Any]:
        """The states at both ends."""
        both = self.system.flow.state(torch.stack([self.us[0], self.us[-1]]))
        return pytree.tree_map(lambda x: x[0], both), pytree.tree_map(lambda x: x[1], both)

    def __call__(self, t: Any) -> Any:
        t = torch.as_tensor(t, dtype=torch.float64)
        self._check(t)
        flat = self.at(t.reshape(-1).cpu())
        states = self.system.flow.state(flat)
        return pytree.tree_map(lambda x: x.reshape((*t.shape, *x.shape[1:])), states)


def _outside(t: torch.Tensor, t0: float, t1: float) -> InvalidInputError:
    return InvalidInputError("sol(t) in bc needs times inside the span.", got=f"t={t.tolist()!r:.80}",
                             expected=f"times from {t0:g} to {t1:g}", fix=f"sol({t1:g})")  # fmt: skip


def gradients(y: torch.Tensor, us: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """Those of a number, zero where it does not depend; under enable_grad, and may be taken again."""
    if not y.requires_grad:
        return [torch.zeros_like(u) for u in us]
    return torch.autograd.grad(y, us, retain_graph=True, materialize_grads=True)


def _of(out: torch.Tensor, *xs: torch.Tensor) -> torch.Tensor:
    """`out`, which must depend on nothing but xs: another gradient would be lost."""
    if any(all(y is not x for x in xs) for y in leaves_of(out, stop=xs)):
        raise _out_of_reach()
    return out


def _out_of_reach() -> UnsupportedError:
    return UnsupportedError(
        "a boundary value problem needs f and bc to take their parameters by torch functions alone.",
        got="a captured tensor that a custom autograd.Function, TorchScript or C++ reaches for", expected="p",
        fix="hand it over as p: pysciml.BVProblem(f, bc, u0, tspan, p), with f(t, u, p) and bc(sol, p)",
    )  # fmt: skip
