"""Pieces of Julia text, for `lower_julia`: addresses, expressions, loops.

Indices here are 0-based, as in a Graph; `at` is the one place that makes them Julia's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pysciml.rhs.graph import Node
from pysciml.rhs.julia_boxes import Strides

# The names of loop variables, outermost first; the last ones are taken, so that the innermost is always `i`.
VARIABLES = ("b", "a", "j", "i")


@dataclass(frozen=True)
class Place:
    """Where an array starts: `array[offset + 1]` in Julia."""

    array: str
    offset: int

    def moved(self, by: int) -> Place:
        return Place(self.array, self.offset + by)


def at(place: Place, index: Strides, variables: Sequence[str] = ()) -> str:
    """`array[...]`, the element at strides times (1-based) loop variables.

    >>> at(Place("w", 10), Strides(2, (4, 1)), ("j", "i"))
    'w[8 + 4 * j + i]'
    """
    terms = [(step, name) for step, name in zip(index.steps, variables, strict=True) if step]
    start = place.offset + index.start + 1 - sum(step for step, _ in terms)
    words = [name if step == 1 else f"{step} * {name}" for step, name in terms]
    if start or not words:
        words.insert(0, str(start))
    return f"{place.array}[{' + '.join(words)}]"


def through(place: Place, index: str) -> str:
    """An element found through a table of 1-based indices."""
    return f"{place.array}[{f'{place.offset} + ' if place.offset else ''}{index}]"


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_SAFE = {
    # Where Julia throws torch says NaN, and some of Julia's do not vectorize: those of PySciML do as torch does.
    "exp": "exp_", "tanh": "tanh_", "log": "log_", "log1p": "log1p_", "sqrt": "sqrt_", "asin": "asin_",
    "acos": "acos_", "acosh": "acosh_", "atanh": "atanh_", "sin": "sin_", "cos": "cos_", "tan": "tan_", "pow": "pow_",
    "fmod": "rem_", "not": "not_", "and": "and_", "or": "or_", "where": "where_", "atan2": "atan", "maximum": "max",
    "minimum": "min", "sign": "sign_",
}  # fmt: skip
_POWERS = {1.0: "{0}", 2.0: "square({0})", 3.0: "cube({0})", 0.5: "sqrt_({0})", -1.0: "inv({0})"}


def expression(node: Node, args: Sequence[str]) -> str:
    """An elementwise operation on expressions; what binds less than a call is in parentheses."""
    op = node.op
    if op == "copied":
        return args[0]
    if op in _INFIX:
        return f"({args[0]} {_INFIX[op]} {args[1]})"
    if op == "neg":
        return f"(-{args[0]})"
    if op == "pow" and node.args[1].op == "constant":
        exponents = np.unique(np.asarray(node.args[1].data))
        if exponents.size == 1 and float(exponents[0]) in _POWERS:
            return _POWERS[float(exponents[0])].format(args[0])
    return f"{_SAFE.get(op, op)}({', '.join(args)})"


def added(values: Sequence[str]) -> str:
    """The sum of expressions, in pairs, so that additions wait for each other as little as can be.

    >>> added(["a", "b", "c"])
    '(a + (b + c))'
    """
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return f"({added(values[:half])} + {added(values[half:])})"


def bare(value: str) -> str:
    """An expression without parentheses around all of it."""
    depth = 0
    if not value.startswith("("):
        return value
    for position, letter in enumerate(value):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return value[1:-1] if position == len(value) - 1 else value
    return value


def loop(variable: str, count: int, body: Sequence[str], simd: str = "") -> list[str]:
    """A loop from 1 to `count`. `simd`: "@simd " for a sum in any order, "@simd ivdep " for steps apart in memory."""
    return [f"{simd}for {variable} in 1:{count}", *(f"    {line}" for line in body), "end"]


def loops(variables: Sequence[str], counts: Sequence[int], body: list[str]) -> list[str]:
    """Nested loops whose steps have nothing to do with each other; only the innermost is for the vector unit."""
    simd = "@simd ivdep "
    for variable, count in reversed(list(zip(variables, counts, strict=True))):
        body, simd = loop(variable, count, body, simd), ""
    return body


def function(lines: Sequence[str]) -> str:
    """The whole function, of the signature every compiled form has."""
    body = "".join(f"    {line}\n" for line in lines)
    return f"function (out, v, u, p, t, w, c, k)\n{body}    return 0\nend\n"


def scatter_add(out: Place, size: int, source: Place, table: Place, count: int) -> list[str]:
    """out .= 0, then out[table[i]] += source[i]."""
    one = Strides(0, (1,))
    target = through(out, at(table, one, "i"))
    return [*loop("i", size, [f"{at(out, one, 'i')} = zero(t)"], "@simd ivdep "),
            *loop("i", count, [f"{target} = {target} + {at(source, one, 'i')}"])]  # fmt: skip


def move(out: Place, targets: Place, source: Place, sources: Place, count: int) -> list[str]:
    """out[targets[i]] = source[sources[i]], all targets different."""
    one = Strides(0, (1,))
    line = f"{through(out, at(targets, one, 'i'))} = {through(source, at(sources, one, 'i'))}"
    return loop("i", count, [line], "@simd ivdep ")


_START = {"sum": "zero(t)", "cumsum": "zero(t)", "prod": "one(t)", "amax": "-typemax(t)", "amin": "typemax(t)"}
_STEP = {
    "sum": "{0} + {1}", "cumsum": "{0} + {1}", "prod": "{0} * {1}", "amax": "max({0}, {1})", "amin": "min({0}, {1})",
}  # fmt: skip


def start_of(op: str) -> str:
    """What a reduction starts from."""
    return _START[op]


def step_of(op: str, total: str, value: str) -> str:
    """One step of a reduction."""
    return _STEP[op].format(total, value)
