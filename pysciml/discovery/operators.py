"""The operators of symbolic regression by PySR's names: what each is in torch, and what in SymPy.

Outside of their domain PySR's are NaN, as torch's are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch


class Operator(NamedTuple):
    """In torch a function of tensors; in SymPy a function of the module and of expressions."""

    torch: Callable[..., torch.Tensor]
    sympy: Callable[..., Any]


def _by_name(name: str) -> Operator:
    """One that is called the same in both."""
    return Operator(getattr(torch, name), lambda s, *x: getattr(s, name)(*x))


def _step(torch_test: Callable, sympy_test: Callable) -> Operator:
    """1 where a test holds, else 0."""
    return Operator(
        lambda x, y: torch_test(x, y).to(torch.result_type(x, y)),
        lambda s, x, y: s.Piecewise((1, sympy_test(s, x, y)), (0, True)),
    )


def _within(x: Any) -> Any:
    """Into (-1, 1), as `atanh_clip` does."""
    return (x + 1) % 2 - 1


OPERATORS: dict[str, Operator] = {
    "+": Operator(lambda x, y: x + y, lambda s, x, y: x + y),
    "-": Operator(lambda x, y: x - y, lambda s, x, y: x - y),
    "*": Operator(lambda x, y: x * y, lambda s, x, y: x * y),
    "/": Operator(lambda x, y: x / y, lambda s, x, y: x / y),
    "^": Operator(lambda x, y: x**y, lambda s, x, y: x**y),
    "neg": Operator(lambda x: -x, lambda s, x: -x),
    "abs": Operator(torch.abs, lambda s, x: s.Abs(x)),
    "sign": _by_name("sign"),
    "inv": Operator(lambda x: 1 / x, lambda s, x: 1 / x),
    "square": Operator(lambda x: x * x, lambda s, x: x**2),
    "cube": Operator(lambda x: x * x * x, lambda s, x: x**3),
    "sqrt": _by_name("sqrt"),
    "cbrt": Operator(lambda x: torch.sign(x) * torch.abs(x) ** (1 / 3), lambda s, x: s.sign(x) * s.cbrt(s.Abs(x))),
    "exp": _by_name("exp"),
    "log": _by_name("log"),
    "log2": Operator(torch.log2, lambda s, x: s.log(x) / s.log(2)),
    "log10": Operator(torch.log10, lambda s, x: s.log(x) / s.log(10)),
    "log1p": Operator(torch.log1p, lambda s, x: s.log(1 + x)),
    **{name: _by_name(name) for name in "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh".split()},
    "atanh_clip": Operator(lambda x: torch.atanh(_within(x)), lambda s, x: s.atanh(s.Mod(x + 1, 2) - 1)),
    "erf": Operator(torch.erf, lambda s, x: s.erf(x)),
    "erfc": Operator(torch.erfc, lambda s, x: s.erfc(x)),
    "relu": Operator(torch.relu, lambda s, x: s.Max(0, x)),
    "floor": _by_name("floor"),
    "ceil": Operator(torch.ceil, lambda s, x: s.ceiling(x)),
    "max": Operator(torch.maximum, lambda s, x, y: s.Max(x, y)),
    "min": Operator(torch.minimum, lambda s, x, y: s.Min(x, y)),
    "mod": Operator(torch.remainder, lambda s, x, y: s.Mod(x, y)),
    "greater": _step(torch.gt, lambda s, x, y: s.Gt(x, y)),
    "less": _step(torch.lt, lambda s, x, y: s.Lt(x, y)),
    "greater_equal": _step(torch.ge, lambda s, x, y: s.Ge(x, y)),
    "less_equal": _step(torch.le, lambda s, x, y: s.Le(x, y)),
    "cond": Operator(
        lambda x, y: torch.where(x > 0, y, torch.zeros_like(y)), lambda s, x, y: s.Piecewise((y, x > 0), (0, True))
    ),
    "logical_or": _step(lambda x, y: (x > 0) | (y > 0), lambda s, x, y: s.Or(x > 0, y > 0)),
    "logical_and": _step(lambda x, y: (x > 0) & (y > 0), lambda s, x, y: s.And(x > 0, y > 0)),
}  # fmt: skip
# Other spellings of the same: Julia's own names, and those that PySR prints.
SAME = {"plus": "+", "sub": "-", "mult": "*", "div": "/", "pow": "^", ">": "greater", "<": "less",
        ">=": "greater_equal", "<=": "less_equal"}  # fmt: skip
