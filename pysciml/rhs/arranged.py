"""Products of matrices in the form that loops run best, before they are lowered to Julia.

- One with a short sum, of a layer of two inputs for instance, is written out where it is read: as a step of its own it
  would write all of its numbers to memory, for the next loop to read them once.
- Weights whose rows are apart in memory are copied side by side first, where many rows of a batch read them.

Two operations come in that graphs do not have: `muladd(a, b, c)`, elementwise, and `copied(a)`, which has memory of its
own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pysciml.rhs.graph import ELEMENTWISE, Builder, Graph, Node, base
from pysciml.rhs.julia_boxes import strides_of

# Sums of at most this many products are written out.
_SHORT = 4
# Weights of at most this many columns, read by at least so many rows, are copied.
_NARROW, _MANY = 4, 8
_MOST = 4096  # numbers that are copied


def arranged(output: Node) -> Node:
    """The same computation."""
    nodes = Graph({}, output).nodes
    readers = _readers(nodes)
    builder, new = Builder(), dict[Node, Node]()
    for node in nodes:
        args = tuple(new[a] for a in node.args)
        if node.op == "matmul":
            (_, m, k), n = node.args[0].shape, node.shape[-1]
            is_short = 0 < k <= _SHORT and readers[node] == [True]
            if m >= _MANY and (is_short or n <= _NARROW):
                args = args[0], _side_by_side(args[1])
            if is_short:
                new[node] = _sum(builder, args[0], args[1], node.shape)
                continue
        new[node] = node if args == node.args else Node(node.op, args, node.shape, node.data)
    return new[output]


def _readers(nodes: Sequence[Node]) -> dict[Node, list[bool]]:
    """Of each node, for each reading of it, whether that is elementwise, one number for one number."""
    found: dict[Node, list[bool]] = {node: [] for node in nodes}
    for node in reversed(nodes):  # a reshape is read as its readers read it
        for arg in node.args:
            found[arg] += found[node] if node.op == "reshape" else [node.op in ELEMENTWISE and node.size == arg.size]
    return found


def _side_by_side(x: Node) -> Node:
    """A matrix, or a copy of it, whose numbers lie side by side in its rows."""
    node = base(x)
    if node.op != "gather" or x.size > _MOST or x.shape[-1] == 1:
        return x
    strides = strides_of(node.data.reshape(x.shape))
    return x if strides is not None and strides.steps[-1] == 1 else Node("copied", (x,), x.shape)


def _sum(builder: Builder, a: Node, b: Node, shape: tuple[int, ...]) -> Node:
    factors = [(_spread(builder, a, q, 2, shape), _spread(builder, b, q, 1, shape)) for q in range(a.shape[2])]
    total = Node("mul", factors[0], shape)
    for pair in factors[1:]:
        total = Node("muladd", (*pair, total), shape)
    return total


def _spread(builder: Builder, x: Node, q: int, axis: int, shape: tuple[int, ...]) -> Node:
    """The q-th of an axis, for all of the other operand."""
    return builder.view(x, lambda index: np.broadcast_to(np.expand_dims(index.take(q, axis), axis), shape))
