"""A solve and its gradient as operations that torch's transforms meet, differentiable to any order.

`States` is the map (t0, t1, ts, u0, p) -> saved states, `Pulled` its vjp. With J the Jacobian of the first in (u0, p),
J w is the solution of the tangent problem (`rhs/tangent.py`), and since c (J w) = (c J) w, the gradient of the second
along w is the gradient of c (J w): again that of a solve. A saved state moves along du/dt, a later start is a shift of
u0 against it.

Reference: Ozyurt and Barton, "Cheap second order directional derivatives of stiff ODE embedded functionals", SIAM
J. Sci. Comput. 26 (2005).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from pysciml.engines.base import Engine, Pullback, Request, Trajectory
from pysciml.engines.pieces import InPieces
from pysciml.errors import UnsupportedError
from pysciml.rhs import functorch
from pysciml.rhs import tangent as tangents
from pysciml.rhs.base import CompiledRHS, RightHandSide
from pysciml.rhs.parameters import to_numpy
from pysciml.transforms import InTorch, Operation, Tensors, apply

Needs = Sequence[bool]


@dataclass(eq=False)
class States(Operation):
    """t0 (), t1 (), ts (k,), u0 (n,) and p (m,), all float64, to the states (k, n) at ts.

    Attributes:
        engine: who solves. request: makes the Request, given the values u0, p, t0, t1 and ts. rhs, program: what is
            solved. mass: (n,) the diagonal of the mass matrix, or None.
        told: hears of every solve and of every gradient.
        solved: the solves so far by their inputs, which gradients start from.
    """

    engine: Engine
    request: Callable[..., Request]
    rhs: RightHandSide
    program: Any
    mass: np.ndarray | None = None
    told: Callable[[Trajectory | Pullback], None] = lambda result: None
    solved: dict[tuple, tuple[Request, Trajectory]] = field(default_factory=dict)

    def solution(self, *xs: torch.Tensor) -> tuple[Request, Trajectory]:
        """The solve from these values, done once."""
        t0, t1, ts, u0, p = (to_numpy(x).copy() for x in xs)
        key = known(t0, t1, ts, u0, p)
        if key not in self.solved:
            request = self.request(u0=u0, p=p, t0=float(t0), t1=float(t1), ts=ts)
            self.solved[key] = request, self.engine.solve(request)
            self.told(self.solved[key][1])
        return self.solved[key]

    def run(self, *xs: torch.Tensor) -> Tensors:
        return (torch.from_numpy(self.solution(*xs)[1].u.copy()),)

    def pull(self, xs: Tensors, cotangents: Tensors, needs: Needs) -> Sequence[torch.Tensor | None]:
        t0, _, ts, u0, p = xs
        (c,) = cotangents
        du0, dp = apply(Pulled(self), c, *xs)
        t0, ts = self._beside_jumps(xs)
        dt0 = -(du0 * self.slope(t0, u0, p)).sum() if needs[0] else None
        dts = (c * self.slopes(ts, apply(self, *xs)[0], p)).sum(dim=1) if needs[2] else None
        return dt0, None, dts, du0, dp

    def push(self, xs: Tensors, tangents: Sequence[torch.Tensor | None]) -> Tensors:
        t0, _, ts, u0, p = xs
        along_t0, _, along_ts, v, w = tangents
        v, w = torch.zeros_like(u0) if v is None else v, torch.zeros_like(p) if w is None else w
        t0, ts = self._beside_jumps(xs)
        if along_t0 is not None:
            v = v - along_t0 * self.slope(t0, u0, p)
        size, both = _joined(xs, v, w)
        u, moved = apply(self.tangent, *both)[0].split(u0.numel(), dim=1)
        moved = size * moved
        if along_ts is not None:
            moved = moved + along_ts[:, None] * self.slopes(ts, u, p)
        return (moved,)

    def _beside_jumps(self, xs: Tensors) -> Tensors:
        """t0 and ts, moved beside where f jumps to the side on which the solution is meant."""
        t0, t1, ts, *_ = xs
        if not isinstance(self.engine, InPieces):
            return t0, ts
        return apply(InTorch(_Beside(self.engine, self)), t0, t1, ts)

    @cached_property
    def tangent(self) -> States:
        """The tangent problem's solve, of (u0, v) and (p, w)."""
        with functorch.outside():
            made = tangents.tangent(self.program, self.rhs)
        if made is None:
            raise _julia_source_only()
        program, rhs = made
        return States(self.engine, self._twice(program, rhs), rhs, program, _doubled(self.mass))

    def _twice(self, program: Any, rhs: Any) -> Callable[..., Request]:
        def request(u0: np.ndarray, p: np.ndarray, **times: Any) -> Request:
            base = self.request(u0=u0[: self.rhs.n], p=p[: self.rhs.m], **times)
            if base.parts or base.alg.problem != "ode":
                raise _of_the_whole_only(base.alg.name)
            return base._replace(u0=u0, p=p, rhs=rhs, program=program, mass=_doubled(base.mass),
                                 reltol=_doubled(base.reltol), abstol=_doubled(base.abstol))  # fmt: skip

        return request

    def slope(self, t: torch.Tensor, u: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """du/dt at one state on the solution."""
        f = self._field
        if f is None:
            return apply(_Slope(self), t, u, p)[0]
        if isinstance(self.rhs, CompiledRHS):
            return f(t, u, p)
        return apply(InTorch(lambda *xs: (f(*xs),)), t, u, p)[0]

    def slopes(self, ts: torch.Tensor, us: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        """(k, n) du/dt at states on the solution."""
        if self._field is not None and isinstance(self.rhs, CompiledRHS):
            return torch.func.vmap(self._field, (0, 0, None))(ts, us, p)
        return torch.stack([self.slope(t, u, p) for t, u in zip(ts.unbind(), us.unbind(), strict=True)])

    @cached_property
    def _field(self) -> tangents.Field | None:
        if self.mass is not None and not self.mass.all():
            return None
        with functorch.outside():
            f = tangents.field(self.program, self.rhs)
        if self.mass is None or f is None:
            return f
        mass, g = torch.from_numpy(self.mass), f
        return lambda t, u, p: g(t, u, p) / mass


class Pulled(Operation):
    """A cotangent c (k, n) and the inputs of a `States`, to the gradients of sum(c * u) in u0 (n,) and p (m,)."""

    def __init__(self, states: States):
        self.states = states

    def run(self, *xs: torch.Tensor) -> Tensors:
        c, *rest = xs
        request, trajectory = self.states.solution(*rest)
        found = self.states.engine.vjp(request, trajectory, np.ascontiguousarray(to_numpy(c)))
        self.states.told(found)
        return torch.from_numpy(found.u0.copy()), torch.from_numpy(found.p.copy())

    def pull(self, xs: Tensors, cotangents: Tensors, needs: Needs) -> Sequence[torch.Tensor | None]:
        c, *rest = xs
        size, both = _joined(rest, *cotangents)
        dt0, _, dts, du0, dp = self._of_tangent(c, size, both, needs[1:])
        along = size * apply(self.states.tangent, *both)[0][:, c.shape[1] :] if needs[0] else None
        return along, dt0, None, dts, du0, dp

    def push(self, xs: Tensors, tangents: Sequence[torch.Tensor | None]) -> Tensors:
        (c, *rest), (along_c, *along) = xs, tangents
        found = [torch.zeros_like(x) for x in rest[3:]] if along_c is None else apply(self, along_c, *rest)
        if all(w is None for w in along):
            return found
        if along[0] is None and along[2] is None:
            size, both = _joined(rest, *(_or_zero(w, x) for w, x in zip(along[3:], rest[3:], strict=True)))
            more = self._of_tangent(c, size, both, (False,) * 5)[3:]
        else:  # the state's movement along the times depends on the state in turn
            _, pull, *_ = torch.func.vjp(lambda *ups: self.states.push((*rest[:3], *ups), along)[0], *rest[3:])
            more = pull(c)
        return [x + y for x, y in zip(found, more, strict=True)]

    def _of_tangent(self, c: torch.Tensor, size: torch.Tensor, both: Tensors, needs: Needs) -> list[Any]:
        """The gradients of sum(c * J w) in t0, t1, ts, u0 and p, where `both` says what w is, up to its size."""
        seed = torch.cat([torch.zeros_like(c), c], dim=1)
        found = self.states.tangent.pull(both, (seed,), needs)
        halves = [None if x is None or x.dim() == 0 or i < 3 else x[: x.numel() // 2] for i, x in enumerate(found)]
        return [x if x is None else size * x for x in (*found[:3], *halves[3:])]


class _Slope(Operation):
    """du/dt where only the engine knows it: it has no derivatives."""

    def __init__(self, states: States):
        self.states = states

    def run(self, *xs: torch.Tensor) -> Tensors:
        t, u, p = (to_numpy(x).copy() for x in xs)
        base = self.states.request(u0=u, p=p, t0=float(t), t1=float(t) + 1.0, ts=t.reshape(1))
        return (torch.from_numpy(self.states.engine.derivative(base, t.reshape(1), u[None])[0]),)

    def pull(self, xs: Tensors, cotangents: Tensors, needs: Needs) -> Sequence[torch.Tensor | None]:
        raise _times_of_dae() if self.states.mass is not None else _julia_source_only()

    def push(self, xs: Tensors, tangents: Sequence[torch.Tensor | None]) -> Tensors:
        raise _times_of_dae() if self.states.mass is not None else _julia_source_only()


class _Beside:
    """t0, t1 and ts to t0 and ts beside the jumps."""

    def __init__(self, engine: InPieces, states: States):
        self.engine, self.states = engine, states

    def __call__(self, t0: torch.Tensor, t1: torch.Tensor, ts: torch.Tensor) -> Tensors:
        u0, p = np.zeros(self.states.rhs.n), np.zeros(self.states.rhs.m)
        moved = self.engine.beside_jumps(
            self.states.request(u0=u0, p=p, t0=float(t0.detach()), t1=float(t1.detach()), ts=to_numpy(ts).copy())
        )
        return [x + torch.as_tensor(y - to_numpy(x)) for x, y in zip((t0, ts), moved, strict=True)]


def known(*values: np.ndarray) -> tuple:
    """What a solve is looked up by."""
    return tuple(x.tobytes() for x in values)


def _joined(xs: Sequence[torch.Tensor], v: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, Tensors]:
    """The tangent problem's inputs for v and w of size 1, and their size: tolerances are made for such numbers."""
    t0, t1, ts, u0, p = xs
    size = torch.cat([v, w]).detach().abs().amax()
    size = torch.where(size > 0, size, torch.ones_like(size))
    return size, (t0, t1, ts, torch.cat([u0, v / size]), torch.cat([p, w / size]))


def _or_zero(x: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like) if x is None else x


def _doubled(x: Any) -> Any:
    """Per-state numbers for the state and its tangent; one number for all stays."""
    return np.concatenate([x, x]) if isinstance(x, np.ndarray) and x.ndim else x


def _julia_source_only() -> UnsupportedError:
    return UnsupportedError(
        "second derivatives and forward mode through a JuliaFunction are not available.",
        got="create_graph=True and a second backward(), or torch.func.jvp, jacfwd or hessian",
        expected="f in torch, on any route; or backward(), torch.func.grad, vjp, jacrev and vmap",
        fix="def f(t, u, p): ...  in torch operations, and pysciml.ODEProblem(f, u0, tspan, p)",
    )  # fmt: skip


def _of_the_whole_only(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"second derivatives and forward mode of a problem that `{name}` takes apart are not available.",
        got="create_graph=True and a second backward(), or torch.func.jvp, jacfwd or hessian",
        expected="a solver of the whole: Vern9, Rodas5P, CVODE_BDF; or backward(), torch.func.grad, vjp and vmap",
        fix="pysciml.solve(prob, pysciml.Rodas5P())",
    )  # fmt: skip


def _times_of_dae() -> UnsupportedError:
    return UnsupportedError(
        "second derivatives in times of a problem whose mass matrix has zeros are not available.",
        got="tspan or saveat that is differentiated twice", expected="second derivatives in u0 and parameters",
        fix="detach the times: saveat=ts.detach(), tspan=(0.0, 1.0)",
    )  # fmt: skip
