"""Graph to Julia source: one in-place function that allocates nothing.

Every function has the signature `(out, v, u, p, t, w, c, k)`: `w` is scratch memory of the length a `Kernel` asks for,
`c` its floating constants and `k` its index tables. Numbers and names of a user never become code: the text depends on
the shape of the computation alone, so models that differ in constants share one compiled function.

What is stored and what is not decides the speed. Only products, sums, the output, and what several loops read get
memory. All else is written where it is read: a chain of elementwise operations becomes one loop, a view becomes strides
of the loop that reads it (cut into boxes where it wraps around), a transpose becomes strides of a product, and a part
of a concatenation goes straight to its place in `out`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np

from pysciml.rhs import julia_text as text
from pysciml.rhs.arranged import arranged
from pysciml.rhs.graph import ELEMENTWISE, REDUCTIONS, Builder, Graph, Node, base
from pysciml.rhs.julia_boxes import Strides, Which, cut, merge, owners, runs, strides_of
from pysciml.rhs.julia_matmul import Operand, matmul
from pysciml.rhs.julia_text import Place, at

_ELEMENTWISE = {*ELEMENTWISE, "muladd", "copied"}
# At most this many numbers are written one by one, in local variables, and not as a loop.
_SMALL = 4
# So many rows are added up in one pass over their sums.
_AT_ONCE = 8
# At most this many operations are fused into one loop, so that compile time stays in proportion.
_MOST_FUSED = 48
# An expression longer than this gets a name.
_LONG = 72
_MOST_PARTS = 64


@dataclass(frozen=True)
class Kernel:
    """A compiled form's text and the data it is called with.

    Attributes:
        source: Julia source of one anonymous function. constants, tables: what it reads as `c` and `k`.
        work: how many numbers of scratch it needs.
    """

    source: str
    constants: np.ndarray
    tables: np.ndarray
    work: int


def kernel(graph: Graph, kind: str = "f") -> Kernel:
    """The Julia form of a graph. A Jacobian is written column by column, as Julia keeps matrices.

    >>> b = Builder()
    >>> u = b.input("u", (9,))
    >>> print(kernel(b.graph(b.unary("tanh", u))).source)
    function (out, v, u, p, t, w, c, k)
        @simd ivdep for i in 1:9
            out[i] = tanh_(u[i])
        end
        return 0
    end
    <BLANKLINE>
    """
    output = graph.output
    if kind == "jac":
        builder, n = Builder(), graph.inputs["u"].size
        output = builder.view(builder.reshape(output, (n, n)), lambda index: index.T)
    return _Writer(arranged(output)).kernel()


class _Plan:
    """Which nodes of a graph get memory of their own.

    Attributes:
        nodes: all nodes but reshapes, arguments first. users: who reads a node, once for every time it does.
        stored: the nodes computed on their own, in the order of `nodes`; all others where they are read.
        sent: nodes that are whole parts of the output, with where they start in it.
    """

    def __init__(self, output: Node):
        self.output = output
        self.nodes = [n for n in Graph({}, output).nodes if n.op != "reshape"]
        self.users: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for arg in node.args:
                self.users[base(arg)].append(node)
        self.sent = dict(self._parts(output, 0))
        self.stored = self._choose()

    def _parts(self, node: Node, start: int) -> Iterator[tuple[Node, int]]:
        yield node, start
        if node.op != "gather":
            return
        found = runs(node.data, [a.size for a in node.args])
        seen = Counter(run.operand for run in found)
        for run in found if len(found) <= _MOST_PARTS else ():
            part = base(node.args[run.operand]) if run.whole else None
            if part is not None and seen[run.operand] == 1 and part.op not in ("input", "constant"):
                yield from self._parts(part, start + run.first)

    def _choose(self) -> set[Node]:
        stored: set[Node] = set()
        homes: dict[Node, Node | None] = {}  # the stored node in whose loop a node is computed; None: in several
        fused: Counter[Node] = Counter()
        for node in reversed(self.nodes):
            homes[node] = home = self._home(node, homes)
            if node.op in ("input", "constant"):
                continue
            if node.op not in (*_ELEMENTWISE, "gather") or node.op == "copied" or node in self.sent:
                homes[node] = node
                stored.add(node)
            elif node.op in _ELEMENTWISE and node.size > _SMALL:
                if home is None or fused[home] >= _MOST_FUSED or self._read_twice(node):
                    homes[node] = home = node
                    stored.add(node)
                fused[home] += 1
        return stored

    def _home(self, node: Node, homes: dict[Node, Node | None]) -> Node | None:
        found = {homes[user] for user in self.users[node]}
        loops = all(user.op in _ELEMENTWISE or user.op in ("gather", *REDUCTIONS) for user in self.users[node])
        return found.pop() if len(found) == 1 and loops else None

    def _read_twice(self, node: Node) -> bool:
        """Whether some user reads numbers of this node more than once, which would compute them more than once."""
        return any(u.op == "gather" and np.unique(u.data).size < u.size for u in self.users[node])


class _Body:
    """The steps of one loop body: what is read more than once, or is long, gets a name."""

    def __init__(self, variables: tuple[str, ...]):
        self.variables = variables
        self.lines: list[str] = []
        self.known: dict[tuple[Node, bytes], str] = {}

    def name(self, value: str) -> str:
        name = f"y{len(self.lines) + 1}"
        self.lines.append(f"{name} = {text.bare(value)}")
        return name


class _Writer:
    """Turns one graph to lines of code."""

    def __init__(self, output: Node):
        self.output = base(output)
        self.plan = _Plan(self.output)
        self.lines: list[str] = []
        self.places: dict[Node, Place] = {}
        self.names: dict[tuple, str] = {}
        self.work = 0
        self._constants: list[np.ndarray] = [np.zeros(0)]
        self._tables: list[np.ndarray] = [np.zeros(0, np.int64)]
        self._table_at: dict[bytes, int] = {}
        self._place_data()

    def kernel(self) -> Kernel:
        for node in self.plan.nodes:
            if node in self.plan.stored:
                self._memory(node)
        if self.output.op in ("input", "constant"):
            self._loop(self.output, Place("out", 0), np.arange(self.output.size))
        return Kernel(
            text.function(self.lines), np.concatenate(self._constants), np.concatenate(self._tables), self.work
        )

    def _place_data(self) -> None:
        size = 0
        for node in self.plan.nodes:
            if node.op == "input" and node.data == "t":
                self.names[node, 0] = "t"
            elif node.op == "input":
                self.places[node] = Place(str(node.data), 0)
            elif node.op == "constant":
                self.places[node] = Place("c", size)
                self._constants.append(np.asarray(node.data).ravel())
                size += node.size

    # Memory.

    def _memory(self, node: Node) -> Place:
        """Where a node lies in memory; it is computed now if it was not before."""
        node = base(node)
        if node not in self.places:
            if node in self.plan.sent:
                place = Place("out", self.plan.sent[node])
            else:
                place = Place("w", self.work)
                self.work += node.size
            self._compute(node, place)
            self.places[node] = place
        return self.places[node]

    def _compute(self, node: Node, place: Place) -> None:
        if node.op == "matmul":
            a, b = map(self._operand, node.args)
            batch, m, k = node.args[0].shape
            self.lines += matmul(place, a, b, (batch, m, k, node.shape[-1]))
        elif node.op == "scatter_add":
            source, table = self._memory(node.args[0]), self._table(node.data)
            self.lines += text.scatter_add(place, node.size, source, table, node.args[0].size)
        elif node.op in REDUCTIONS:
            self._reduce(node, place)
        elif node.op == "gather" and node in self.plan.sent:
            self._join(node, place)
        else:
            self._loop(node, place, np.arange(node.size))

    def _operand(self, operand: Node) -> Operand:
        """An operand of a product: a view of memory by its strides, or memory of its own."""
        node = base(operand)
        if node.op == "gather" and node not in self.places and len(node.args) == 1:
            strides = strides_of(node.data.reshape(operand.shape))
            if strides is not None:
                return Operand(self._memory(node.args[0]), strides)
        strides = strides_of(np.arange(node.size).reshape(operand.shape))
        return Operand(self._memory(node), strides or Strides(0, (0,) * len(operand.shape)))

    def _table(self, index: np.ndarray) -> Place:
        """A table of 0-based indices, in memory as Julia's."""
        key = index.tobytes()
        if key not in self._table_at:
            self._table_at[key] = sum(x.size for x in self._tables)
            self._tables.append(np.asarray(index, dtype=np.int64).ravel() + 1)
        return Place("k", self._table_at[key])

    # Loops.

    def _join(self, node: Node, place: Place) -> None:
        """A concatenation: parts that are computed in place, and the rest copied."""
        found = runs(node.data, [a.size for a in node.args])
        here = [
            run for run in found if run.operand >= 0 and self._is_sent(node.args[run.operand], place.moved(run.first))
        ]
        if not here:
            self._loop(node, place, np.arange(node.size))
            return
        for run in found:
            if run not in here:
                self._loop(node, place.moved(run.first), np.arange(run.first, run.first + run.count))

    def _is_sent(self, part: Node, place: Place) -> bool:
        return self.places.get(base(part)) == place

    def _loop(self, node: Node, place: Place, index: np.ndarray) -> None:
        """Stores elements `index` of a node, one after another from `place` on."""
        if index.size == 0:
            return
        shape, boxes = self._domain(node, index)
        if boxes is None:
            self._by_table(node, place, index)
            return
        index, target = index.reshape(shape), np.arange(index.size).reshape(shape)
        for box in boxes:
            self._box(node, place, index[box], target[box])

    def _domain(self, node: Node, index: np.ndarray):
        """The shape under which a loop falls into fewest boxes, and these; no boxes if it takes a table."""
        walks = list(self._walks(node, index, np.ones(index.shape, bool)))
        shapes = {(index.size,)} | (
            {s for s in self._shapes(node) if len(s) <= 4} if index.size == node.size else set()
        )
        best = None
        for shape in sorted(shapes, key=len):
            boxes = cut(shape, [walk.reshape(shape) for walk in walks])
            if boxes is not None and (best is None or len(boxes) < len(best[1])):
                best = shape, boxes
        return best or ((index.size,), None)

    def _shapes(self, node: Node) -> set[tuple[int, ...]]:
        """Shapes of what is computed in one loop with a node."""
        found, stack, size = set(), [node], node.size
        while stack:
            x = stack.pop()
            if x.size == size:
                found.add(tuple(n for n in x.shape if n > 1) or (1,))
            if base(x) is node or (base(x) not in self.places and base(x).op in ("gather", *_ELEMENTWISE)):
                stack.extend(x.args)
        return found

    def _walks(self, node: Node, index: np.ndarray, mask: np.ndarray, root: bool = True) -> Iterator[np.ndarray]:
        """The arrays of indices at which memory is read, and which operand of a gather it is; 0 where none is."""
        node = base(node)
        if node.size == 1 or (node in self.places and not root):
            yield np.where(mask, index if node.size > 1 else 0, 0)
        elif node.op == "gather":
            owner, local = owners(node.data[index], [a.size for a in node.args])
            yield np.where(mask, owner, -2).view(Which)
            for operand, arg in enumerate(node.args):
                here = mask & (owner == operand)
                if here.any():
                    yield from self._walks(arg, np.where(here, local, 0), here, False)
        elif node.op in _ELEMENTWISE:
            for arg in dict.fromkeys(map(base, node.args)):
                yield from self._walks(arg, index, mask, False)
        else:
            yield np.where(mask, index, 0)

    def _box(self, node: Node, place: Place, index: np.ndarray, target: np.ndarray) -> None:
        if index.size <= _SMALL:
            for element, to in zip(index.flat, target.flat, strict=True):
                value = self._element(node, int(element), None)
                self.lines.append(f"{at(place, Strides(int(to)))} = {text.bare(value)}")
            return
        walks = list(self._walks(node, index, np.ones(index.shape, bool)))
        shape = merge(index, [*walks, target])
        variables = text.VARIABLES[-len(shape) :]
        body = _Body(variables)
        value = self._value(node, index.reshape(shape), body)
        to = cast("Strides", strides_of(target.reshape(shape)))  # `merge` has seen to it
        body.lines.append(f"{at(place, to, variables)} = {text.bare(value)}")
        self.lines += text.loops(variables, shape, body.lines)

    def _by_table(self, node: Node, place: Place, index: np.ndarray) -> None:
        """A loop with reads that follow no strides: single operands through tables, several operands moved first."""
        if node.op == "gather":
            self._move(node, place, index)
            return
        self._materialize(node)
        body = _Body(("i",))
        value = self._value(node, index, body)
        body.lines.append(f"{at(place, Strides(0, (1,)), 'i')} = {text.bare(value)}")
        self.lines += text.loop("i", index.size, body.lines, "@simd ivdep ")

    def _materialize(self, node: Node) -> None:
        """Computes the gathers beneath a node that no table alone can read."""
        for arg in map(base, node.args):
            if arg in self.places or arg.size == 1:
                continue
            if arg.op == "gather":
                self._memory(arg) if len(arg.args) > 1 or (arg.data < 0).any() else self._memory(arg.args[0])
            elif arg.op in _ELEMENTWISE:
                self._materialize(arg)

    def _move(self, node: Node, place: Place, index: np.ndarray) -> None:
        owner, local = owners(node.data[index], [a.size for a in node.args])
        if (owner < 0).any():
            self.lines += text.loop("i", index.size, [f"{at(place, Strides(0, (1,)), 'i')} = zero(t)"], "@simd ivdep ")
        for operand, arg in enumerate(node.args):
            targets = np.flatnonzero(owner == operand)
            if targets.size:
                source = self._memory(arg)
                to, of = self._table(targets), self._table(local[targets])
                self.lines += text.move(place, to, source, of, targets.size)

    # Values.

    def _value(self, node: Node, index: np.ndarray, body: _Body) -> str:
        """The expression of elements `index` (an array over the loops' domain) of a node."""
        node = base(node)
        first = int(index.flat[0])
        if node.size == 1 or (index == first).all():
            return self._element(node, 0 if node.size == 1 else first, body)
        key = node, index.tobytes()
        if key not in body.known:
            body.known[key] = self._fresh(node, index, body)
        return body.known[key]

    def _fresh(self, node: Node, index: np.ndarray, body: _Body) -> str:
        if node in self.places:
            return self._load(self.places[node], index, body)
        if node.op == "gather":
            owner, local = owners(node.data[index], [a.size for a in node.args])
            if int(owner.flat[0]) < 0:
                return "zero(t)"
            return self._value(node.args[int(owner.flat[0])], local, body)
        if node.op not in _ELEMENTWISE or node.size <= _SMALL:
            return self._load(self._memory(node), index, body)
        value = text.expression(node, [self._value(a, index, body) for a in node.args])
        several = len(self.plan.users[node]) > 1 and node not in self.plan.stored
        return body.name(value) if several or (len(value) > _LONG and node not in self.plan.stored) else value

    def _load(self, place: Place, index: np.ndarray, body: _Body) -> str:
        strides = strides_of(index)
        if strides is not None:
            return at(place, strides, body.variables)
        return text.through(place, at(self._table(index), Strides(0, (1,)), "i"))

    def _element(self, node: Node, element: int, body: _Body | None) -> str:
        """The expression of one element, which needs no loop variable; computed ahead of the loop that reads it."""
        node = base(node)
        if (node, element) in self.names:
            return self.names[node, element]
        if node in self.places or (node.op not in _ELEMENTWISE and node.op != "gather"):
            place = self._memory(node)
            value = at(place, Strides(element))
            hoist = body is not None or (place.array not in ("w", "out") and len(self.plan.users[node]) > 1)
            name = f"{place.array}{place.offset + element + 1}"
        elif node.op == "gather":
            operand, local = (int(x) for x in owners(node.data[element], [a.size for a in node.args]))
            return "zero(t)" if operand < 0 else self._element(node.args[operand], local, body)
        else:
            value = text.expression(node, [self._element(a, min(element, a.size - 1), None) for a in node.args])
            hoist = body is not None or len(self.plan.users[node]) > 1 or len(value) > _LONG
            name = f"x{len(self.names)}"
        if not hoist:
            return value
        self.lines.append(f"{name} = {text.bare(value)}")
        self.names[node, element] = name
        return name

    # Sums.

    def _reduce(self, node: Node, place: Place) -> None:
        (operand,), (m, r) = node.args, node.args[0].shape
        index = np.arange(m * r).reshape(m, r)
        walks = list(self._walks(operand, index, np.ones((m, r), bool), False))
        if (base(operand).op in _ELEMENTWISE and base(operand) in self.plan.stored) or any(
            strides_of(walk - walk.min()) is None for walk in walks
        ):
            self._memory(operand)
        write = self._short if r <= _SMALL and node.op != "cumsum" else self._sum_down if (
            node.op == "sum" and self._down(operand, index)) else self._sum_along  # fmt: skip
        write(node, place, index)

    def _down(self, operand: Node, index: np.ndarray) -> bool:
        """Whether a sum goes over rows, so that it had better add one row after another."""
        walks = list(self._walks(operand, index, np.ones(index.shape, bool), False))
        steps = [strides.steps for walk in walks if (strides := strides_of(walk - walk.min()))]
        return len(index) > _SMALL and any(s[0] == 1 and s[1] != 1 for s in steps)

    def _short(self, node: Node, place: Place, index: np.ndarray) -> None:
        m, body = len(index), _Body(("i",))
        value = ""
        for column in index.T:
            element = (
                self._value(node.args[0], column, body) if m > 1 else self._element(node.args[0], int(column[0]), None)
            )
            value = f"({text.step_of(node.op, value, element)})" if value else element
        lines = [*body.lines, f"{at(place, Strides(0, (1,)), 'i')} = {text.bare(value)}"]
        self.lines += text.loops(["i"], [m], lines) if m > 1 else [f"{at(place, Strides(0))} = {text.bare(value)}"]

    def _sum_along(self, node: Node, place: Place, index: np.ndarray) -> None:
        (m, r), op = index.shape, node.op
        body = _Body(("j", "i"))
        value = self._value(node.args[0], index, body)
        steps = [*body.lines, f"s = {text.step_of(op, 's', value)}"]
        if op == "cumsum":
            steps.append(f"{at(place, Strides(0, (r, 1)), 'ji')} = s")
        lines = [f"s = {text.start_of(op)}", *text.loop("i", r, steps, "@simd " if op == "sum" else "")]
        if op != "cumsum":
            lines.append(f"{at(place, Strides(0, (1,)), 'j')} = s")
        self.lines += text.loop("j", m, lines)

    def _sum_down(self, node: Node, place: Place, index: np.ndarray) -> None:
        """Row after row, or several at once: each pass reads and writes the sums."""
        m, r = index.shape
        total, start = at(place, Strides(0, (1,)), "i"), 0
        self.lines += text.loops(["i"], [m], [f"{total} = zero(t)"])
        for at_once in (_AT_ONCE, 1):
            passes = (r - start) // at_once
            if passes:
                rows = index.T[start : start + passes * at_once].reshape(passes, at_once, m)
                body = _Body(("j", "i"))
                values = [self._value(node.args[0], rows[:, q], body) for q in range(at_once)]
                lines = [*body.lines, f"{total} = {total} + {text.added(values)}"]
                self.lines += text.loop("j", passes, text.loops(["i"], [m], lines))
                start += passes * at_once
