"""What happens in the middle of a solve: events that the solution meets, and times that are known beforehand.

Names are those of DifferentialEquations.jl. Here conditions and affects are torch functions of the time, the state and,
where the problem has them, the parameters: `condition(t, u)` or `condition(t, u, p)`, as f is. An affect returns the
state after the event, in the structure of `u0`; nothing is changed in place. Both may use modules and tensors that
require grad: gradients flow through states, parameters, jumps and the event times themselves.

Reference: Rackauckas and Nie, "DifferentialEquations.jl", J. Open Research Software 5 (2017); the derivative of an
event time is that of the implicit function theorem, as in Chen, Amos and Nickel, "Learning neural event functions for
ordinary differential equations", ICLR 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pysciml.errors import InvalidInputError

_HOW = {
    "condition": "condition=lambda t, u: u[0]",
    "affect": "affect=lambda t, u: torch.stack([u[0], -u[1]])",
}


@dataclass(frozen=True, eq=False)
class Callback:
    """Base of all callbacks."""

    def __post_init__(self):
        for name, line in _HOW.items():
            value = getattr(self, name, None)
            if value is not None and not callable(value):
                raise InvalidInputError(f"{name} must be callable.", got=f"{value!r:.60}", fix=line)
        if getattr(self, "condition", math) is None:
            raise InvalidInputError("a callback needs a condition.", got="None", fix=_HOW["condition"])


class Crossing(Callback):
    """Base of events where a condition crosses zero."""

    direction: int
    interp_points: int

    def __post_init__(self):
        super().__post_init__()
        _check_direction(self.direction)
        _check_count("interp_points", self.interp_points)


@dataclass(frozen=True, eq=False)
class ContinuousCallback(Crossing):
    """An event where `condition` crosses zero. Its time is found to rounding error, and is differentiable.

    Args:
        condition: `condition(t, u)` or `condition(t, u, p)`, a tensor of one value, continuous along the solution.
        affect: `affect(t, u)` or `affect(t, u, p)`, the state after the event. None leaves it as it is.
        affect_neg: another one for crossings from positive to negative; None takes `affect`.
        terminate: end the solve at the event, after its affect.
        direction: 0 for all crossings, 1 for those from negative to positive alone, -1 for the others.
        interp_points: how often a step is looked at between its ends: a condition that crosses zero twice between two
            looks goes unseen. In the embedded engine, which does not see the steps, 20 times as often between events.

    "From negative to positive" is meant along the solve, also where that goes backwards in time. In a DAE the algebraic
    variables are made to fit the others after the affect.

    Raises:
        InvalidInputError: something that cannot be called, no condition, another direction, `interp_points` below 1;
            from `solve`, a condition of several values, or an affect whose state is not as u0 is. SolveError: from
            `solve`, more than 10 000 events; from `backward()`, an event where the solution only touches zero, whose
            time has no derivative. UnsupportedError: from `solve`, what goes with no events: transforms of torch.func,
            complex numbers, problems in parts, `tstops`, `save_idxs`; and second derivatives through an event's time.

    Example:
        >>> import torch, pysciml as ps
        >>> fall = lambda t, u: torch.stack([u[1], -9.81 * torch.ones_like(u[1])])
        >>> bounce = ps.ContinuousCallback(lambda t, u: u[0], lambda t, u: torch.stack([u[0], -0.9 * u[1]]))
        >>> prob = ps.ODEProblem(fall, torch.tensor([2.0, 0.0], dtype=torch.float64), (0.0, 1.5))
        >>> sol = ps.solve(prob, callback=bounce, saveat=[1.0, 1.5])
        >>> round(sol.events[0].t.item(), 4), round(sol.u[-1, 0].item(), 4)
        (0.6386, 1.2167)
    """

    condition: Callable
    affect: Callable | None = None
    affect_neg: Callable | None = None
    terminate: bool = False
    direction: int = 0
    interp_points: int = 10


@dataclass(frozen=True, eq=False)
class VectorContinuousCallback(Crossing):
    """`ContinuousCallback` for many conditions that are computed together.

    Args:
        condition: as of `ContinuousCallback`, but a tensor of shape (length,).
        affect: `affect(t, u, index)` or `affect(t, u, p, index)`; `index`, an int, says which condition crossed zero.
        length: how many conditions there are. The rest as of `ContinuousCallback`.

    Raises:
        InvalidInputError: a length below 1; from `solve`, a condition of another length. The rest as there.

    Example:
        >>> import torch, pysciml as ps
        >>> walls = ps.VectorContinuousCallback(
        ...     lambda t, u: torch.stack([u[0], 1.0 - u[0]]), lambda t, u, index: torch.stack([u[0], -u[1]]), 2
        ... )
        >>> glide = lambda t, u: torch.stack([u[1], torch.zeros_like(u[1])])
        >>> prob = ps.ODEProblem(glide, torch.tensor([0.5, 1.0], dtype=torch.float64), (0.0, 3.0))
        >>> [event.index for event in ps.solve(prob, callback=walls).events]
        [1, 0, 1]
    """

    condition: Callable
    affect: Callable | None
    length: int
    affect_neg: Callable | None = None
    terminate: bool = False
    direction: int = 0
    interp_points: int = 10

    def __post_init__(self):
        super().__post_init__()
        _check_count("length", self.length)


@dataclass(frozen=True, eq=False)
class DiscreteCallback(Callback):
    """An event at the end of a solver's step after which `condition` is true. In the julia engine.

    Its time is that of a step and no function of the state, so it has no derivative; `ContinuousCallback` has one.

    Args:
        condition: `condition(t, u)` or `condition(t, u, p)`, a boolean tensor of one value.
        affect, terminate: as of `ContinuousCallback`.

    Raises:
        UnsupportedError: from `solve`, in the embedded engine, which does not see the steps. The rest as of
            `ContinuousCallback`.

    Example:
        >>> import torch, pysciml as ps
        >>> low = ps.DiscreteCallback(lambda t, u: u[0] < 0.5, terminate=True)
        >>> prob = ps.ODEProblem(lambda t, u: -u, torch.ones(1, dtype=torch.float64), (0.0, 3.0))
        >>> try:
        ...     ps.solve(prob, ps.CVODE_BDF(), engine="embedded", callback=low)
        ... except ps.UnsupportedError as error:
        ...     print(error.what)
        a DiscreteCallback looks at the solver's steps, which this solver does not show.

    With Julia there, `ps.solve(prob, ps.Tsit5(), engine="julia", callback=low)` ends at the first step below 0.5.
    """

    condition: Callable
    affect: Callable | None = None
    terminate: bool = False


@dataclass(frozen=True, eq=False)
class PresetTimeCallback(Callback):
    """An event at times that are known beforehand, such as doses; the solver steps on them.

    Args:
        times: a number, a list, or a (k,) tensor, which may require grad: the gradient says when a dose is best given.
            Times outside the span never come. At t0 the state is saved before the affect.
        affect, terminate: as of `ContinuousCallback`.

    Raises:
        InvalidInputError: times that are no finite numbers, or in two dimensions. The rest as of `ContinuousCallback`.

    Example:
        >>> import torch, pysciml as ps
        >>> dose = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        >>> given = ps.PresetTimeCallback([1.0, 2.0], lambda t, u: u + dose)
        >>> prob = ps.ODEProblem(lambda t, u: -u, torch.zeros(1, dtype=torch.float64), (0.0, 3.0))
        >>> ps.solve(prob, callback=given, saveat=[3.0]).u.sum().backward()
        >>> round(dose.grad.item(), 4)
        0.5032
    """

    times: Any
    affect: Callable | None = None
    terminate: bool = False

    def __post_init__(self):
        super().__post_init__()
        times = self.times if isinstance(self.times, torch.Tensor) else torch.as_tensor(self.times, dtype=torch.float64)
        if not times.is_floating_point() or times.dim() > 1 or not torch.isfinite(times.detach()).all():
            raise InvalidInputError("times must be finite numbers in one dimension.", got=f"{self.times!r:.60}",
                                    fix="PresetTimeCallback([1.0, 2.0], affect)")  # fmt: skip
        object.__setattr__(self, "times", times.reshape(-1))


@dataclass(frozen=True, eq=False, init=False)
class CallbackSet:
    """Several callbacks in one solve. Of those that come at one time the first given acts first.

    Args:
        callbacks: callbacks, sets, or lists of them.

    Raises:
        InvalidInputError: something else among them.

    Example:
        >>> import torch, pysciml as ps
        >>> floor = ps.ContinuousCallback(lambda t, u: u[0], terminate=True)
        >>> push = ps.PresetTimeCallback([0.5], lambda t, u: u + 1.0)
        >>> ps.CallbackSet(push, floor)
        CallbackSet(PresetTimeCallback, ContinuousCallback)
    """

    callbacks: tuple[Callback, ...]

    def __init__(self, *callbacks: Callback | CallbackSet | Sequence[Callback]):
        object.__setattr__(self, "callbacks", tuple(_flat(callbacks)))

    def __repr__(self) -> str:
        return f"CallbackSet({', '.join(type(c).__name__ for c in self.callbacks)})"


def as_set(callback: Any) -> CallbackSet:
    """A callback, several in a list, or a set of them, as a set."""
    return callback if isinstance(callback, CallbackSet) else CallbackSet(callback)


def _flat(callbacks: Any) -> list[Callback]:
    found = []
    for c in callbacks:
        if isinstance(c, Callback):
            found.append(c)
        elif isinstance(c, CallbackSet):
            found += c.callbacks
        elif isinstance(c, (list, tuple)):
            found += _flat(c)
        else:
            raise InvalidInputError("callback must be a callback or a set of them.", got=f"{c!r:.60}",
                                    expected="ContinuousCallback, DiscreteCallback, PresetTimeCallback, CallbackSet",
                                    fix="callback=pysciml.ContinuousCallback(condition, affect)")  # fmt: skip
    return found


def _check_direction(direction: Any) -> None:
    if direction not in (-1, 0, 1):
        raise InvalidInputError("direction must be -1, 0 or 1.", got=f"direction={direction!r}",
                                fix="direction=-1 for crossings from positive to negative")  # fmt: skip


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInputError(f"{name} must be a whole number from 1 on.", got=f"{name}={value!r}", fix=f"{name}=10")
