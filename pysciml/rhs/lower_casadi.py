"""Graph to CasADi expression.

A row-major array of any rank is a column vector here, so that CasADi's column-major reshape of (k, m) is our (m, k)
transposed: a product C = A B is computed as C' = B' A', and nothing is ever moved to be transposed.

Small graphs become SX (one instruction a scalar, no overhead), large ones MX (one instruction an array).
"""

from __future__ import annotations

import casadi as ca
import numpy as np

from pysciml.rhs.graph import Graph, Node

# Below this many scalar operations the scalar machine is faster and its code small: about 2 ns an operation, against
# about 100 ns an array operation for MX.
SCALAR_LIMIT = 400

_UNARY = {
    "neg": lambda x: -x, "abs": ca.fabs, "sign": ca.sign, "exp": ca.exp, "expm1": ca.expm1, "log": ca.log,
    "log1p": ca.log1p, "sqrt": ca.sqrt, "sin": ca.sin, "cos": ca.cos, "tan": ca.tan, "asin": ca.asin, "acos": ca.acos,
    "atan": ca.atan, "sinh": ca.sinh, "cosh": ca.cosh, "tanh": ca.tanh, "asinh": ca.asinh, "acosh": ca.acosh,
    "atanh": ca.atanh, "erf": ca.erf, "floor": ca.floor, "ceil": ca.ceil, "not": ca.logic_not,
    # tanh and not 1/(1+exp(-x)): the same function, without overflow in exp for large negative x.
    "sigmoid": lambda x: 0.5 + 0.5 * ca.tanh(0.5 * x),
}  # fmt: skip


def _tie(choose):
    """max and min whose derivative at a tie is split evenly, as torch splits it."""
    return lambda a, b: ca.if_else(ca.eq(a, b), 0.5 * a + 0.5 * b, choose(a, b))


_BINARY = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "div": lambda a, b: a / b,
    "pow": ca.power, "atan2": ca.atan2, "maximum": _tie(ca.fmax), "minimum": _tie(ca.fmin), "eq": ca.eq, "ne": ca.ne,
    "lt": ca.lt, "le": ca.le, "gt": ca.gt, "ge": ca.ge, "and": ca.logic_and, "or": ca.logic_or,
}  # fmt: skip


def symbols(graph: Graph, scalar: bool | None = None) -> tuple[dict, object]:
    """CasADi symbols for the graph's inputs and the expression of its output, a column vector.

    Args:
        scalar: True for SX, False for MX, None to choose by the graph's size.
    """
    kind = ca.SX if (graph.operations <= SCALAR_LIMIT if scalar is None else scalar) else ca.MX
    inputs = {name: kind.sym(name, node.size) for name, node in graph.inputs.items()}
    values: dict[Node, object] = {}
    for node in graph.nodes:
        values[node] = inputs[node.data] if node.op == "input" else _lower(node, [values[a] for a in node.args], kind)
    return inputs, values[graph.output]


def function(graph: Graph, name: str = "f", scalar: bool | None = None) -> ca.Function:
    """The graph as a CasADi Function of its inputs, in their order and under their names."""
    inputs, output = symbols(graph, scalar)
    return ca.Function(name, list(inputs.values()), [ca.densify(output)], list(inputs), ["out"])


def _lower(node: Node, args: list, kind) -> object:
    op = node.op
    if op == "constant":
        return kind(ca.DM(node.data.ravel()))
    if op in _UNARY:
        return _UNARY[op](args[0])
    if op in _BINARY:
        return _BINARY[op](*args)
    if op == "where":
        return _where(*args)
    if op == "reshape":
        return args[0]
    if op == "gather":
        return _gather(args, node.data, kind)
    if op == "scatter_add":
        rows, cols = node.data.tolist(), list(range(node.data.size))
        return kind(ca.DM(ca.Sparsity.triplet(node.size, len(cols), rows, cols), 1.0)) @ args[0]
    if op == "matmul":
        return _matmul(node, *args)
    return _reduce(node, args[0])


def _where(cond, a, b):
    n = max(x.numel() for x in (cond, a, b))
    a, b = (ca.repmat(x, n, 1) if x.numel() != n else x for x in (a, b))
    if cond.numel() != n:
        cond = ca.repmat(cond, n, 1)
    return ca.if_else_zero(cond, a) + ca.if_else_zero(ca.logic_not(cond), b)


def _gather(args: list, index: np.ndarray, kind):
    source = args[0] if len(args) == 1 else ca.vertcat(*args)
    if (index < 0).any():
        source = ca.vertcat(ca.densify(source), kind(ca.DM.zeros(1)))
        index = np.where(index < 0, source.numel() - 1, index)
    return source[index.tolist()]


def _matmul(node: Node, a, b):
    batch, m, k = node.args[0].shape
    n = node.args[1].shape[2]
    pieces = []
    for i in range(batch):
        left = ca.reshape(b[i * k * n : (i + 1) * k * n], n, k)
        right = ca.reshape(a[i * m * k : (i + 1) * m * k], k, m)
        pieces.append(ca.vec(left @ right))
    return pieces[0] if batch == 1 else ca.vertcat(*pieces)


def _reduce(node: Node, x):
    m, r = node.args[0].shape
    columns = ca.reshape(x, r, m)
    if node.op == "sum":
        return ca.vec(ca.sum1(columns))
    if node.op == "cumsum":
        return ca.vec(ca.DM(np.tril(np.ones((r, r)))) @ columns)
    combine = {"amax": _BINARY["maximum"], "amin": _BINARY["minimum"], "prod": _BINARY["mul"]}[node.op]
    rows = [columns[i, :] for i in range(r)]
    while len(rows) > 1:  # a balanced tree, so that the expression is log(r) deep
        pairs = [combine(a, b) for a, b in zip(rows[::2], rows[1::2], strict=False)]
        rows = pairs + rows[len(rows) - len(rows) % 2 :]
    return ca.vec(rows[0])
