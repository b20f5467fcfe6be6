"""Graph to CasADi expression.

A row-major array of any rank is a column vector here, so that CasADi's column-major reshape of (k, m) is our (m, k)
transposed: a product C = A B is computed as C' = B' A', and nothing is ever moved to be transposed.

Small graphs become SX (one instruction a scalar, no overhead), large ones MX (one instruction an array).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import casadi as ca
import numpy as np

from pysciml.rhs.graph import Graph, Node

# Below this many scalar operations the scalar machine is faster and its code small: about 2 ns an operation, against
# about 100 ns an array operation for MX.
SCALAR_LIMIT = 400


def _if(condition, x):
    """x where the condition holds, else 0. Unlike a product, this is safe where x is not finite."""
    return type(condition).binary(ca.OP_IF_ELSE_ZERO, condition, x)


_UNARY = {
    "neg": lambda x: -x, "abs": ca.fabs, "sign": ca.sign, "exp": ca.exp, "expm1": ca.expm1, "log": ca.log,
    "log1p": ca.log1p, "sqrt": ca.sqrt, "sin": ca.sin, "cos": ca.cos, "tan": ca.tan, "asin": ca.asin, "acos": ca.acos,
    "atan": ca.atan, "sinh": ca.sinh, "cosh": ca.cosh, "tanh": ca.tanh, "asinh": ca.asinh, "acosh": ca.acosh,
    "atanh": ca.atanh, "erf": ca.erf, "floor": ca.floor, "ceil": ca.ceil, "not": ca.logic_not,
    "sigmoid": lambda x: 1 / (1 + ca.exp(_if(x < -700, 700.0) + _if(ca.logic_not(x < -700), -x))),  # exp(710) is inf
}  # fmt: skip


def _extreme(first, second):
    """max or min: a tie's derivative is split evenly and NaN gets through, as in torch. C's fmax drops NaN."""

    def choose(a, b):
        one, other = first(a, b), second(a, b)
        return _if(one, a) + _if(other, b) + _if(ca.logic_not(ca.logic_or(one, other)), 0.5 * a + 0.5 * b)

    return choose


def _pow(a, b):
    """a**b, with torch's derivatives at a = 0: none in b, where CasADi's rule has log(0) * 0."""
    if b.is_constant() and np.all(ca.evalf(b).full() != 0):
        return ca.power(a, b)
    zero, one = ca.eq(a, 0), ca.eq(b, 0)
    # What b means at a = 0 (negative, below 1, 1, above), in a form that has no derivative in b; a**0 is 1 everywhere.
    at_zero = one - 1.0 * (b < 0) + 0.5 * (b > 0) + 0.5 * (b >= 1) + 1.0 * (b > 1)
    elsewhere = _if(ca.logic_not(zero), ca.power(a + zero, b))
    return elsewhere + _if(ca.logic_and(zero, ca.logic_not(one)), ca.power(a, at_zero)) + ca.logic_and(zero, one)


def _atan2(y, x):
    """CasADi's, but with derivatives 0 at the origin, as in torch, and not NaN."""
    origin = ca.logic_and(ca.eq(x, 0), ca.eq(y, 0))
    return _if(ca.logic_not(origin), ca.atan2(y, x + origin))


def _is_number(x):
    """1 unless NaN. CasADi simplifies x == x to 1."""
    return ca.logic_or(x < 0, x >= 0)


_BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": _pow,
    "fmod": ca.fmod,
    "atan2": _atan2,
    "maximum": _extreme(ca.gt, ca.lt),
    "minimum": _extreme(ca.lt, ca.gt),
    "eq": ca.eq,
    "ne": ca.ne,
    "lt": ca.lt,
    "le": ca.le,
    "gt": ca.gt,
    "ge": ca.ge,
    "and": ca.logic_and,
    "or": ca.logic_or,
}


def symbols(graph: Graph, scalar: bool | None = None) -> tuple[dict, object]:
    """CasADi symbols for the graph's inputs and the expression of its output, a column vector.

    Args:
        scalar: True for SX, False for MX, None to choose by the graph's size.
    """
    kind = ca.SX if (graph.operations <= SCALAR_LIMIT if scalar is None else scalar) else ca.MX
    inputs = {name: kind.sym(name, node.size) for name, node in graph.inputs.items()}
    values: dict[Node, object] = {}
    for node in graph.nodes:
        if node.op == "input":
            values[node] = inputs[node.data]
            continue
        args = [values[a] for a in node.args]
        if node.op == "matmul":
            args[1] = _untranspose(node, values) or args[1]
        values[node] = _lower(node, args, kind)
    return inputs, values[graph.output]


def function(graph: Graph, name: str = "f", scalar: bool | None = None) -> ca.Function:
    """The graph as a CasADi Function of its inputs, in their order and under their names."""
    inputs, output = symbols(graph, scalar)
    # CasADi reserves the names "jac" and "hess".
    return ca.Function(f"rhs_{name}", list(inputs.values()), [ca.densify(output)], list(inputs), ["out"])


def _lower(node: Node, args: list, kind) -> object:
    op = node.op
    if op == "constant":
        return kind(ca.DM(node.data.ravel()))
    if op in _UNARY:
        return _UNARY[op](args[0])
    if op in ("eq", "ne") and node.args[0] is node.args[1]:
        return _is_number(args[0]) if op == "eq" else ca.logic_not(_is_number(args[0]))
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
    cond = ca.ne(cond, 0)
    parts = [_if(c, x) for c, x in ((cond, a), (ca.logic_not(cond), b)) if not x.is_zero()]
    return sum(parts[1:], parts[0]) if parts else 0 * cond


def _gather(args: list, index: np.ndarray, kind):
    source = args[0] if len(args) == 1 else ca.vertcat(*args)
    if (index < 0).any():
        source = ca.vertcat(ca.densify(source), kind(ca.DM.zeros(1)))
        index = np.where(index < 0, source.numel() - 1, index)
    if source.numel() == 1:
        return ca.repmat(source, index.size, 1)  # a list picks a row, not a column, out of a scalar
    return source[index.tolist()]


def _matmul(node: Node, a, b):
    batch, m, k = node.args[0].shape
    n = node.args[1].shape[2]
    pieces = []
    for i in range(batch):
        right = ca.reshape(a[i * m * k : (i + 1) * m * k], k, m)
        if isinstance(b, _Untransposed):
            pieces.append(ca.vec((right.T @ ca.reshape(b.source, k, n)).T))
        else:
            pieces.append(ca.vec(ca.reshape(b[i * k * n : (i + 1) * k * n], n, k) @ right))
    return pieces[0] if batch == 1 else ca.vertcat(*pieces)


@dataclass(frozen=True)
class _Untransposed:
    """The factor of a product before it was transposed, as a layer's weight is in `x @ W.T`."""

    source: object


def _untranspose(node: Node, values: dict[Node, Any]) -> _Untransposed | None:
    """Sees that the second factor of a product only transposes a contiguous piece of another array.

    CasADi would move every number of it, forwards and again backwards; a product with the piece itself moves none.
    """
    factor = node.args[1]
    batch, k, n = factor.shape
    if batch != 1 or min(k, n) == 1 or factor.op != "gather" or len(factor.args) != 1:
        return None
    index = factor.data.reshape(k, n).T.ravel()
    if index[0] < 0 or not np.array_equal(index, np.arange(index[0], index[0] + index.size)):
        return None
    return _Untransposed(values[factor.args[0]][int(index[0]) : int(index[0]) + index.size])


def _reduce(node: Node, x):
    m, r = node.args[0].shape
    columns = ca.reshape(x, r, m)
    if node.op == "sum":
        return ca.vec(ca.sum1(columns))
    if node.op == "cumsum":
        return ca.vec(ca.DM(np.tril(np.ones((r, r)))) @ columns)
    if node.op == "prod":
        return ca.vec(_tree(_BINARY["mul"], columns))
    return _extreme_along(_BINARY["maximum" if node.op == "amax" else "minimum"], columns)


def _tree(combine, columns):
    """All rows combined into one, in a balanced tree, so that the expression is log(r) deep."""
    rows = [columns[i, :] for i in range(columns.shape[0])]
    while len(rows) > 1:
        pairs = [combine(a, b) for a, b in zip(rows[::2], rows[1::2], strict=False)]
        rows = pairs + rows[len(rows) - len(rows) % 2 :]
    return rows[0]


def _extreme_along(choose, columns):
    best = _tree(choose, columns)
    r = columns.shape[0]
    if r > 2:  # the tree halves a tie at each level, where torch gives every one of k equal entries 1/k
        spread = ca.repmat(best, r, 1)
        ties = ca.eq(columns, spread)
        best = best + ca.sum1(_if(ties, columns - spread)) / ca.sum1(ties)
    return ca.vec(best)
