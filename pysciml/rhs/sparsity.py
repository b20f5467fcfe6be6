"""Which states each derivative depends on, read off a Graph, and how few products find all of a sparse Jacobian.

A pattern is a (n, n) boolean matrix in scipy's CSR form: row i holds the states that output i may depend on, through
values or through the choices of `where`. It can hold too much, never too little.

References: Curtis, Powell and Reid, "On the estimation of sparse Jacobian matrices", IMA J. Appl. Math. 13 (1974);
Gebremedhin, Manne and Pothen, "What color is your Jacobian?", SIAM Review 47 (2005).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pysciml.rhs.graph import REDUCTIONS, Graph, Node


@dataclass(frozen=True, eq=False)
class Sparsity:
    """Places of a sparse Jacobian, column by column, as compressed sparse columns have them.

    Attributes:
        rows, cols: (nnz,) places, columns in order and rows in order within each; the diagonal is always among them.
        pointers: (n + 1,) where each column begins.
        colors: (n,) rows of equal color share no column, so one product from the left finds all of them.
    """

    rows: np.ndarray
    cols: np.ndarray
    pointers: np.ndarray
    colors: np.ndarray

    @property
    def size(self) -> int:
        return self.rows.size

    def seeds(self) -> np.ndarray:
        """The (colors, n) vectors whose products with the Jacobian from the left hold all of its entries."""
        return (np.arange(self.colors.max() + 1)[:, None] == self.colors).astype(float)


def sparsity(graph: Graph) -> Sparsity:
    """The sparsity of the Jacobian in u of a graph of n outputs and n states.

    Example:
        >>> from pysciml.rhs.graph import Builder
        >>> b = Builder()
        >>> u = b.input("u", (3,))
        >>> found = sparsity(b.graph(b.view(u, lambda i: i[[0, 0, 1]])))  # (u0, u0, u1)
        >>> [(int(i), int(j)) for i, j in zip(found.rows, found.cols)]
        [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2)]
    """
    from scipy import sparse

    n = graph.output.size
    pattern = (dependence(graph) + sparse.identity(n, dtype=bool, format="csr")).tocsc()
    pattern.sort_indices()
    cols = np.repeat(np.arange(n), np.diff(pattern.indptr))
    return Sparsity(pattern.indices.astype(np.int64), cols, pattern.indptr.astype(np.int64), _colors(pattern.tocsr()))


def _colors(pattern: Any) -> np.ndarray:
    """Rows in order, each of the first color that none with a column in common has."""
    counts = pattern.astype(np.int32)
    neighbours = (counts @ counts.T).tocsr()
    colors = np.full(pattern.shape[0], -1)
    for row in range(colors.size):
        taken = set(colors[neighbours.indices[neighbours.indptr[row] : neighbours.indptr[row + 1]]])
        colors[row] = next(c for c in range(colors.size) if c not in taken)
    return colors


def dependence(graph: Graph) -> Any:
    """The pattern of the output, a scipy CSR matrix of booleans."""
    from scipy import sparse

    n = graph.inputs["u"].size
    found: dict[Node, Any] = {}
    for node in graph.nodes:
        if node.op in ("input", "constant"):
            own = node is graph.inputs["u"]
            found[node] = sparse.identity(n, dtype=bool, format="csr") if own else _nothing(node.size, n)
        else:
            found[node] = _combined(node, [found[a] for a in node.args])
    return found[graph.output]


def _combined(node: Node, args: list[Any]) -> Any:
    from scipy import sparse

    if node.op == "reshape":
        return args[0]
    if node.op == "gather":
        return sparse.vstack([*args, _nothing(1, args[0].shape[1])], format="csr")[node.data]
    if node.op == "scatter_add":
        size = node.args[0].size
        into = sparse.csr_matrix((np.ones(size, bool), (node.data, np.arange(size))), shape=(node.size, size))
        return into @ args[0]
    if node.op == "matmul":
        return _product(node, *args)
    if node.op in REDUCTIONS:
        rows, cols = node.args[0].shape
        return _repeated(_any_of(args[0], rows, cols), node.size // rows)  # cumsum has as many as it takes
    return _union([_repeated(x, node.size) if a.size == 1 else x for a, x in zip(node.args, args, strict=True)])


def _product(node: Node, left: Any, right: Any) -> Any:
    """Of (b, m, k) x (b, k, n). Zeros in a constant operand, such as a matrix of differences, keep things apart."""
    from scipy import sparse

    a, b = node.args
    (batch, m, _), n = a.shape, b.shape[2]
    of_a = a.data != 0 if a.op == "constant" else np.ones(a.shape, bool)
    of_b = b.data != 0 if b.op == "constant" else np.ones(b.shape, bool)
    # out[i, j] takes b[l, j] where a[i, l] is not zero, and a[i, l] where b[l, j] is not.
    takes_b = [sparse.kron(of_a[i], sparse.identity(n, dtype=bool)) for i in range(batch if right.nnz else 0)]
    takes_a = [sparse.kron(sparse.identity(m, dtype=bool), of_b[i].T) for i in range(batch if left.nnz else 0)]
    parts = [sparse.block_diag(blocks) @ x for blocks, x in ((takes_b, right), (takes_a, left)) if blocks]
    return _union(parts) if parts else _nothing(node.size, left.shape[1])


def _any_of(x: Any, rows: int, cols: int) -> Any:
    """The union of each `cols` consecutive rows."""
    from scipy import sparse

    return sparse.kron(sparse.identity(rows, dtype=bool), np.ones((1, cols), bool), format="csr") @ x


def _repeated(x: Any, times: int) -> Any:
    """Each row so many times."""
    return x if times == 1 else x[np.repeat(np.arange(x.shape[0]), times)]


def _union(patterns: list[Any]) -> Any:
    total = patterns[0]
    for x in patterns[1:]:
        total = total + x
    return total.tocsr()


def _nothing(rows: int, n: int) -> Any:
    from scipy import sparse

    return sparse.csr_matrix((rows, n), dtype=bool)
