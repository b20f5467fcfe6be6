"""What an engine may ask of a right-hand side."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

from pysciml.rhs.graph import Graph
from pysciml.rhs.outer_products import Factored, factored
from pysciml.rhs.sparsity import Sparsity, sparsity

KINDS = ("f", "vjp", "vjp_p", "both", "jac", "tgrad")


class RightHandSide(Protocol):
    """What every route's right-hand side has.

    Attributes:
        n, m: sizes of the flat state and of the flat parameter vector.
        signature: equal for right-hand sides that are solved alike, or None for one that is like no other.
        lowered: an engine's own forms of it, under keys of its choice.
    """

    n: int
    m: int
    signature: Any
    lowered: dict[Any, Any]


class CompiledRHS:
    """The Graphs of one program, traced when first asked for, and what engines made of them.

    Attributes:
        n, m: sizes of the flat state and of the flat parameter vector.
        lowered: an engine's own compiled forms, under keys of its choice.
    """

    def __init__(self, n: int, m: int, signature: Any, tracer: Callable[[Any, str, Any], Graph]):
        self.n, self.m, self.signature = n, m, signature
        self.lowered: dict[Any, Any] = {}
        self._tracer = tracer
        self._graphs: dict[str, Graph] = {}

    def graph(self, kind: str, program: Any = None) -> Graph:
        """One of `KINDS`; "nonzeros", the Jacobian's entries at the places of `sparsity`; "factors", of `factored`.

        The first time, `program` must be a recorded run with this signature.
        """
        if kind == "factors" and self.factored is not None:
            return self.factored.graph
        if kind not in self._graphs:
            if program is None or program.signature != self.signature:
                raise ValueError(f"graph {kind!r} is not traced yet and needs the program it belongs to")
            self._graphs[kind] = self._tracer(program, kind, self.sparsity if kind == "nonzeros" else None)
        return self._graphs[kind]

    @cached_property
    def factored(self) -> Factored | None:
        """The gradient in p by its factors, where it has large ones. "both" must have been traced."""
        return factored(self._graphs["both"], self.n)

    @cached_property
    def sparsity(self) -> Sparsity:
        """Of the Jacobian in the state. "f" must have been traced."""
        return sparsity(self._graphs["f"])
