"""The Graph: a right-hand side, its vjp or its Jacobian as a small set of pure operations on row-major arrays.

Every lowering starts here, so the op set is kept small enough to lower by hand and to read:

- `input`, `constant`;
- elementwise: the names in `UNARY` and `BINARY`, and `where`; operands have equal shapes, or are scalars;
- `gather`: out.flat[i] = concatenation of all operands .flat[index[i]], or 0 where index[i] is -1. Every select,
  slice, permute, expand, flip, roll, pad, cat, stack and scatter of torch is one gather with a constant index;
- `reshape`: the same numbers under another shape;
- `scatter_add`: out.flat[index[i]] += operand.flat[i]; the transpose of gather;
- `matmul`: (b, m, k) x (b, k, n);
- `sum`, `amax`, `amin`, `prod`, `cumsum`: over the last axis of an (m, r) operand.

There is one number type: comparisons give 0.0 and 1.0, and `where` asks whether its condition is nonzero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

Shape = tuple[int, ...]

UNARY: dict[str, Callable] = {
    "neg": torch.neg, "abs": torch.abs, "sign": torch.sign, "exp": torch.exp, "expm1": torch.expm1,
    "log": torch.log, "log1p": torch.log1p, "sqrt": torch.sqrt, "sin": torch.sin, "cos": torch.cos, "tan": torch.tan,
    "asin": torch.asin, "acos": torch.acos, "atan": torch.atan, "sinh": torch.sinh, "cosh": torch.cosh,
    "tanh": torch.tanh, "asinh": torch.asinh, "acosh": torch.acosh, "atanh": torch.atanh, "erf": torch.erf,
    "sigmoid": torch.sigmoid, "floor": torch.floor, "ceil": torch.ceil, "not": lambda x: (x == 0).to(x.dtype),
}  # fmt: skip

BINARY: dict[str, Callable] = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "pow": torch.pow,
    "fmod": torch.fmod, "atan2": torch.atan2, "maximum": torch.maximum, "minimum": torch.minimum,
    "eq": lambda a, b: (a == b).to(a.dtype), "ne": lambda a, b: (a != b).to(a.dtype),
    "lt": lambda a, b: (a < b).to(a.dtype), "le": lambda a, b: (a <= b).to(a.dtype),
    "gt": lambda a, b: (a > b).to(a.dtype), "ge": lambda a, b: (a >= b).to(a.dtype),
    "and": lambda a, b: ((a != 0) & (b != 0)).to(a.dtype), "or": lambda a, b: ((a != 0) | (b != 0)).to(a.dtype),
}  # fmt: skip

ELEMENTWISE = frozenset({*UNARY, *BINARY, "where"})

REDUCTIONS: dict[str, Callable] = {
    "sum": lambda x: x.sum(1), "amax": lambda x: x.amax(1), "amin": lambda x: x.amin(1),
    "prod": lambda x: x.prod(1), "cumsum": lambda x: x.cumsum(1),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Node:
    """One operation. `data` is the constant's values, the gather's index, or the input's name."""

    op: str
    args: tuple[Node, ...]
    shape: Shape
    data: Any = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Graph:
    """Named flat inputs to one flat output.

    Attributes:
        inputs: the input nodes by name, `t` (shape ()), `u` (n,), `p` (m,) and for a vjp `v` (n,).
        output: the node that holds the result.
        nodes: all nodes that `output` needs, arguments before their users.
    """

    inputs: dict[str, Node]
    output: Node
    nodes: tuple[Node, ...] = field(init=False, repr=False)

    def __post_init__(self):
        object.__setattr__(self, "nodes", _in_order(self.output))

    @property
    def operations(self) -> int:
        """Floating-point operations one evaluation takes, to the nearest factor of two."""
        return sum(_cost(node) for node in self.nodes)

    @cached_property
    def of_networks(self) -> int:
        """How many of them are in products of matrices of which neither is constant: the layers of networks."""
        return sum(_cost(x) for x in self.nodes if x.op == "matmul" and all(a.op != "constant" for a in x.args))

    def depends_on(self, name: str) -> bool:
        return any(node is self.inputs.get(name) for node in self.nodes)

    def __str__(self) -> str:
        """One line a node: `%3 = add(%1, u) [2]`; inputs by name, single constants by value, shapes in brackets."""
        names = {node: _written(node) for node in self.nodes}
        steps = [node for node, name in names.items() if name is None]
        names |= {node: f"%{k}" for k, node in enumerate(steps)}
        head = ", ".join(f"{name}{list(node.shape)}" for name, node in self.inputs.items())
        lines = [f"  {names[n]} = {_describe(n, names)} {list(n.shape)}\n" for n in steps]
        return f"graph({head}):\n{''.join(lines)}  return {names[self.output]}"


def base(node: Node) -> Node:
    """The node that holds these numbers, under whatever shape."""
    while node.op == "reshape":
        node = node.args[0]
    return node


def _in_order(output: Node) -> tuple[Node, ...]:
    order: dict[Node, None] = {}
    stack = [(output, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            order[node] = None
        elif node not in order:
            stack.append((node, True))
            stack.extend((arg, False) for arg in reversed(node.args) if arg not in order)
    return tuple(order)


def _cost(node: Node) -> int:
    if node.op == "matmul":
        b, m, k = node.args[0].shape
        return 2 * b * m * k * node.args[1].shape[2]
    return 0 if node.op in ("input", "constant", "reshape") else max((n.size for n in (node, *node.args)), default=0)


def _written(node: Node) -> str | None:
    """How a node is written where it is used, if it needs no line of its own."""
    if node.op == "input":
        return str(node.data)
    return _numbers(node.data) if node.op == "constant" and node.size == 1 else None


def _describe(node: Node, names: dict[Node, Any]) -> str:
    data = [] if node.data is None else [f"[{_numbers(node.data)}]"]
    return f"{node.op}({', '.join([names[a] for a in node.args] + data)})"


def _numbers(data: Any) -> str:
    flat = data.ravel()
    first, last = (flat, []) if flat.size <= 6 else (flat[:2], ["...", *(f"{x:g}" for x in flat[-2:])])
    return ",".join([*(f"{x:g}" for x in first), *last])


class Builder:
    """Makes nodes: shares equal ones, evaluates constant ones, and drops those that change nothing."""

    def __init__(self):
        self.inputs: dict[str, Node] = {}
        self._known: dict[tuple, Node] = {}

    def input(self, name: str, shape: Shape) -> Node:
        node = self.inputs[name] = Node("input", (), tuple(shape), name)
        return node

    def constant(self, values) -> Node:
        values = np.array(values, dtype=np.float64, order="C")
        return self._shared("constant", (), values.shape, values)

    def reshape(self, x: Node, shape: Sequence[int]) -> Node:
        shape = tuple(shape)
        if x.shape == shape:
            return x
        return self.reshape(x.args[0], shape) if x.op == "reshape" else self._make("reshape", (x,), shape)

    def unary(self, op: str, x: Node) -> Node:
        return self._make(op, (x,), x.shape)

    def binary(self, op: str, a: Node, b: Node) -> Node:
        shape = np.broadcast_shapes(a.shape, b.shape)
        a, b = self._operand(a, shape), self._operand(b, shape)
        for x, other, neutral in ((a, b, op in ("add", "mul")), (b, a, True)):
            if neutral and other.shape == shape and _is_neutral(op, x):
                return other
        if op == "add" and _are_apart(a, b):  # as the gradients of slices of one vector are
            offset = sum(x.size for x in a.args)
            return self.gather((*a.args, *b.args), np.where(b.data < 0, a.data, b.data + offset).reshape(shape))
        return self._make(op, (a, b), shape)

    def where(self, cond: Node, a: Node, b: Node) -> Node:
        shape = np.broadcast_shapes(cond.shape, a.shape, b.shape)
        if cond.op == "constant":
            return self._select(np.broadcast_to(cond.data, shape) != 0, self.expand(a, shape), self.expand(b, shape))
        return self._make("where", tuple(self._operand(x, shape) for x in (cond, a, b)), shape)

    def _select(self, mask: np.ndarray, a: Node, b: Node) -> Node:
        flat = np.arange(mask.size).reshape(mask.shape)
        return self.gather((a, b), np.where(mask, flat, flat + mask.size))

    def expand(self, x: Node, shape: Shape) -> Node:
        return x if x.shape == tuple(shape) else self.view(x, lambda index: np.broadcast_to(index, shape))

    def _operand(self, x: Node, shape: Shape) -> Node:
        return self.reshape(x, ()) if x.size == 1 and math.prod(shape) != 1 else self.expand(x, shape)

    def view(self, x: Node, rearrange: Callable[[np.ndarray], np.ndarray]) -> Node:
        """Applies a numpy rearrangement (transpose, slice, flip, pad with -1, ...) to the array of x's flat indices."""
        return self.gather((x,), rearrange(np.arange(x.size).reshape(x.shape)))

    def gather(self, xs: Sequence[Node], index: np.ndarray) -> Node:
        index = np.asarray(index, dtype=np.int64)
        xs, flat = _narrow(*_flatten_gathers(tuple(xs), index.ravel()))
        if not xs:
            return self.constant(np.zeros(index.shape))
        if len(xs) == 1 and xs[0].size == flat.size and np.array_equal(flat, np.arange(flat.size)):
            return self.reshape(xs[0], index.shape)
        return self._make("gather", xs, index.shape, flat)

    def scatter_add(self, x: Node, index: np.ndarray, shape: Shape) -> Node:
        index, size = np.ascontiguousarray(index, dtype=np.int64).ravel(), math.prod(shape)
        if np.unique(index).size == index.size:  # nothing is added twice, so it only moves numbers
            inverse = np.full(size, -1)
            inverse[index] = np.arange(index.size)
            return self.gather((x,), inverse.reshape(shape))
        return self._make("scatter_add", (x,), tuple(shape), index)

    def matmul(self, a: Node, b: Node) -> Node:
        (batch, m, k), (_, _, n) = a.shape, b.shape
        if batch == 1 and _is_identity(a) and m == k:
            return b
        if batch == 1 and _is_identity(b) and k == n:
            return a
        return self._make("matmul", (a, b), (batch, m, n))

    def reduce(self, op: str, x: Node, axes: Sequence[int], keepdim: bool) -> Node:
        """A reduction of any axes, brought to the last axis of a matrix first."""
        rank = len(x.shape)
        axes = tuple(sorted(a % rank for a in axes)) if rank else ()
        kept = tuple(a for a in range(rank) if a not in axes)
        shape = tuple(1 if a in axes else s for a, s in enumerate(x.shape) if a not in axes or keepdim)
        rows, cols = math.prod(x.shape[a] for a in kept), math.prod(x.shape[a] for a in axes)
        if cols == 1:
            return self.reshape(x, shape)
        matrix = self.reshape(self.view(x, lambda i: i.transpose(kept + axes)), (rows, cols))
        return self.reshape(self._make(op, (matrix,), (rows,)), shape)

    def cumsum(self, x: Node, axis: int) -> Node:
        if not x.shape:
            return x
        moved = self.view(x, lambda i: np.moveaxis(i, axis, -1))
        matrix = (moved.size // moved.shape[-1], moved.shape[-1])
        out = self._make("cumsum", (self.reshape(moved, matrix),), matrix)
        return self.view(self.reshape(out, moved.shape), lambda i: np.moveaxis(i, -1, axis))

    def graph(self, output: Node) -> Graph:
        return Graph(dict(self.inputs), output)

    def _make(self, op: str, args: tuple[Node, ...], shape: Sequence[int], data: np.ndarray | None = None) -> Node:
        shape = tuple(int(s) for s in shape)
        node = Node(op, args, shape, data)
        if all(a.op == "constant" for a in args):
            values = [torch.from_numpy(a.data) for a in args]
            return self.constant(_apply(node, values).reshape(shape).numpy())
        return self._shared(op, args, shape, data)

    def _shared(self, op, args, shape, data) -> Node:
        key = (op, tuple(id(a) for a in args), shape, None if data is None else data.tobytes())
        return self._known.setdefault(key, Node(op, args, shape, data))


def _are_apart(a: Node, b: Node) -> bool:
    """Whether of two arrays one is zero wherever the other is not."""
    return a.op == b.op == "gather" and a.shape == b.shape and bool(((a.data < 0) | (b.data < 0)).all())


def _is_zero(x: Node) -> bool:
    return x.op == "constant" and not x.data.any() and not np.signbit(x.data).any()


def _is_neutral(op: str, x: Node) -> bool:
    neutral = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0, "pow": 1.0}.get(op)
    return neutral is not None and x.op == "constant" and bool(np.all(x.data == neutral))


def _is_identity(x: Node) -> bool:
    return x.op == "constant" and x.shape[1] == x.shape[2] and bool(np.array_equal(x.data[0], np.eye(x.shape[1])))


def _flatten_gathers(xs: tuple[Node, ...], flat: np.ndarray) -> tuple[tuple[Node, ...], np.ndarray]:
    """Reads through operands that are themselves gathers or reshapes, so that chains of views become one gather."""
    table: list[np.ndarray] = []
    operands: list[Node] = []
    offset = 0
    for x in xs:
        x = base(x)
        inner, index = (x.args, x.data) if x.op == "gather" else ((x,), np.arange(x.size))
        if _is_zero(x):
            index = np.full(x.size, -1)
        table.append(np.where(index >= 0, index + offset, -1))
        operands.extend(inner)
        offset += sum(a.size for a in inner)
    whole = np.concatenate([*table, [-1]])
    return tuple(operands), whole[flat]


def _narrow(xs: tuple[Node, ...], flat: np.ndarray) -> tuple[tuple[Node, ...], np.ndarray]:
    """Drops operands no index points to and merges operands that are the same node."""
    new_offset, kept, shift, size = {}, [], np.zeros(len(xs), dtype=np.int64), 0
    starts = np.cumsum([0, *[x.size for x in xs]])
    owner = np.searchsorted(starts, flat, side="right") - 1
    for i in np.unique(owner[flat >= 0]):
        x = xs[i]
        if x not in new_offset:
            new_offset[x] = size
            kept.append(x)
            size += x.size
        shift[i] = new_offset[x] - starts[i]
    return tuple(kept), np.where(flat >= 0, flat + shift[owner], -1)


def evaluate(graph: Graph, dtype: torch.dtype = torch.float64, **inputs: torch.Tensor) -> torch.Tensor:
    """Runs a graph in torch, one node at a time: the reference that every lowering is held against."""
    values: dict[Node, torch.Tensor] = {}
    for node in graph.nodes:
        if node.op == "input":
            values[node] = inputs[node.data].to(dtype).reshape(node.shape)
        elif node.op == "constant":
            values[node] = torch.from_numpy(node.data).to(dtype)
        else:
            values[node] = _apply(node, [values[a] for a in node.args]).reshape(node.shape)
    return values[graph.output]


def _apply(node: Node, args: list[torch.Tensor]) -> torch.Tensor:
    op = node.op
    if op in UNARY:
        return UNARY[op](*args)
    if op in BINARY:
        return BINARY[op](*args)
    if op in REDUCTIONS:
        return REDUCTIONS[op](*args)
    if op == "where":
        return torch.where(args[0] != 0, args[1], args[2])
    if op == "reshape":
        return args[0]
    if op == "matmul":
        return torch.bmm(*args)
    index = torch.from_numpy(node.data)
    if op == "gather":
        return torch.cat([*(a.reshape(-1) for a in args), args[0].new_zeros(1)])[index]
    if op == "scatter_add":
        return args[0].new_zeros(node.size).index_add(0, index, args[0].reshape(-1))
    raise ValueError(f"unknown graph operation {op!r}")
