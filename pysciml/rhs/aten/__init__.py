"""torch's core ATen operations, one small rule each, as Graph operations.

Rules are looked up by the operation's name without its overload (`aten.add.Tensor` and `aten.add.Scalar` are both
`add`), because the arguments tell the overloads apart. A rule gets the builder and torch's own arguments, with a Node
in place of every tensor, and returns a Node or a list of them.

An operation without a rule is decomposed into ones that have rules (`pysciml.rhs.decompositions`).
"""

from __future__ import annotations

from pysciml.rhs.aten import elementwise, indexing, making, reductions, views
from pysciml.rhs.aten.common import RULES as RULES
from pysciml.rhs.graph import Builder, Node

__all__ = ["RULES", "elementwise", "indexing", "join", "making", "reductions", "views"]


def join(b: Builder, xs: list[Node]) -> Node:
    """All of `xs`, flattened, one after the other."""
    return views.cat(b, [b.reshape(x, (x.size,)) for x in xs])
