"""Rearrangements, each one gather with a constant index."""

from __future__ import annotations

import math

import numpy as np

from pysciml.rhs.aten.common import axes_of, rule
from pysciml.rhs.graph import Node


@rule("view", "reshape", "_unsafe_view", "_reshape_alias", "view_copy")
def _view(b, x, shape, *_):
    known = math.prod(s for s in shape if s != -1)
    return b.reshape(x, tuple(x.size // max(known, 1) if s == -1 else s for s in shape))


@rule("permute")
def _permute(b, x, dims):
    return b.view(x, lambda i: i.transpose(dims))


@rule("t", "numpy_T")
def _t(b, x):
    return b.view(x, np.transpose)


@rule("transpose")
def transpose(b, x, dim0, dim1):
    return b.view(x, lambda i: i.swapaxes(dim0, dim1)) if x.shape else x


@rule("squeeze")
def _squeeze(b, x, dim=None):
    axes = axes_of(x, dim)
    return b.reshape(x, tuple(s for a, s in enumerate(x.shape) if a not in axes or s != 1))


@rule("unsqueeze")
def unsqueeze(b, x, dim):
    return b.view(x, lambda i: np.expand_dims(i, dim))


@rule("expand")
def _expand(b, x, shape, implicit=False):
    lead = len(shape) - len(x.shape)
    return b.expand(x, tuple(x.shape[i - lead] if s == -1 else s for i, s in enumerate(shape)))


@rule("broadcast_in_dim")
def _broadcast_in_dim(b, x, shape, dims):
    spread = [1] * len(shape)
    for n, dim in zip(x.shape, dims, strict=True):
        spread[dim] = n
    return b.expand(b.reshape(x, tuple(spread)), tuple(shape))


@rule("select")
def select(b, x, dim, index):
    return b.view(x, lambda i: i.take(index, axis=dim))


def slicer(x: Node, dim, start, end, step) -> tuple[slice, ...]:
    cut = slice(start, None if end is None or end >= x.shape[dim] else end, step)
    return (slice(None),) * (dim % len(x.shape)) + (cut,)


@rule("slice")
def slice_of(b, x, dim=0, start=None, end=None, step=1):
    return b.view(x, lambda i: i[slicer(x, dim, start, end, step)])


@rule("narrow")
def _narrow(b, x, dim, start, length):
    return slice_of(b, x, dim, start, start + length)


@rule("flip")
def _flip(b, x, dims):
    return b.view(x, lambda i: np.flip(i, dims)) if x.shape else x


@rule("roll")
def _roll(b, x, shifts, dims=()):
    return b.view(x, lambda i: np.roll(i, shifts, tuple(dims) or None))


@rule("repeat")
def _repeat(b, x, repeats):
    return b.view(x, lambda i: np.tile(i, repeats))


@rule("diagonal")
def _diagonal(b, x, offset=0, dim1=0, dim2=1):
    return b.view(x, lambda i: np.diagonal(i, offset, dim1, dim2))


@rule("unfold")
def _unfold(b, x, dim, size, step):
    return b.view(x, lambda i: np.lib.stride_tricks.sliding_window_view(i, size, dim)[slicer(x, dim, 0, None, step)])


@rule("as_strided")
def _as_strided(b, x, places):
    """`places`: for each element, the flat place in x it is read from (the tracer knows x's memory layout)."""
    return b.view(x, lambda i: i.ravel()[places])


@rule("constant_pad_nd")
def _pad(b, x, pad, value=0.0):
    widths = [(0, 0)] * len(x.shape)
    for k in range(len(pad) // 2):
        widths[-1 - k] = (pad[2 * k], pad[2 * k + 1])
    grow = [(max(lo, 0), max(hi, 0)) for lo, hi in widths]
    cut = tuple(slice(max(-lo, 0), None if hi >= 0 else hi) for lo, hi in widths)
    padded = b.view(x, lambda i: np.pad(i[cut], grow, constant_values=-1))
    if value == 0:
        return padded
    inside = np.pad(np.ones(x.shape)[cut], grow)
    return b.where(b.constant(inside), padded, b.constant(value))


@rule("cat", "concatenate")
def cat(b, xs, dim=0):
    xs = [x for x in xs if x.shape != (0,)] or xs[:1]
    starts = np.cumsum([0, *[x.size for x in xs]])
    blocks = [np.arange(x.size).reshape(x.shape) + s for x, s in zip(xs, starts, strict=False)]
    return b.gather(xs, np.concatenate(blocks, axis=dim))


@rule("stack")
def _stack(b, xs, dim=0):
    return cat(b, [unsqueeze(b, x, dim) for x in xs], dim)


@rule("split_with_sizes")
def _split_with_sizes(b, x, sizes, dim=0):
    ends = np.cumsum(sizes)
    return [slice_of(b, x, dim, int(e - s), int(e)) for s, e in zip(sizes, ends, strict=True)]


@rule("split")
def _split(b, x, size, dim=0):
    if isinstance(size, (list, tuple)):
        return _split_with_sizes(b, x, size, dim)
    return [slice_of(b, x, dim, s, s + size) for s in range(0, x.shape[dim], size)]


@rule("unbind")
def _unbind(b, x, dim=0):
    return [select(b, x, dim, k) for k in range(x.shape[dim])]


@rule("meshgrid")
def _meshgrid(b, xs, indexing="ij"):
    shape = tuple(x.size for x in xs)
    return [b.expand(b.reshape(x, tuple(n if a == k else 1 for a, n in enumerate(shape))), shape)
            for k, x in enumerate(xs)]  # fmt: skip
