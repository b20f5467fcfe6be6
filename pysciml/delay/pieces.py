"""A right-hand side with delays as three functions of numbers alone, which are compiled as right-hand sides are.

f(t, u, h) asks h for states at times alpha_1, ..., alpha_k, which it computes from t, u and p. Run with an h that notes
what it is asked, f is the function (t, u, p) -> alpha; run with one that hands out given states v_1, ..., v_k, it is
g: (t, (u, v_1, ..., v_k), p) -> du/dt. What is known of the past is the third function, (t, p) -> u.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.problems import DDEProblem
from pysciml.rhs.padded import Padded
from pysciml.rhs.parameters import Layout
from pysciml.rhs.trace import _match


class OtherCallsError(Exception):
    """f has asked for another number of past states than before: its control flow depends on something outside."""


class _Asked:
    """What stands for h while f runs: notes the times, and hands out states in turn."""

    def __init__(self, states: Iterator[Any]):
        self.times: list[Any] = []
        self._states = states

    def __call__(self, time: Any) -> Any:
        self.times.append(time)
        try:
            return next(self._states)
        except StopIteration:
            raise OtherCallsError from None


class _Lent:
    """A function that is not kept alive by this, where that can be: what is remembered of it must not outlive it."""

    def __init__(self, f: Any):
        self._f = weakref.ref(f) if _can_be_lent(f) else (lambda: f)

    def __call__(self) -> Any:
        f = self._f()
        if f is None:
            raise RuntimeError("a function of this problem is gone")
        return f


def _can_be_lent(f: Any) -> bool:
    """Not a bound method, which lives for a moment, nor what cannot be referred to weakly."""
    try:
        return callable(f) and not hasattr(f, "__self__") and weakref.ref(f) is not None
    except TypeError:
        return False


class _OfF:
    """A function made of f, which asks h for so many states."""

    def __init__(self, f: Callable, layout: Layout, calls: int):
        self._lent, self.layout, self.calls = _Lent(f), layout, calls

    def run(self, t: torch.Tensor, u: Any, states: Iterator[Any], p: tuple) -> tuple[Any, list[Any]]:
        """What f returns, and the times it asked for."""
        asked = _Asked(states)
        out = self._lent()(t, u, asked, *p)
        if len(asked.times) != self.calls:
            raise OtherCallsError
        return out, asked.times


class Lags(_OfF):
    """(t, u, p) to the k times f asks for. Past states are stood for by u: the times depend on none."""

    def __call__(self, t: torch.Tensor, x: torch.Tensor, *p: Any) -> torch.Tensor:
        u = self.layout.unflatten(x)
        _, times = self.run(t, u, iter([u] * self.calls), p)
        return torch.stack([_scalar(s, t) for s in times])


class Slope(_OfF):
    """(t, (u, v_1, ..., v_k), p) to du/dt."""

    def __call__(self, t: torch.Tensor, z: torch.Tensor, *p: Any) -> torch.Tensor:
        u, *past = (self.layout.unflatten(x) for x in z.split(self.layout.size))
        out, _ = self.run(t, u, iter(past), p)
        return _flat(out, self.layout, "f")


class Past:
    """(t, p) to the state before t0; the state it is called with is not used."""

    def __init__(self, h: Any, layout: Layout):
        self._lent, self.layout = _Lent(h), layout

    def __call__(self, t: torch.Tensor, z: torch.Tensor, *p: Any) -> torch.Tensor:
        h = self._lent()
        return _flat(h(t, *p) if callable(h) else h, self.layout, "h")


class _Part(Padded):
    """`Padded`, which says what it is made of without keeping it alive."""

    def __init__(self, function: Callable, inputs: int, outputs: int, of: Any):
        super().__init__(function, inputs, outputs, (function,))
        self._of = _Lent(of)

    @property
    def inner_functions(self) -> tuple[Any, ...]:
        return (self._of(),)

    @inner_functions.setter
    def inner_functions(self, _: Any) -> None:
        """`Padded` would keep them."""


class Pieces(NamedTuple):
    """The three functions, each as a right-hand side, whose state and results are as many numbers: see above."""

    slope: _Part
    lags: _Part
    past: _Part


# Those made before, by f and by h, so that one look tells whether they still do what they did.
_of_f: weakref.WeakKeyDictionary[Any, tuple[tuple, _Part, _Part]] = weakref.WeakKeyDictionary()
_of_h: weakref.WeakKeyDictionary[Any, tuple[tuple, _Part]] = weakref.WeakKeyDictionary()


def pieces(prob: DDEProblem, anew: bool = False) -> Pieces:
    """The three functions of a problem.

    Args:
        anew: whether to make them anew, where f has asked for another number of states than it did.

    Raises:
        InvalidInputError: f never asks for the past, or for something that is no time.
        UnsupportedError: a time depends on another past state.
    """
    layout, facts, f, h = prob.inputs.u_layout, prob.inputs.facts, prob.f, prob.h
    n = layout.size

    def of_f() -> tuple[_Part, _Part]:
        calls = _count(prob)
        slope = _Part(Slope(f, layout, calls), n * (1 + calls), n, f)
        return slope, _Part(Lags(f, layout, calls), n, calls, f)

    def of_h() -> tuple[_Part]:
        return (_Part(Past(h, layout), n, n, h),)

    slope, lags = _remembered(_of_f, f, facts, of_f, anew)
    return Pieces(slope, lags, *_remembered(_of_h, h, facts, of_h))


def _remembered(known: Any, f: Any, facts: tuple, make: Callable[[], tuple], anew: bool = False) -> tuple:
    if not _can_be_lent(f):
        return make()
    found = known.get(f)
    if anew or found is None or found[0] != facts:
        known[f] = found = (facts, *make())
    return found[1:]


def _count(prob: DDEProblem) -> int:
    """How many past states f asks for, none of which is an error."""
    count = count_asked(prob)
    if not count:
        raise InvalidInputError(
            "f never asks for the past.", got="an f(t, u, h) that does not call h",
            expected="h(t - lag) in f; or, without delays, an ODEProblem", fix="pysciml.ODEProblem(f, u0, tspan, p)",
        )  # fmt: skip
    return count


def count_asked(prob: Any) -> int:
    """How many past states f asks for, by one run of it; looks at what the times depend on."""
    u, layout, p = prob.inputs.u, prob.inputs.u_layout, () if prob.p is None else (prob.p,)
    t = torch.as_tensor(prob.span[0], dtype=u[0].dtype, device=u[0].device)
    past: list[list[torch.Tensor]] = []

    def states() -> Iterator[Any]:
        while True:
            past.append([x.detach().clone().requires_grad_() for x in u])
            yield layout.build(past[-1])

    asked = _Asked(states())
    with torch.enable_grad():
        prob.f(t, layout.build([x.detach().clone() for x in u]), asked, *p)
        for time in asked.times:
            _check_time(time, [x for xs in past for x in xs])
    return len(asked.times)


def _check_time(time: Any, past: list[torch.Tensor]) -> None:
    if not isinstance(time, torch.Tensor):
        if not isinstance(time, (int, float)):
            raise _no_time(type(time).__name__)
        return
    if time.numel() != 1:
        raise _no_time(f"a tensor of shape {list(time.shape)}")
    if not time.requires_grad:
        return
    found = torch.autograd.grad(time.reshape(()), past, allow_unused=True, retain_graph=True)
    if any(x is not None for x in found):
        raise UnsupportedError(
            "a time that f asks h for depends on another past state.", got="h(h(...)), or a lag made of one",
            expected="times made of t, u and parameters",
            fix="make the past state a state of its own that follows it, or take the lag from u",
        )  # fmt: skip


def _no_time(got: str) -> InvalidInputError:
    return InvalidInputError("h(s) takes one time.", got=got, expected="a number or a tensor of one number",
                             fix="torch.stack([h(t - lag) for lag in lags.unbind()])")  # fmt: skip


def _scalar(time: Any, like: torch.Tensor) -> torch.Tensor:
    if isinstance(time, torch.Tensor):
        return time.reshape(()).to(like.dtype)
    return torch.as_tensor(time, dtype=like.dtype, device=like.device)


def _flat(out: Any, layout: Layout, name: str) -> torch.Tensor:
    """What f or h returned as one vector, leaves in the order of the state's; a dict may come in any order."""
    ordered: list[Any] = [None] * len(layout.shapes)
    fits = _match(pytree.tree_unflatten(list(range(len(ordered))), layout.spec), out, ordered)
    if not fits or any(tuple(x.shape) != shape for x, shape in zip(ordered, layout.shapes, strict=True)):
        raise InvalidInputError(
            f"{name} must return the structure and shapes of u0.", got=_sketch(out),
            expected=_sketch(layout.build([torch.empty(s, device="meta") for s in layout.shapes])),
            fix="torch.stack joins scalars into a vector" if name == "f" else "h=lambda s: u0",
        )  # fmt: skip
    return torch.cat([x.reshape(-1) for x in ordered]) if len(ordered) > 1 else ordered[0].reshape(-1)


def _sketch(tree: Any) -> str:
    shapes = [list(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__ for x in pytree.tree_leaves(tree)]
    return str(pytree.tree_unflatten(shapes, pytree.tree_structure(tree)))
