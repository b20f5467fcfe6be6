"""The gradient in p of a wide network, by the vectors that it is made of.

The gradient of a weight matrix that meets one vector is an outer product: m n numbers made of m + n. A solve adds up
hundreds of them, and sum a_i b_iᵀ is one product of matrices. So an engine may keep the vectors, and make the numbers
once: what is bound by memory becomes bound by arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pysciml.rhs.graph import Builder, Graph, Node
from pysciml.rhs.julia_boxes import Run, runs

# From this many numbers on, an outer product is worth it to be kept as two vectors.
WIDE = 4096


@dataclass(frozen=True)
class Outer:
    """A block of the gradient, row by row from `place` on: the product of the vectors at `left` and `right`."""

    place: int
    rows: int
    columns: int
    left: int
    right: int


@dataclass(frozen=True)
class Copied:
    """`count` numbers of the gradient, from `place` on, that lie as they are from `start` on."""

    place: int
    start: int
    count: int


@dataclass(frozen=True, eq=False)
class Factored:
    """vᵀ df/du (n,) and what vᵀ df/dp (m,) is made of, as one output.

    Attributes:
        graph: the first n numbers are vᵀ df/du. copied, outer: where the others go; together they are all of the m.
    """

    graph: Graph
    copied: tuple[Copied, ...]
    outer: tuple[Outer, ...]


def factored(both: Graph, n: int) -> Factored | None:
    """The Graph of kind "both" of n states with large outer products taken apart; None where it has none."""
    output = both.output
    if output.op != "gather":
        return None
    apart, others = [], []
    for run in runs(output.data, [x.size for x in output.args]):
        pairs = _pairs(output.args[run.operand]) if run.whole and run.first >= n and run.count >= WIDE else None
        if pairs and sum(a.size + b.size for a, b in pairs) <= run.count / 4:
            apart.append((run, pairs))
        else:
            others.append(run)
    return _apart(both, n, apart, others) if apart else None


def _pairs(node: Node) -> list[tuple[Node, Node]] | None:
    """The pairs of vectors that a node is the sum of the outer products of; several where a weight is used again."""
    if node.op == "reshape":
        return _pairs(node.args[0])
    if node.op == "add":
        each = [_pairs(x) for x in node.args]
        return None if None in each else [pair for pairs in each for pair in pairs or ()]
    if node.op == "matmul" and node.shape[0] == 1:
        a, b = node.args
        return [(_row(a, np.s_[0, :, i]), _row(b, np.s_[0, i, :])) for i in range(a.shape[2])]
    return _of_expanded(node) if node.op == "mul" else None


def _of_expanded(node: Node) -> list[tuple[Node, Node]] | None:
    """A matrix that is a column, repeated, times a row, repeated."""
    shape = [size for size in node.shape if size > 1]
    if len(shape) != 2 or not all(x.op == "gather" and x.size == node.size for x in node.args):
        return None
    for a, b in (node.args, node.args[::-1]):
        down, along = a.data.reshape(shape), b.data.reshape(shape)
        if (down == down[:, :1]).all() and (along == along[:1]).all():
            return [(_row(a, np.s_[:: shape[1]]), _row(b, np.s_[: shape[1]]))]
    return None


def _row(x: Node, at: Any) -> Node:
    builder = Builder()
    return builder.view(x if isinstance(at, tuple) else builder.reshape(x, (x.size,)), lambda index: index[at])


def _apart(both: Graph, n: int, apart: Sequence[tuple[Run, Any]], others: Sequence[Run]) -> Factored:
    output = both.output
    left = np.concatenate([np.arange(run.first, run.first + run.count) for run in others])
    builder, copied, outer = Builder(), [], []
    parts, size, start = [builder.gather(output.args, output.data[left])], left.size, 0
    for run in others:
        inside = max(n - run.first, 0)
        if inside < run.count:
            copied.append(Copied(run.first + inside - n, start + inside, run.count - inside))
        start += run.count
    for run, pairs in apart:
        for a, b in pairs:
            outer.append(Outer(run.first - n, a.size, b.size, size, size + a.size))
            parts += [a, b]
            size += a.size + b.size
    return Factored(Graph(both.inputs, builder.gather(parts, np.arange(size))), tuple(copied), tuple(outer))
