"""Reductions and products."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from pysciml.rhs.aten.common import RULES, axes_of, rule
from pysciml.rhs.aten.elementwise import add
from pysciml.rhs.aten.views import unsqueeze
from pysciml.rhs.graph import Builder, Node


def _reduction(op: str) -> Callable:
    def apply(b, x, dim=None, keepdim=False, dtype=None):
        return b.reduce(op, x, axes_of(x, dim), keepdim)

    return apply


for _op in ("sum", "amax", "amin", "prod"):
    RULES[_op] = _reduction(_op)


def _how_many(b: Builder, x: Node, dim, keepdim: bool, op: str) -> Node:
    return b.reduce("sum", b.binary(op, x, b.constant(0.0)), axes_of(x, dim), keepdim)


@rule("any")
def _any(b, x, dim=None, keepdim=False):
    return b.binary("gt", _how_many(b, x, dim, keepdim, "ne"), b.constant(0.0))


@rule("all")
def _all(b, x, dim=None, keepdim=False):
    return b.unary("not", _how_many(b, x, dim, keepdim, "eq"))


@rule("mean")
def _mean(b, x, dim=None, keepdim=False, dtype=None):
    axes = axes_of(x, dim)
    return b.binary("div", b.reduce("sum", x, axes, keepdim), b.constant(math.prod(x.shape[a] for a in axes)))


@rule("var")
def _var(b, x, dim=None, correction=1, keepdim=False):
    axes = axes_of(x, dim)
    centred = b.binary("sub", x, _mean(b, x, axes, keepdim=True))
    total = b.reduce("sum", b.binary("mul", centred, centred), axes, keepdim)
    count = math.prod(x.shape[a] for a in axes) - (1 if correction is None else correction)
    return b.binary("div", total, b.constant(max(count, 0)))


def _first_place(b: Builder, op: str, x: Node, dim, keepdim: bool) -> tuple[Node, Node]:
    """The extreme value along an axis and the first place it stands, as torch's max(dim) and min(dim) give them.

    The value is read at that place, so that its derivative belongs to one entry alone where several are equal.
    """
    axis = axes_of(x, dim)[0] if x.shape else 0
    best = b.reduce(op, x, (axis,), keepdim=True)
    n = x.shape[axis] if x.shape else 1
    places = b.constant(np.arange(n).reshape([-1 if a == axis else 1 for a in range(len(x.shape))]))
    first = b.reduce("amin", b.where(b.binary("eq", x, best), places, b.constant(n)), (axis,), keepdim=True)
    picked = b.where(b.binary("eq", places, first), x, b.constant(0.0))
    value = b.where(b.binary("eq", best, best), b.reduce("sum", picked, (axis,), keepdim=True), best)  # best may be NaN
    shape = first.shape if keepdim else first.shape[:axis] + first.shape[axis + 1 :]
    return b.reshape(value, shape), b.reshape(first, shape)


def _extreme(op: str) -> Callable:
    def apply(b, x, dim=None, keepdim=False):
        return b.reduce(op, x, axes_of(x, None), False) if dim is None else _first_place(b, op, x, dim, keepdim)

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
    return b.reshape(b.matmul(unsqueeze(b, x, 0), unsqueeze(b, y, 0)), (x.shape[0], y.shape[1]))


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
    return add(b, b.binary("mul", bias, b.constant(beta)), _mm(b, x, y), alpha)


@rule("baddbmm")
def _baddbmm(b, bias, x, y, beta=1, alpha=1):
    return add(b, b.binary("mul", bias, b.constant(beta)), b.matmul(x, y), alpha)


@rule("addmv")
def _addmv(b, bias, x, y, beta=1, alpha=1):
    return add(b, b.binary("mul", bias, b.constant(beta)), _mv(b, x, y), alpha)
