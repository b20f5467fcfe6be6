"""Elementwise operations."""

from __future__ import annotations

import math

from pysciml.rhs.aten.common import RULES, as_node, rule

for _op in ("neg abs sign exp expm1 log log1p sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf "
            "sigmoid floor ceil").split():  # fmt: skip
    RULES[_op] = lambda b, x, _op=_op: b.unary(_op, x)
for _op in "mul pow fmod atan2 maximum minimum eq ne lt le gt ge".split():
    RULES[_op] = lambda b, x, y, _op=_op: b.binary(_op, as_node(b, x), as_node(b, y))
RULES["logical_not"] = RULES["bitwise_not"] = lambda b, x: b.unary("not", x)
RULES["logical_and"] = RULES["bitwise_and"] = lambda b, x, y: b.binary("and", as_node(b, x), as_node(b, y))
RULES["logical_or"] = RULES["bitwise_or"] = lambda b, x, y: b.binary("or", as_node(b, x), as_node(b, y))
RULES["logical_xor"] = RULES["bitwise_xor"] = lambda b, x, y: b.binary(
    "ne", b.unary("not", as_node(b, x)), b.unary("not", as_node(b, y))
)
RULES["arctan2"] = RULES["atan2"]


@rule("add")
def add(b, x, y, alpha=1):
    return b.binary("add", as_node(b, x), b.binary("mul", as_node(b, y), b.constant(alpha)))


@rule("sub")
def sub(b, x, y, alpha=1):
    return b.binary("sub", as_node(b, x), b.binary("mul", as_node(b, y), b.constant(alpha)))


@rule("rsub")
def _rsub(b, x, y, alpha=1):
    return sub(b, y, x, alpha)


@rule("div", "true_divide")
def _div(b, x, y):
    return b.binary("div", as_node(b, x), as_node(b, y))


@rule("trunc", "fix")
def trunc(b, x):
    return b.binary("mul", b.unary("sign", x), b.unary("floor", b.unary("abs", x)))


@rule("reciprocal")
def _reciprocal(b, x):
    return b.binary("div", b.constant(1.0), x)


@rule("rsqrt")
def _rsqrt(b, x):
    return _reciprocal(b, b.unary("sqrt", x))


@rule("log2")
def _log2(b, x):
    return b.binary("div", b.unary("log", x), b.constant(math.log(2.0)))


@rule("log10")
def _log10(b, x):
    return b.binary("div", b.unary("log", x), b.constant(math.log(10.0)))


@rule("exp2")
def _exp2(b, x):
    return b.unary("exp", b.binary("mul", x, b.constant(math.log(2.0))))


@rule("erfc")
def _erfc(b, x):
    return b.binary("sub", b.constant(1.0), b.unary("erf", x))


@rule("relu")
def _relu(b, x):
    # A choice and not a maximum: the derivative at 0 is then 0, as torch has it, in every lowering; and NaN stays NaN.
    zero = b.constant(0.0)
    return b.where(b.binary("le", x, zero), zero, x)


@rule("clamp", "clip")
def _clamp(b, x, min=None, max=None):
    # At min and max themselves x is chosen, whose derivative is 1, as torch has it.
    if min is not None:
        low = as_node(b, min)
        x = b.where(b.binary("lt", x, low), low, x)
    if max is not None:
        high = as_node(b, max)
        x = b.where(b.binary("gt", x, high), high, x)
    return x


RULES["clamp_min"] = _clamp
RULES["clamp_max"] = lambda b, x, max: _clamp(b, x, None, max)


@rule("where")
def _where(b, cond, x, y):
    return b.where(cond, as_node(b, x), as_node(b, y))


@rule("signbit")
def _signbit(b, x):
    return b.binary("lt", x, b.constant(0.0))


@rule("isnan")
def _isnan(b, x):
    return b.binary("ne", x, x)


@rule("isinf")
def _isinf(b, x):
    return b.binary("eq", b.unary("abs", x), b.constant(math.inf))


@rule("masked_fill")
def _masked_fill(b, x, mask, value):
    return b.where(mask, as_node(b, value), x)
