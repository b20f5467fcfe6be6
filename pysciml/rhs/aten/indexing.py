"""Indexing, and writing into part of a tensor: a gather from the old and the new."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pysciml.errors import TraceError
from pysciml.rhs.aten.common import Mask, as_node, known, rule
from pysciml.rhs.aten.views import slicer, unsqueeze
from pysciml.rhs.graph import Builder, Node


def overwrite(b: Builder, x: Node, source: Node, pick: Callable[[np.ndarray], np.ndarray]) -> Node:
    index = np.arange(x.size).reshape(x.shape)
    target = pick(index)
    source = b.expand(as_node(b, source), target.shape)
    index.ravel()[target.ravel()] = x.size + np.arange(target.size)
    return b.gather((x, source), index)


@rule("select_scatter")
def _select_scatter(b, x, source, dim, index):
    return overwrite(b, x, source, lambda i: i.take(index, axis=dim))


@rule("slice_scatter")
def _slice_scatter(b, x, source, dim=0, start=None, end=None, step=1):
    return overwrite(b, x, source, lambda i: i[slicer(x, dim, start, end, step)])


@rule("diagonal_scatter")
def _diagonal_scatter(b, x, source, offset=0, dim1=0, dim2=1):
    return overwrite(b, x, source, lambda i: np.diagonal(i, offset, dim1, dim2))


@rule("as_strided_scatter")
def _as_strided_scatter(b, x, source, places):
    return overwrite(b, x, source, lambda i: i.ravel()[places])


def _as_index(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int64)


def _picker(indices) -> tuple:
    picker: list = []
    for k in indices:
        if isinstance(k, Mask):
            picker.extend(np.nonzero(known(k.node)))
        else:
            picker.append(slice(None) if k is None else _as_index(known(k)))
    return tuple(picker)


@rule("index", "_unsafe_index")
def _index(b, x, indices):
    if _computed_mask(indices):
        raise TraceError(
            "how many values a boolean index picks depends on the state.", op="index",
            fix="keep all of them, with torch.where(mask, x, 0)",
        )  # fmt: skip
    return b.view(x, lambda i: i[_picker(indices)])


def _computed_mask(indices) -> Mask | None:
    return next((k for k in indices if isinstance(k, Mask) and k.node.op != "constant"), None)


@rule("nonzero")
def _nonzero(b, x):
    return b.constant(np.argwhere(known(x)))


@rule("index_select")
def _index_select(b, x, dim, index):
    return b.view(x, lambda i: np.atleast_1d(i).take(_as_index(known(index)), axis=dim).reshape(_picked(x, dim, index)))


def _picked(x: Node, dim: int, index: Node) -> tuple[int, ...]:
    return tuple(index.size if a == dim % len(x.shape) else n for a, n in enumerate(x.shape))


@rule("embedding")
def _embedding(b, weight, index, padding_idx=-1, scale_grad_by_freq=False, sparse=False):
    return b.view(weight, lambda i: i[_as_index(known(index))])


@rule("take")
def _take(b, x, index):
    return b.view(x, lambda i: i.ravel()[_as_index(known(index))])


@rule("put")
def _put(b, x, index, source, accumulate=False):
    flat = b.reshape(x, (x.size,))
    return b.reshape(
        _index_put(b, flat, [b.reshape(index, (index.size,))], b.reshape(source, (source.size,)), accumulate), x.shape
    )


@rule("index_put", "_unsafe_index_put")
def _index_put(b, x, indices, source, accumulate=False):
    mask = _computed_mask(indices)
    if mask is not None:
        return _masked_put(b, x, indices, mask.node, as_node(b, source), accumulate)
    if not accumulate:
        return overwrite(b, x, source, lambda i: i[_picker(indices)])
    target = np.arange(x.size).reshape(x.shape)[_picker(indices)]
    added = b.scatter_add(b.expand(as_node(b, source), target.shape), target, x.shape)
    return b.binary("add", x, added)


def _masked_put(b, x, indices, mask, source, accumulate):
    rest = x.shape[len(mask.shape) :]
    if len(indices) != 1 or len(source.shape) > len(rest):
        raise TraceError(
            "where the values of a boolean assignment go depends on the state.", op="index_put",
            fix="x = torch.where(mask, value, x)",
        )  # fmt: skip
    value = b.binary("add", x, source) if accumulate else source
    return b.where(b.reshape(mask, mask.shape + (1,) * len(rest)), value, x)


def _rows(x: Node, dim: int, index: Node) -> Callable[[np.ndarray], np.ndarray]:
    where = (slice(None),) * (dim % len(x.shape)) + (_as_index(known(index)).ravel(),)
    return lambda i: i[where]


@rule("index_copy")
def _index_copy(b, x, dim, index, source):
    return overwrite(b, x, source, _rows(x, dim, index))


@rule("index_fill")
def _index_fill(b, x, dim, index, value):
    return overwrite(b, x, as_node(b, value), _rows(x, dim, index))


@rule("index_add")
def _index_add(b, x, dim, index, source, alpha=1):
    target = _rows(x, dim, index)(np.arange(x.size).reshape(x.shape))
    added = b.scatter_add(b.expand(source, target.shape), target, x.shape)
    return b.binary("add", x, b.binary("mul", added, b.constant(alpha)))


def _along(x: Node, dim: int, index: np.ndarray) -> np.ndarray:
    flat = np.arange(x.size).reshape(x.shape)
    region = flat[tuple(slice(None) if a == dim % len(x.shape) else slice(n) for a, n in enumerate(index.shape))]
    return np.take_along_axis(region, index, dim)


@rule("gather")
def _gather(b, x, dim, index, sparse_grad=False):
    if index.op == "constant":
        return b.view(x, lambda i: _along(x, dim, _as_index(index.data)))
    return _chosen(b, b.view(x, lambda i: _against(i, dim)), _one_hot(b, index, x.shape[dim]))


# An index computed while solving (of max, argmax, ...) becomes a table: one row per index, one column per place.


def _one_hot(b: Builder, index: Node, n: int) -> Node:
    return b.binary("eq", unsqueeze(b, index, -1), b.constant(np.arange(n)))


def _against(i: np.ndarray, dim: int) -> np.ndarray:
    return np.expand_dims(np.moveaxis(i, dim, -1), dim)


def _chosen(b: Builder, values: Node, table: Node) -> Node:
    return b.reduce("sum", b.where(table, values, b.constant(0.0)), (-1,), keepdim=False)


@rule("scatter")
def _scatter(b, x, dim, index, source):
    source = b.expand(as_node(b, source), index.shape) if not isinstance(source, Node) or not source.shape else source
    if index.op == "constant":
        source = _upto(b, source, index)
        return overwrite(b, x, source, lambda i: _along(x, dim, _as_index(index.data)))
    if index.shape[dim] != 1:
        raise TraceError("values are scattered to places computed from the state.", op="scatter",
                         fix="use a constant index, or `torch.where`")  # fmt: skip
    place = np.arange(x.shape[dim]).reshape([-1 if a == dim % len(x.shape) else 1 for a in range(len(x.shape))])
    return b.where(b.binary("eq", index, b.constant(place)), source, x)


@rule("scatter_add")
def _scatter_add(b, x, dim, index, source):
    if index.op == "constant":
        return b.binary(
            "add", x, b.scatter_add(_upto(b, source, index), _along(x, dim, _as_index(index.data)), x.shape)
        )
    if any(k != n for a, (k, n) in enumerate(zip(index.shape, x.shape, strict=True)) if a != dim % len(x.shape)):
        raise TraceError("values are added to places computed from the state.", op="scatter_add",
                         fix="use a constant index, or `torch.where`")  # fmt: skip
    table = _one_hot(b, index, x.shape[dim])
    placed = b.where(table, unsqueeze(b, _upto(b, source, index), -1), b.constant(0.0))
    added = b.reduce("sum", placed, (dim % len(x.shape),), keepdim=False)
    return b.binary("add", x, b.view(added, lambda i: np.moveaxis(i, -1, dim)))


def _upto(b: Builder, source: Node, index: Node) -> Node:
    """The part of the source that the index speaks of."""
    return b.view(source, lambda i: i[tuple(slice(n) for n in index.shape)])


@rule("scatter_reduce")
def _scatter_reduce(b, x, dim, index, source, reduce, include_self=True):
    if reduce != "sum" or not include_self:
        raise TraceError(f"scatter_reduce with {reduce!r} has no compiled form.", op="scatter_reduce",
                         fix='use "sum" with include_self=True, which has')  # fmt: skip
    return _scatter_add(b, x, dim, index, source)
