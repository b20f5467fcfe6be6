"""torch's core ATen operations, one small rule each, as Graph operations.

Rules are looked up by the operation's name without its overload (`aten.add.Tensor` and `aten.add.Scalar` are both
`add`), because the arguments tell the overloads apart. A rule gets the builder and torch's own arguments, with a Node
in place of every tensor, and returns a Node or a list of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from pysciml.errors import TraceError
from pysciml.rhs.graph import Builder, Node

RULES: dict[str, Callable] = {}


def rule(*names: str) -> Callable[[Callable], Callable]:
    def register(function: Callable) -> Callable:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def _node(b: Builder, x) -> Node:
    return x if isinstance(x, Node) else b.constant(x)


def _known(x) -> np.ndarray:
    """The values of something that must be known while tracing, such as an index."""
    if isinstance(x, Node):
        if x.op != "constant":
            raise TraceError(
                "an index is computed from the state, the time or the parameters.", op="index",
                fix="use a constant index, or `torch.where` to choose between values",
            )  # fmt: skip
        return x.data
    return np.asarray(x)


def _axes(x: Node, dim) -> tuple[int, ...]:
    rank = len(x.shape)
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return tuple(range(rank))
    return tuple(d % max(rank, 1) for d in (dim if isinstance(dim, (list, tuple)) else (dim,)))


# Elementwise ---------------------------------------------------------------------------------------------------------

for _op in ("neg abs sign exp expm1 log log1p sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf "
            "sigmoid floor ceil").split():  # fmt: skip
    RULES[_op] = lambda b, x, _op=_op: b.unary(_op, x)
for _op in "mul pow atan2 maximum minimum eq ne lt le gt ge".split():
    RULES[_op] = lambda b, x, y, _op=_op: b.binary(_op, _node(b, x), _node(b, y))
RULES["logical_not"] = RULES["bitwise_not"] = lambda b, x: b.unary("not", x)
RULES["logical_and"] = RULES["bitwise_and"] = lambda b, x, y: b.binary("and", _node(b, x), _node(b, y))
RULES["logical_or"] = RULES["bitwise_or"] = lambda b, x, y: b.binary("or", _node(b, x), _node(b, y))
RULES["logical_xor"] = RULES["bitwise_xor"] = lambda b, x, y: b.binary(
    "ne", b.unary("not", _node(b, x)), b.unary("not", _node(b, y))
)
RULES["arctan2"] = RULES["atan2"]
RULES["fmax"] = RULES["maximum"]
RULES["fmin"] = RULES["minimum"]


@rule("add")
def _add(b, x, y, alpha=1):
    return b.binary("add", _node(b, x), b.binary("mul", _node(b, y), b.constant(alpha)))


RULES["sub"] = lambda b, x, y, alpha=1: b.binary("sub", _node(b, x), b.binary("mul", _node(b, y), b.constant(alpha)))
RULES["rsub"] = lambda b, x, y, alpha=1: RULES["sub"](b, y, x, alpha)


@rule("div")
def _div(b, x, y, rounding_mode=None):
    quotient = b.binary("div", _node(b, x), _node(b, y))
    if rounding_mode == "floor":
        return b.unary("floor", quotient)
    return _trunc(b, quotient) if rounding_mode == "trunc" else quotient


@rule("trunc")
def _trunc(b, x):
    return b.binary("mul", b.unary("sign", x), b.unary("floor", b.unary("abs", x)))


@rule("floor_divide")
def _floor_divide(b, x, y):
    return _div(b, x, y, rounding_mode="floor")


@rule("remainder")
def _remainder(b, x, y):
    return b.binary("sub", _node(b, x), b.binary("mul", _node(b, y), _floor_divide(b, x, y)))


@rule("fmod")
def _fmod(b, x, y):
    return b.binary("sub", _node(b, x), b.binary("mul", _node(b, y), _div(b, x, y, "trunc")))


@rule("round")
def _round(b, x, decimals=0):
    scale = b.constant(10.0**decimals)
    x = b.binary("mul", x, scale)
    down = b.unary("floor", x)
    rest = b.binary("sub", x, down)
    half = b.constant(0.5)
    odd = b.binary("ne", _remainder(b, down, 2.0), b.constant(0.0))
    up = b.where(b.binary("eq", rest, half), odd, b.binary("gt", rest, half))
    return b.binary("div", b.binary("add", down, up), scale)


@rule("reciprocal")
def _reciprocal(b, x):
    return b.binary("div", b.constant(1.0), x)


@rule("rsqrt")
def _rsqrt(b, x):
    return _reciprocal(b, b.unary("sqrt", x))


@rule("log2")
def _log2(b, x):
    return b.binary("div", b.unary("log", x), b.constant(math.log(2.0)))


@rule("log10")
def _log10(b, x):
    return b.binary("div", b.unary("log", x), b.constant(math.log(10.0)))


@rule("exp2")
def _exp2(b, x):
    return b.unary("exp", b.binary("mul", x, b.constant(math.log(2.0))))


@rule("erfc")
def _erfc(b, x):
    return b.binary("sub", b.constant(1.0), b.unary("erf", x))


@rule("relu")
def _relu(b, x):
    # A choice and not a maximum: the derivative at 0 is then 0, as torch has it, in every lowering.
    zero = b.constant(0.0)
    return b.where(b.binary("gt", x, zero), x, zero)


@rule("clamp", "clamp_min", "clamp_max")
def _clamp(b, x, min=None, max=None):
    if min is not None:
        low = _node(b, min)
        x = b.where(b.binary("ge", x, low), x, low)
    if max is not None:
        high = _node(b, max)
        x = b.where(b.binary("le", x, high), x, high)
    return x


RULES["clamp_max"] = lambda b, x, max: _clamp(b, x, None, max)


@rule("where")
def _where(b, cond, x, y):
    return b.where(cond, _node(b, x), _node(b, y))


@rule("isnan")
def _isnan(b, x):
    return b.binary("ne", x, x)


@rule("isinf")
def _isinf(b, x):
    return b.binary("eq", b.unary("abs", x), b.constant(math.inf))


@rule("masked_fill")
def _masked_fill(b, x, mask, value):
    return b.where(mask, _node(b, value), x)


# Making, casting, aliasing --------------------------------------------------------------------------------------------


def _fill(b: Builder, shape, value) -> Node:
    return b.expand(b.constant(value) if not isinstance(value, Node) else value, tuple(shape))


RULES["full"] = lambda b, shape, value, **kw: _fill(b, shape, value)
RULES["scalar_tensor"] = lambda b, value, **kw: _node(b, value)
RULES["full_like"] = lambda b, x, value, **kw: _fill(b, x.shape, value)
RULES["new_full"] = lambda b, x, shape, value, **kw: _fill(b, shape, value)
for _op, _value in (("zeros", 0.0), ("ones", 1.0), ("empty", 0.0)):
    RULES[_op] = lambda b, shape, _value=_value, **kw: _fill(b, shape, _value)
    RULES[f"{_op}_like"] = lambda b, x, _value=_value, **kw: _fill(b, x.shape, _value)
    RULES[f"new_{_op}"] = lambda b, x, shape, _value=_value, **kw: _fill(b, shape, _value)
RULES["empty_strided"] = RULES["empty_permuted"] = lambda b, shape, *a, **kw: _fill(b, shape, 0.0)
RULES["new_empty_strided"] = lambda b, x, shape, *a, **kw: _fill(b, shape, 0.0)


@rule("fill")
def _fill_tensor(b, x, value):
    return _fill(b, x.shape, value)


@rule("copy")
def _copy(b, x, source, non_blocking=False):
    return b.expand(_node(b, source), x.shape)


@rule("arange")
def _arange(b, *args, **kwargs):
    return b.constant(np.arange(*args))


@rule("eye")
def _eye(b, n, m=None, **kwargs):
    return b.constant(np.eye(n, m))


@rule("lift_fresh_copy", "lift_fresh", "clone", "alias", "detach", "contiguous", "_to_copy", "to",
      "convert_element_type", "device_put", "view_of", "_conj", "resolve_conj", "resolve_neg")  # fmt: skip
def _same(b, x, *args, dtype=None, **kwargs):
    target = next((a for a in args if isinstance(a, torch.dtype)), dtype)
    if target is torch.bool:
        return b.binary("ne", x, b.constant(0.0))
    if target is not None and not target.is_floating_point:
        return _trunc(b, x) if not target.is_complex else _no_complex(target)
    return x


def _no_complex(dtype):
    raise TraceError(f"complex numbers have no compiled form (a tensor is cast to {dtype}).", op="to",
                     fix="keep real and imaginary parts as two real tensors")  # fmt: skip


# Views: one gather each ------------------------------------------------------------------------------------------------


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
def _transpose(b, x, dim0, dim1):
    return b.view(x, lambda i: i.swapaxes(dim0, dim1)) if x.shape else x


@rule("squeeze")
def _squeeze(b, x, dim=None):
    axes = _axes(x, dim)
    return b.reshape(x, tuple(s for a, s in enumerate(x.shape) if a not in axes or s != 1))


@rule("unsqueeze")
def _unsqueeze(b, x, dim):
    return b.view(x, lambda i: np.expand_dims(i, dim))


@rule("expand")
def _expand(b, x, shape, implicit=False):
    lead = len(shape) - len(x.shape)
    return b.expand(x, tuple(x.shape[i - lead] if s == -1 else s for i, s in enumerate(shape)))


@rule("select")
def _select(b, x, dim, index):
    return b.view(x, lambda i: i.take(index, axis=dim))


def _slicer(x: Node, dim, start, end, step) -> tuple[slice, ...]:
    cut = slice(start, None if end is None or end >= x.shape[dim] else end, step)
    return (slice(None),) * (dim % len(x.shape)) + (cut,)


@rule("slice")
def _slice(b, x, dim=0, start=None, end=None, step=1):
    return b.view(x, lambda i: i[_slicer(x, dim, start, end, step)])


@rule("narrow")
def _narrow(b, x, dim, start, length):
    return _slice(b, x, dim, start, start + length)


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
    return b.view(x, lambda i: np.lib.stride_tricks.sliding_window_view(i, size, dim)[_slicer(x, dim, 0, None, step)])


@rule("as_strided")
def _as_strided(b, x, size, stride, offset=None):
    where = np.full(tuple(size), offset or 0)
    for axis, (n, s) in enumerate(zip(size, stride, strict=True)):
        where = where + (np.arange(n) * s).reshape([-1 if a == axis else 1 for a in range(len(size))])
    return b.view(x, lambda i: i.ravel()[where])


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
def _cat(b, xs, dim=0):
    xs = [x for x in xs if x.shape != (0,)] or xs[:1]
    starts = np.cumsum([0, *[x.size for x in xs]])
    blocks = [np.arange(x.size).reshape(x.shape) + s for x, s in zip(xs, starts, strict=False)]
    return b.gather(xs, np.concatenate(blocks, axis=dim))


@rule("stack")
def _stack(b, xs, dim=0):
    return _cat(b, [_unsqueeze(b, x, dim) for x in xs], dim)


@rule("split_with_sizes")
def _split_with_sizes(b, x, sizes, dim=0):
    ends = np.cumsum(sizes)
    return [_slice(b, x, dim, int(e - s), int(e)) for s, e in zip(sizes, ends, strict=True)]


@rule("split")
def _split(b, x, size, dim=0):
    if isinstance(size, (list, tuple)):
        return _split_with_sizes(b, x, size, dim)
    return [_slice(b, x, dim, s, s + size) for s in range(0, x.shape[dim], size)]


@rule("unbind")
def _unbind(b, x, dim=0):
    return [_select(b, x, dim, k) for k in range(x.shape[dim])]


@rule("meshgrid")
def _meshgrid(b, xs, indexing="ij"):
    shape = tuple(x.size for x in xs)
    return [b.expand(b.reshape(x, tuple(n if a == k else 1 for a, n in enumerate(shape))), shape)
            for k, x in enumerate(xs)]  # fmt: skip


# Writing into part of a tensor: a gather from the old and the new ---------------------------------------------------------


def _overwrite(b: Builder, x: Node, source: Node, pick: Callable[[np.ndarray], np.ndarray]) -> Node:
    index = np.arange(x.size).reshape(x.shape)
    target = pick(index)
    source = b.expand(_node(b, source), target.shape)
    index.ravel()[target.ravel()] = x.size + np.arange(target.size)
    return b.gather((x, source), index)


@rule("select_scatter")
def _select_scatter(b, x, source, dim, index):
    return _overwrite(b, x, source, lambda i: i.take(index, axis=dim))


@rule("slice_scatter")
def _slice_scatter(b, x, source, dim=0, start=None, end=None, step=1):
    return _overwrite(b, x, source, lambda i: i[_slicer(x, dim, start, end, step)])


@rule("diagonal_scatter")
def _diagonal_scatter(b, x, source, offset=0, dim1=0, dim2=1):
    return _overwrite(b, x, source, lambda i: np.diagonal(i, offset, dim1, dim2))


def _picker(indices) -> tuple:
    return tuple(slice(None) if k is None else _as_index(_known(k)) for k in indices)


def _as_index(values: np.ndarray) -> np.ndarray:
    return values.astype(np.int64)


@rule("index")
def _index(b, x, indices):
    return b.view(x, lambda i: i[_picker(indices)])


@rule("index_select")
def _index_select(b, x, dim, index):
    return b.view(x, lambda i: i.take(_as_index(_known(index)), axis=dim))


@rule("index_put", "_unsafe_index_put")
def _index_put(b, x, indices, source, accumulate=False):
    if not accumulate:
        return _overwrite(b, x, source, lambda i: i[_picker(indices)])
    target = np.arange(x.size).reshape(x.shape)[_picker(indices)]
    added = b.scatter_add(b.expand(_node(b, source), target.shape), target, x.shape)
    return b.binary("add", x, added)


def _along(x: Node, dim: int, index: np.ndarray) -> np.ndarray:
    flat = np.arange(x.size).reshape(x.shape)
    region = flat[tuple(slice(None) if a == dim % len(x.shape) else slice(n) for a, n in enumerate(index.shape))]
    return np.take_along_axis(region, index, dim)


@rule("gather")
def _gather(b, x, dim, index, sparse_grad=False):
    if index.op == "constant":
        return b.view(x, lambda i: _along(x, dim, _as_index(index.data)))
    # An index computed while solving (of max, sort, ...): a sum over the axis with all but the chosen entry zero.
    axis, n = dim % len(x.shape), x.shape[dim]
    spread = b.view(x, lambda i: np.expand_dims(np.moveaxis(i, axis, -1), axis))
    chosen = b.binary("eq", _unsqueeze(b, index, -1), b.constant(np.arange(n)))
    return b.reduce("sum", b.where(chosen, spread, b.constant(0.0)), (-1,), keepdim=False)


@rule("scatter")
def _scatter(b, x, dim, index, source):
    source = b.expand(_node(b, source), index.shape) if not isinstance(source, Node) or not source.shape else source
    if index.op == "constant":
        return _overwrite(b, x, source, lambda i: _along(x, dim, _as_index(index.data)))
    if index.shape[dim] != 1:
        raise TraceError("values are scattered to places computed from the state.", op="scatter",
                         fix="use a constant index, or `torch.where`")  # fmt: skip
    place = np.arange(x.shape[dim]).reshape([-1 if a == dim % len(x.shape) else 1 for a in range(len(x.shape))])
    return b.where(b.binary("eq", index, b.constant(place)), source, x)


@rule("scatter_add")
def _scatter_add(b, x, dim, index, source):
    return b.binary("add", x, b.scatter_add(source, _along(x, dim, _as_index(_known(index))), x.shape))


# Reductions and products ---------------------------------------------------------------------------------------------------


def _reduction(op: str) -> Callable:
    def apply(b, x, dim=None, keepdim=False, dtype=None):
        return b.reduce(op, x, _axes(x, dim), keepdim)

    return apply


for _op in ("sum", "amax", "amin", "prod"):
    RULES[_op] = _reduction(_op)
RULES["any"] = lambda b, x, dim=None, keepdim=False: b.reduce(
    "amax", b.binary("ne", x, b.constant(0.0)), _axes(x, dim), keepdim
)
RULES["all"] = lambda b, x, dim=None, keepdim=False: b.reduce(
    "amin", b.binary("ne", x, b.constant(0.0)), _axes(x, dim), keepdim
)


@rule("mean")
def _mean(b, x, dim=None, keepdim=False, dtype=None):
    axes = _axes(x, dim)
    return b.binary("div", b.reduce("sum", x, axes, keepdim), b.constant(math.prod(x.shape[a] for a in axes)))


@rule("var")
def _var(b, x, dim=None, correction=1, keepdim=False):
    axes = _axes(x, dim)
    centred = b.binary("sub", x, _mean(b, x, axes, keepdim=True))
    total = b.reduce("sum", b.binary("mul", centred, centred), axes, keepdim)
    count = math.prod(x.shape[a] for a in axes) - (1 if correction is None else correction)
    return b.binary("div", total, b.constant(max(count, 0)))


def _first_place(b: Builder, op: str, x: Node, dim, keepdim: bool) -> tuple[Node, Node]:
    """The extreme value along an axis and the first place it stands, as torch's max(dim) and min(dim) give them."""
    axis = _axes(x, dim)[0] if x.shape else 0
    best = b.reduce(op, x, (axis,), keepdim=True)
    n = x.shape[axis] if x.shape else 1
    place = b.constant(np.arange(n).reshape([-1 if a == axis else 1 for a in range(len(x.shape))]))
    where = b.reduce("amin", b.where(b.binary("eq", x, best), place, b.constant(n)), (axis,), keepdim)
    return (best if keepdim else b.reduce(op, x, (axis,), False)), where


def _extreme(op: str) -> Callable:
    def apply(b, x, dim=None, keepdim=False):
        return b.reduce(op, x, _axes(x, None), False) if dim is None else _first_place(b, op, x, dim, keepdim)

    return apply


RULES["max"], RULES["min"] = _extreme("amax"), _extreme("amin")
RULES["argmax"] = lambda b, x, dim=None, keepdim=False: _argument(b, "amax", x, dim, keepdim)
RULES["argmin"] = lambda b, x, dim=None, keepdim=False: _argument(b, "amin", x, dim, keepdim)


def _argument(b, op, x, dim, keepdim):
    flat = b.reshape(x, (x.size,)) if dim is None else x
    return _first_place(b, op, flat, 0 if dim is None else dim, keepdim)[1]


@rule("cumsum")
def _cumsum(b, x, dim, dtype=None):
    return b.cumsum(x, dim)


@rule("mm")
def _mm(b, x, y):
    return b.reshape(b.matmul(_unsqueeze(b, x, 0), _unsqueeze(b, y, 0)), (x.shape[0], y.shape[1]))


@rule("bmm")
def _bmm(b, x, y):
    return b.matmul(x, y)


@rule("mv")
def _mv(b, x, y):
    return b.reshape(_mm(b, x, b.reshape(y, (y.size, 1))), (x.shape[0],))


@rule("dot", "vdot")
def _dot(b, x, y):
    return b.reduce("sum", b.binary("mul", x, y), (0,), keepdim=False)


@rule("addmm")
def _addmm(b, bias, x, y, beta=1, alpha=1):
    return _add(b, b.binary("mul", bias, b.constant(beta)), _mm(b, x, y), alpha)


@rule("baddbmm")
def _baddbmm(b, bias, x, y, beta=1, alpha=1):
    return _add(b, b.binary("mul", bias, b.constant(beta)), b.matmul(x, y), alpha)


@rule("addmv")
def _addmv(b, bias, x, y, beta=1, alpha=1):
    return _add(b, b.binary("mul", bias, b.constant(beta)), _mv(b, x, y), alpha)


def join(b: Builder, xs: list[Node]) -> Node:
    """All of `xs`, flattened, one after the other."""
    return _cat(b, [b.reshape(x, (x.size,)) for x in xs])
