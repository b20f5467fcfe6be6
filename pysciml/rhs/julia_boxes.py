"""How index arrays walk through memory: strides, and a domain cut into boxes in which every walk is regular.

A loop over a domain reads each of its operands at some array of flat indices, one for each point of the domain. Where
these are affine in the loop variables the generated code needs strides only; a roll, a pad or a concatenation is affine
in a few boxes of the domain. Everything here is numpy on index arrays; `lower_julia` turns it into text.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Box = tuple[slice, ...]
# More boxes than this make longer code than a table of indices is worth.
MOST_BOXES = 16


@dataclass(frozen=True)
class Strides:
    """A flat 0-based index: `start` plus, for each axis of the loops, its stride times the position on that axis."""

    start: int
    steps: tuple[int, ...] = ()


def contiguous(shape: Sequence[int]) -> Strides:
    """The strides of a row-major array; an axis of one element has none.

    >>> contiguous((1, 2, 3))
    Strides(start=0, steps=(0, 3, 1))
    """
    return Strides(0, tuple(math.prod(shape[axis + 1 :]) if n > 1 else 0 for axis, n in enumerate(shape)))


class Which(np.ndarray):
    """A walk that says which operand is read. It is straight only where that is one and the same.

    >>> strides_of(np.arange(3)), strides_of(np.arange(3).view(Which)), strides_of(np.zeros(3, int).view(Which))
    (Strides(start=0, steps=(1,)), None, Strides(start=0, steps=(0,)))
    """


def strides_of(index: np.ndarray) -> Strides | None:
    """The strides by which an array of indices walks through memory, or None if it does not walk straight.

    >>> strides_of(np.array([[5, 3], [6, 4]]))
    Strides(start=5, steps=(1, -2))
    """
    if index.size == 0 or index.min() < 0:
        return None
    if isinstance(index, Which) and index.max() > index.min():
        return None
    start = int(index.flat[0])
    steps = tuple(int(np.take(index, 1, axis).flat[0]) - start if n > 1 else 0 for axis, n in enumerate(index.shape))
    expected = np.asarray(start)
    for step, count in zip(steps, index.shape, strict=True):
        expected = expected[..., None] + step * np.arange(count)
    return Strides(start, steps) if np.array_equal(expected, index) else None


def cut(shape: tuple[int, ...], walks: Sequence[np.ndarray]) -> list[Box] | None:
    """Few boxes that make up a domain, with every walk straight in each of them; None if there are no few.

    Args:
        walks: integer arrays of the domain's shape.
    """
    ends = []
    for axis, size in enumerate(shape):
        stops = {size}.union(*(_stops(walk, axis) for walk in walks))
        if len(stops) > MOST_BOXES:
            return None
        ends.append([slice(a, b) for a, b in itertools.pairwise([0, *sorted(stops)])])
    if math.prod(map(len, ends)) > MOST_BOXES:
        return None
    boxes = list(itertools.product(*ends))
    straight = all(strides_of(walk[box] - walk[box].min()) is not None for walk in walks for box in boxes)
    return boxes if straight else None


def _stops(walk: np.ndarray, axis: int) -> set[int]:
    """Where straight pieces end along one axis. A jump lies between pieces: of 9 0 1 2 the first is 9 alone."""
    size = walk.shape[axis]
    steps = np.diff(np.moveaxis(np.asarray(walk), axis, 0).reshape(size, -1), axis=0)
    if isinstance(walk, Which):
        return set((np.flatnonzero(steps.any(1)) + 1).tolist())
    bends = np.flatnonzero((steps[1:] != steps[:-1]).any(1)) + 1  # the step after point `bend` is another one
    stops: set[int] = set()
    start = 0
    for bend in map(int, bends):
        if bend < start or len(stops) > MOST_BOXES:
            continue
        stop = bend if bend - start == 1 else bend + 1
        stops.add(stop)
        start = stop
    return stops


def merge(index: np.ndarray, walks: Sequence[np.ndarray]) -> tuple[int, ...]:
    """The shape of fewest axes, of a box of this shape, under which every walk is still straight."""
    shape = [n for n in index.shape if n > 1] or [1]
    axis = 0
    while axis + 1 < len(shape):
        fewer = [*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]]
        if all(strides_of(walk.reshape(fewer)) is not None for walk in walks):
            shape = fewer
        else:
            axis += 1
    return tuple(shape)


@dataclass(frozen=True)
class Run:
    """A straight piece of a gather: `count` numbers from `first` on, of one operand (-1: zeros).

    Attributes:
        whole: whether the piece is all of the operand, in order.
    """

    first: int
    count: int
    operand: int
    whole: bool


def owners(index: np.ndarray, sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """For each index of a gather the operand (-1 for none) and the element of it."""
    ends = np.cumsum(sizes)
    owner = np.where(index < 0, -1, np.searchsorted(ends, index, side="right"))
    return owner, np.where(index < 0, 0, index - (ends - sizes)[owner])


def runs(index: np.ndarray, sizes: Sequence[int]) -> list[Run]:
    """A gather's flat index cut where its operand changes, where an operand begins, and where it ends."""
    owner, local = owners(index, sizes)
    starts = (owner[1:] != owner[:-1]) | (local[1:] == 0)
    stops = [*(np.flatnonzero(starts) + 1).tolist(), index.size]
    found = []
    for first, stop in itertools.pairwise([0, *stops]):
        operand, count = int(owner[first]), stop - first
        whole = operand >= 0 and count == sizes[operand] and np.array_equal(local[first:stop], np.arange(count))
        found.append(Run(first, count, operand, bool(whole)))
    return found
