"""What the rules share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pysciml.errors import TraceError
from pysciml.rhs.graph import Builder, Node

RULES: dict[str, Callable] = {}


@dataclass(frozen=True)
class Mask:
    """A boolean index; a Node alone does not tell it from an index of zeros and ones."""

    node: Node


def rule(*names: str) -> Callable[[Callable], Callable]:
    def register(function: Callable) -> Callable:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def as_node(b: Builder, x) -> Node:
    return x if isinstance(x, Node) else b.constant(x)


def known(x) -> np.ndarray:
    """The values of something that must be known while tracing, such as an index."""
    if isinstance(x, Node):
        if x.op != "constant":
            raise TraceError(
                "an index is computed from the state, the time or the parameters.", op="index",
                fix="use a constant index, or `torch.where` to choose between values",
            )  # fmt: skip
        return x.data
    return np.asarray(x)


def axes_of(x: Node, dim) -> tuple[int, ...]:
    rank = len(x.shape)
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return tuple(range(rank))
    return tuple(d % max(rank, 1) for d in (dim if isinstance(dim, (list, tuple)) else (dim,)))
