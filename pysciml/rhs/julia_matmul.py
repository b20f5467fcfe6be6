"""Julia text of products: short sums in full, package functions for matrices with a vector, BLAS where it is faster."""

from __future__ import annotations

from dataclasses import dataclass

from pysciml.rhs.julia_boxes import Strides, contiguous
from pysciml.rhs.julia_text import Place, at, loop, loops

# Sums of at most this many products are written in full.
_SHORT = 8
# A result of at most this many columns is computed by one loop down its rows.
_NARROW = 4
# From this many multiplications on, with both sides of the result wider than 1, a product goes to BLAS; where its sums
# are short, from this many.
_GEMM, _GEMM_OF_SHORT = 2_000, 20_000
# From this many elements of the matrix on, a product with a vector goes to BLAS.
_GEMV = 1 << 62


@dataclass(frozen=True)
class Operand:
    """An array in memory: the strides of its axes, and of the axes bound to variables of loops around."""

    place: Place
    strides: Strides
    bound: tuple[tuple[int, str], ...] = ()

    def __call__(self, *indices: str) -> str:
        """An element. An index is a loop variable or a 0-based number as text."""
        start, terms = self.strides.start, list(self.bound)
        for step, index in zip(self.strides.steps, indices, strict=True):
            if index.isdecimal():
                start += step * int(index)
            else:
                terms.append((step, index))
        return at(self.place, Strides(start, tuple(step for step, _ in terms)), [name for _, name in terms])

    @property
    def address(self) -> str:
        """The address of its first element."""
        return "&" + self(*("0" for _ in self.strides.steps))

    def bind(self, variable: str, axis: int = 0) -> Operand:
        """The operand without one axis, whose place on it is a variable of a loop around."""
        steps = self.strides.steps
        left = Strides(self.strides.start, steps[:axis] + steps[axis + 1 :])
        return Operand(self.place, left, (*self.bound, (steps[axis], variable)))

    def swapped(self) -> Operand:
        """The operand with its last two axes exchanged."""
        *first, one, two = self.strides.steps
        return Operand(self.place, Strides(self.strides.start, (*first, two, one)), self.bound)


def matmul(out: Place, a: Operand, b: Operand, shape: tuple[int, int, int, int]) -> list[str]:
    """out[s, i, j] = sum over l of a[s, i, l] * b[s, l, j], for shape (batch, m, k, n)."""
    batch, m, k, n = shape
    c, a, b = Operand(out, contiguous((batch, m, n))).bind("b"), a.bind("b"), b.bind("b")
    if k == 0:
        return loops(["i"], [batch * m * n], [f"{at(out, Strides(0, (1,)), 'i')} = zero(t)"])
    body = _one(c, a, b, m, k, n)
    head = f"# ({m}, {k}) times ({k}, {n})" + (f", {batch} times" if batch > 1 else "")
    return [head, *(loop("b", batch, body) if batch > 1 else body)]


def _one(c: Operand, a: Operand, b: Operand, m: int, k: int, n: int) -> list[str]:
    call = _blas(c, a, b, m, k, n)
    if call:
        return [call]
    if n == 1:
        return _vector(c.bind("a", 1), a, b.bind("a", 1), m, k)
    if m == 1:
        return _vector(c.bind("a"), b.swapped(), a.bind("a"), n, k)
    if k <= _SHORT and n <= _NARROW and m > n:
        sums = (_sum([(a("i", str(q)), b(str(q), str(j))) for q in range(k)]) for j in range(n))
        return loops(["i"], [m], [f"{c('i', str(j))} = {value}" for j, value in enumerate(sums)])
    if k == 1:
        (a_step, _), (_, b_step) = a.strides.steps, b.strides.steps
        return [f"outer!({c.address}, {a.address}, {a_step}, {b.address}, {b_step}, {m}, {n})"]
    return loop("a", m, _vector(c.bind("a"), b.swapped(), a.bind("a"), n, k))


def _vector(c: Operand, matrix: Operand, vector: Operand, m: int, k: int) -> list[str]:
    """c = matrix times vector."""
    (c_step,), (down, along), (step,) = c.strides.steps, matrix.strides.steps, vector.strides.steps
    if k <= _SHORT:
        i = "i" if m > 1 else "0"
        line = f"{c(i)} = {_sum([(matrix(i, str(q)), vector(str(q))) for q in range(k)])}"
        return loops(["i"], [m], [line]) if m > 1 else [line]
    if c_step == 1 or m == 1:
        if along == 1:
            return [f"rows!({c.address}, {matrix.address}, {down}, {vector.address}, {step}, {m}, {k})"]
        if down == 1 or m == 1:
            return [f"columns!({c.address}, {matrix.address}, {along}, {vector.address}, {step}, {m}, {k})"]
    sums = loop("i", k, [f"s = muladd({matrix('j', 'i')}, {vector('i')}, s)"], "@simd ")
    return loop("j", m, ["s = zero(t)", *sums, f"{c('j')} = s"])


def _sum(products: list[tuple[str, str]]) -> str:
    (x, y), *rest = products
    value = f"{x} * {y}"
    for x, y in rest:
        value = f"muladd({x}, {y}, {value})"
    return value


def _blas(c: Operand, a: Operand, b: Operand, m: int, k: int, n: int) -> str | None:
    """A call of gemm, if the product is large and one axis of each operand runs along memory."""
    if m * k * n < (_GEMV if 1 in (m, n) else _GEMM_OF_SHORT if k <= _SHORT else _GEMM):
        return None
    sides = []
    for x, (rows, columns) in ((a, (m, k)), (b, (k, n))):
        down, along = x.strides.steps
        if (along == 1 or columns == 1) and (down >= columns or rows == 1):
            sides.append(f"{x.address}, {max(down, columns)}, 1")
        elif (down == 1 or rows == 1) and (along >= rows or columns == 1):
            sides.append(f"{x.address}, {max(along, rows)}, 0")
        else:
            return None
    return f"gemm!({c.address}, {sides[0]}, {sides[1]}, {m}, {k}, {n})"
