"""An expression as symbolic regression prints it: read, evaluated in torch, written as SymPy and as text."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pysciml.discovery.operators import OPERATORS, SAME
from pysciml.errors import UnsupportedError


@dataclass(frozen=True)
class State:
    """The state at a place."""

    place: int


@dataclass(frozen=True)
class Constant:
    """The constant at a place, which can be fitted."""

    place: int


@dataclass(frozen=True)
class Whole:
    """A whole number as an exponent, which cannot: the power of a negative number has no derivative by it."""

    value: int


@dataclass(frozen=True)
class Call:
    """An operator of other nodes."""

    name: str
    arguments: tuple[Node, ...]


Node = State | Constant | Whole | Call


@dataclass(frozen=True)
class Expression:
    """A tree of operators over the states, with its constants apart.

    Attributes:
        tree: its root. constants: their values, in the order in which they are read.
    """

    tree: Node
    constants: tuple[float, ...]

    def evaluate(
        self, states: torch.Tensor, constants: Sequence[torch.Tensor], own: Mapping[str, Callable]
    ) -> torch.Tensor:
        """Values (...,) at states (..., d) with these constants (scalars). `own`: the user's operators, in torch."""
        columns = states.unbind(-1)
        functions = {name: operator.torch for name, operator in OPERATORS.items()} | dict(own)

        def value(node: Node) -> Any:
            if isinstance(node, State):
                return columns[node.place]
            if isinstance(node, Constant):
                return constants[node.place]
            if isinstance(node, Whole):
                return node.value
            return functions[node.name](*map(value, node.arguments))

        return torch.broadcast_to(value(self.tree), states.shape[:-1])

    def sympy(self, names: Sequence[str], digits: int | None, own: Mapping[str, Callable]) -> Any:
        """The expression of symbols with these names, its constants to `digits`."""
        import sympy

        def value(node: Node) -> Any:
            if isinstance(node, State):
                return sympy.Symbol(names[node.place])
            if isinstance(node, Constant):
                c = self.constants[node.place]
                return sympy.Float(c) if digits is None else sympy.Float(c, digits)
            if isinstance(node, Whole):
                return sympy.Integer(node.value)
            arguments = list(map(value, node.arguments))
            if node.name in own:
                return _of_symbols(node.name, own[node.name], arguments)
            return OPERATORS[node.name].sympy(sympy, *arguments)

        return value(self.tree)

    def text(self, names: Sequence[str], constants: Sequence[float] | None = None) -> str:
        """The expression in plain text, its constants to four digits."""
        return _written(self.tree, names, self.constants if constants is None else constants)[0]


def _of_symbols(name: str, f: Callable, arguments: Sequence[Any]) -> Any:
    """The user's operator of SymPy's expressions: what its function makes of them, or its name."""
    import sympy

    try:
        return sympy.sympify(f(*arguments))
    except (TypeError, AttributeError, sympy.SympifyError):  # torch's functions take tensors alone
        return sympy.Function(name)(*arguments)


# Reading. Python's grammar is that of PySR's output, but for `^`.

_BINARY = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "^"}
_COMPARED = {ast.Gt: "greater", ast.Lt: "less", ast.GtE: "greater_equal", ast.LtE: "less_equal"}


def read(text: str, names: Sequence[str], own: Mapping[str, Callable] | None = None) -> Expression:
    """The expression of an equation as PySR prints it, of variables with these names.

    Raises:
        UnsupportedError: it has an operator or a name that is not known.
    """
    places, constants = {name: i for i, name in enumerate(names)}, []
    known = {**OPERATORS, **(own or {})}

    def constant(value: float) -> Node:
        constants.append(float(value))
        return Constant(len(constants) - 1)

    def node(x: ast.AST) -> Node:
        value = _number(x)
        if value is not None:
            return constant(value)
        if isinstance(x, ast.Name) and x.id in places:
            return State(places[x.id])
        name, arguments = _operation(x)
        name = SAME.get(name, name)
        if name not in known:
            raise _unknown(text, name, own)
        if name == "^":
            exponent = _number(arguments[1])
            if exponent is not None and exponent == int(exponent):
                return Call(name, (node(arguments[0]), Whole(int(exponent))))
        return Call(name, tuple(map(node, arguments)))

    try:
        body = ast.parse(text.replace("^", "**"), mode="eval").body
    except SyntaxError:
        raise _unknown(text, text, own) from None
    return Expression(node(body), tuple(constants))


def _number(x: ast.AST) -> float | None:
    """The value of a number with its sign, None of anything else."""
    if isinstance(x, ast.UnaryOp) and isinstance(x.op, ast.USub):
        value = _number(x.operand)
        return None if value is None else -value
    return float(x.value) if isinstance(x, ast.Constant) and isinstance(x.value, (int, float)) else None


def _operation(x: ast.AST) -> tuple[str, list[ast.AST]]:
    """An operator's name and its arguments; what is none of the grammar has the name of its Python."""
    if isinstance(x, ast.BinOp) and type(x.op) in _BINARY:
        return _BINARY[type(x.op)], [x.left, x.right]
    if isinstance(x, ast.UnaryOp) and isinstance(x.op, ast.USub):
        return "neg", [x.operand]
    if isinstance(x, ast.Call) and isinstance(x.func, ast.Name):
        return x.func.id, list(x.args)
    if isinstance(x, ast.Compare) and len(x.ops) == 1 and type(x.ops[0]) in _COMPARED:
        return _COMPARED[type(x.ops[0])], [x.left, x.comparators[0]]
    return ast.unparse(x), []


def _unknown(text: str, name: str, own: Mapping[str, Callable] | None) -> UnsupportedError:
    return UnsupportedError(
        f"`{name}` is no operator that is known in torch.",
        got=text,
        expected=", ".join([*OPERATORS, *(own or {})]),
        fix=f'functions={{"{name.partition("(")[0] or "mine"}": lambda x: ...}}  # what it is in torch',
    )


# Writing.

_SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(5)
_RANK = {"+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "^": _POWER}


def _written(node: Node, names: Sequence[str], constants: Sequence[float]) -> tuple[str, int]:
    """The text of a node, and how strongly its parts hold together."""
    if isinstance(node, State):
        return names[node.place], _ATOM
    if isinstance(node, (Constant, Whole)):
        text = f"{constants[node.place]:.4g}" if isinstance(node, Constant) else str(node.value)
        return text, _SIGN if text.startswith("-") else _ATOM
    parts = [_written(x, names, constants) for x in node.arguments]
    if node.name in ("+", "-") and isinstance(node.arguments[1], Constant) and parts[1][0].startswith("-"):
        return f"{_bracketed(parts[0], _SUM)} {'-' if node.name == '+' else '+'} {parts[1][0][1:]}", _SUM
    if node.name in _RANK:
        rank = _RANK[node.name]
        left = _bracketed(parts[0], rank + (node.name == "^"))
        right = _bracketed(parts[1], rank + (node.name != "+" and node.name != "*"))
        return f"{left} {node.name} {right}", rank
    if node.name == "neg":
        return f"-{_bracketed(parts[0], _PRODUCT)}", _SIGN
    return f"{node.name}({', '.join(text for text, _ in parts)})", _ATOM


def _bracketed(part: tuple[str, int], least: int) -> str:
    text, rank = part
    return text if rank >= least else f"({text})"


def known_operators(binary: Sequence[str], unary: Sequence[str], own: Mapping[str, Callable]) -> None:
    """Raises UnsupportedError for an operator that is not known in torch, before a search that may find it."""
    for text in (*binary, *unary):
        name = text.partition("(")[0].strip()
        if SAME.get(name, name) not in {**OPERATORS, **own}:
            raise _unknown(text, name, own)
