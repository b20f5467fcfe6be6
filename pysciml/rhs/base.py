"""What an engine may ask of a compiled right-hand side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pysciml.rhs.graph import Graph

KINDS = ("f", "vjp", "vjp_p", "jac", "tgrad")


class CompiledRHS:
    """The Graphs of one program, traced when first asked for, and what engines made of them.

    Attributes:
        n, m: sizes of the flat state and of the flat parameter vector.
        lowered: an engine's own compiled forms, under keys of its choice.
    """

    def __init__(self, n: int, m: int, signature: Any, tracer: Callable[[Any, str], Graph]):
        self.n, self.m, self.signature = n, m, signature
        self.lowered: dict[Any, Any] = {}
        self._tracer = tracer
        self._graphs: dict[str, Graph] = {}

    def graph(self, kind: str, program: Any = None) -> Graph:
        """One of `KINDS`. The first time, `program` must be a recorded run with this signature."""
        if kind not in self._graphs:
            if program is None or program.signature != self.signature:
                raise ValueError(f"graph {kind!r} is not traced yet and needs the program it belongs to")
            self._graphs[kind] = self._tracer(program, kind)
        return self._graphs[kind]
