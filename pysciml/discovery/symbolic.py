"""A law as mathematics: SymPy expressions, and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from pysciml.errors import UnsupportedError

if TYPE_CHECKING:
    from pysciml.discovery.law import Law

_FORMULA = re.compile(r"[\w\s+\-*/^().,]+")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


def expressions(law: Law, digits: int | None) -> dict[str, Any]:
    """The right-hand side of each target, by its name.

    The names of terms are read as formulas, and each is held against what the library computes: a name that means
    something else is refused.

    Raises:
        UnsupportedError: a term whose name is no formula of it.
    """
    import sympy

    terms = [term(law, j) if law.coefficients[:, j].any() else None for j in range(len(law.terms))]
    found = {}
    for name, row in zip(law.targets, law.coefficients.tolist(), strict=True):
        used = [(c, expression) for c, expression in zip(row, terms, strict=True) if c]
        found[name] = sum((_number(c, digits) * expression for c, expression in used), sympy.Integer(0))
    return found


def term(law: Law, j: int) -> Any:
    """The j-th term of a law's library as an expression of symbols with the states' names."""
    import sympy
    from sympy.parsing import sympy_parser as parser

    symbols = {name: sympy.Symbol(name) for name in law.names}
    if not _FORMULA.fullmatch(law.terms[j]) or "__" in law.terms[j]:  # SymPy evaluates what it reads
        raise _unreadable(law, j, "a formula")
    text = re.sub(r"([⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda m: "**" + m[1].translate(_SUPERSCRIPTS), law.terms[j])
    rules = (*parser.standard_transformations, parser.implicit_multiplication, parser.convert_xor)
    try:
        expression = parser.parse_expr(text, local_dict=symbols, transformations=rules)
    except (SyntaxError, TypeError, ValueError, AttributeError):
        raise _unreadable(law, j, "a formula") from None
    if expression.free_symbols - set(symbols.values()):
        raise _unreadable(law, j, f"a formula of {', '.join(law.names)}")
    values = torch.rand(8, len(law.names), generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    truth = law.library.evaluate(values)[:, j]
    f = sympy.lambdify(list(symbols.values()), expression, "math")
    ours = torch.tensor([float(f(*row)) for row in values.tolist()], dtype=torch.float64)
    if not torch.allclose(ours, truth.double(), rtol=1e-9, atol=1e-12):
        raise _unreadable(law, j, "what the term computes")
    return expression


def latex(formulas: Mapping[str, Any]) -> str:
    """SymPy's expressions, by what they are of, as LaTeX: one a line of an `aligned` block where there are several."""
    import sympy

    sides = [(_latex_name(name), sympy.latex(value)) for name, value in formulas.items()]
    if len(sides) == 1:
        return " = ".join(sides[0])
    lines = [f"{left} &= {right}" for left, right in sides]
    return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"


def _latex_name(name: str) -> str:
    """`dx/dt` as a fraction, other names as SymPy writes them."""
    import sympy

    top, slash, bottom = name.partition("/")
    return rf"\frac{{{top}}}{{{bottom}}}" if slash else sympy.latex(sympy.Symbol(name))


def _number(c: float, digits: int | None) -> Any:
    import sympy

    return sympy.Float(c) if digits is None else sympy.Float(c, digits)


def _unreadable(law: Law, j: int, expected: str) -> UnsupportedError:
    return UnsupportedError(
        f"the term {law.terms[j]!r} cannot be written as mathematics: its name is not {expected}.",
        got=law.terms[j], expected="names such as 'x y', 'x**2 / (1 + y)' or 'sin(x)'",
        fix='library={"sin(x)": lambda x, y: torch.sin(x)}',
    )  # fmt: skip
