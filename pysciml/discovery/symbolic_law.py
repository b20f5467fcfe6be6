"""What symbolic regression found: formulas from the simplest to the most exact, and the one chosen of them."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from pysciml.discovery.expression import Expression, read
from pysciml.discovery.samples import checked, named
from pysciml.discovery.symbolic import latex
from pysciml.errors import InvalidInputError


@dataclass(frozen=True)
class Formula:
    """One formula of a Pareto front.

    Attributes:
        complexity: the number of its operators, constants and states, as PySR counts. loss: PySR's, by default the mean
            squared error. score: the fall of log(loss) for each step of complexity from the formula before. r2: share
            of the samples' variance it explains. expression: the formula.
    """

    complexity: int
    loss: float
    score: float
    r2: float
    expression: Expression = field(repr=False)


Front = tuple[Formula, ...]


@dataclass(frozen=True, eq=False)
class SymbolicLaw:
    """What `discover_symbolic` returns. Call it to evaluate the law: `law(states)`, (..., d) to (..., targets).

    Attributes:
        names, targets: of the states and of what was explained. fronts: for each target its formulas, from the simplest
            to the most exact. chosen: the place of each target's formula in its front. functions: the operators of
            one's own, in torch.
    """

    names: tuple[str, ...]
    targets: tuple[str, ...]
    fronts: tuple[Front, ...]
    chosen: tuple[int, ...]
    functions: Mapping[str, Callable] = field(default_factory=dict, repr=False)

    @classmethod
    def from_tables(
        cls,
        tables: Any,
        inputs: torch.Tensor,
        outputs: torch.Tensor,
        *,
        names: Sequence[str] | None = None,
        targets: Sequence[str] | None = None,
        variables: Sequence[str] | None = None,
        functions: Mapping[str, Callable] | None = None,
        model_selection: str = "best",
        precision: int = 32,
    ) -> SymbolicLaw:
        r"""The law of a search that PySR has already done: of `model.equations_`.

        Args:
            tables: PySR's table of equations, or one a target: DataFrames, or lists of rows with `complexity`, `loss`,
                `equation` and `score`. inputs, outputs: the samples, as of `discover_symbolic`.
            names, targets: of the states and of the outputs. variables: what the states are called in the equations;
                None is PySR's x0, x1, ...
            functions, model_selection: as of `discover_symbolic`. precision: of the search, in bits.

        Raises:
            InvalidInputError: samples, names or a number of tables that do not fit, or an empty table.
            UnsupportedError: an equation with an operator that is not known in torch.

        Example:
            >>> import torch
            >>> from pysciml.discovery import SymbolicLaw
            >>> x = torch.linspace(0, 1, 20, dtype=torch.float64)[:, None]
            >>> rows = [{"complexity": 1, "loss": 0.02, "score": 0.0, "equation": "x0"},
            ...         {"complexity": 4, "loss": 1e-9, "score": 5.6, "equation": "x0 / (x0 + 1.0)"}]
            >>> law = SymbolicLaw.from_tables(rows, x, x / (1 + x), names=("s",), targets=("ds/dt",))
            >>> law.equations, law.latex(2), law.module().constants.tolist()
            (['ds/dt = s / (s + 1)'], '\\frac{ds}{dt} = \\frac{s}{s + 1.0}', [1.0])
        """
        x, y = checked(inputs, outputs, "inputs", "outputs")
        names, targets = named(names, x.shape[1], "names", "x"), named(targets, y.shape[1], "targets", "y")
        variables, own = named(variables, x.shape[1], "variables", "x"), dict(functions or {})
        listed = _tables(tables, len(targets))
        fronts = tuple(front_of(table, variables, own, x, y[:, j]) for j, table in enumerate(listed))
        rounding = [_rounding(y[:, j], precision) for j in range(len(targets))]
        chosen = tuple(selected(front, model_selection, r) for front, r in zip(fronts, rounding, strict=True))
        return cls(names, targets, fronts, chosen, own)

    @property
    def formulas(self) -> list[Formula]:
        """The formula of each target."""
        return [front[i] for front, i in zip(self.fronts, self.chosen, strict=True)]

    @property
    def equations(self) -> list[str]:
        """One formula a target, in plain text."""
        pairs = zip(self.targets, self.formulas, strict=True)
        return [f"{target} = {formula.expression.text(self.names)}" for target, formula in pairs]

    @property
    def r2(self) -> torch.Tensor:
        """(targets,) share of each target's variance that its formula explains."""
        return torch.tensor([formula.r2 for formula in self.formulas], dtype=torch.float64)

    def choose(self, target: int | str, complexity: int) -> SymbolicLaw:
        """The law with another formula of one target: that of this complexity.

        Raises:
            InvalidInputError: there is none, or no such target.
        """
        if isinstance(target, str) and target not in self.targets:
            raise InvalidInputError("the law has no such target.", got=target, expected=", ".join(self.targets))
        i = self.targets.index(target) if isinstance(target, str) else target
        there = [formula.complexity for formula in self.fronts[i]]
        if complexity not in there:
            raise InvalidInputError("no formula has this complexity.", got=f"complexity={complexity!r}",
                                    expected=", ".join(map(str, there)))  # fmt: skip
        return replace(self, chosen=(*self.chosen[:i], there.index(complexity), *self.chosen[i + 1 :]))

    def sympy(self, digits: int | None = None) -> dict[str, Any]:
        """The law as SymPy expressions of the states' names, by target; constants to `digits`, or as they are."""
        pairs = zip(self.targets, self.formulas, strict=True)
        return {t: formula.expression.sympy(self.names, digits, self.functions) for t, formula in pairs}

    def latex(self, digits: int = 4) -> str:
        """The equations in LaTeX."""
        return latex(self.sympy(digits))

    def module(self, dtype: torch.dtype = torch.float64) -> SymbolicModule:
        """The law as a torch module whose constants can be fitted, to stand in f where the network stood."""
        return SymbolicModule(self, dtype)

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        values = [value_at(f.expression, states, self.functions) for f in self.formulas]
        return torch.stack(values, dim=-1)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """One row a formula of each front, the chosen one marked by a star."""
        for target, front, chosen in zip(self.targets, self.fronts, self.chosen, strict=True):
            for i, f in enumerate(front):
                numbers = (str(f.complexity), f"{f.loss:.3g}", f"{f.score:.3g}", f"{f.r2:.3f}")
                yield "*" * (i == chosen), target, *numbers, f.expression.text(self.names)

    def __repr__(self) -> str:
        rows = [_HEADER, *self.rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
        table = [" " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join(["SymbolicLaw", *(f"  {e}" for e in self.equations), "", *table, f"  {_CHOICE}"])

    def _repr_html_(self) -> str:
        formulas = "".join(f"<div><b>{html.escape(e)}</b></div>" for e in self.equations)
        cell = "<{0} style='text-align:left'>{1}</{0}>".format
        head = "".join(cell("th", html.escape(x)) for x in _HEADER)
        body = "".join("<tr>" + "".join(cell("td", html.escape(x)) for x in row) + "</tr>" for row in self.rows())
        return f"{formulas}<table><tr>{head}</tr>{body}</table><div>{html.escape(_CHOICE)}</div>"


_HEADER = ("", "target", "complexity", "loss", "score", "R²", "formula")
_CHOICE = "* chosen; law.choose(target, complexity) takes another"


class SymbolicModule(torch.nn.Module):
    """The formulas with their constants as a parameter `constants` (m,), targets after each other.

    Stands where the network stood: `law.module()(states)` is (..., targets) for states (..., d). Whole numbers that are
    exponents stay as they are.
    """

    def __init__(self, law: SymbolicLaw, dtype: torch.dtype):
        super().__init__()
        self.states, self.targets, self.functions = law.names, law.targets, dict(law.functions)
        self.expressions = [formula.expression for formula in law.formulas]
        values = [c for expression in self.expressions for c in expression.constants]
        self.constants = torch.nn.Parameter(torch.tensor(values, dtype=dtype)) if values else None

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        pairs = zip(self.expressions, self._shares(), strict=True)
        return torch.stack([e.evaluate(states, constants, self.functions) for e, constants in pairs], dim=-1)

    @property
    def equations(self) -> list[str]:
        """One formula a target, with the constants as they are now."""
        triples = zip(self.targets, self.expressions, self._shares(), strict=True)
        return [f"{target} = {e.text(self.states, [c.item() for c in constants])}" for target, e, constants in triples]

    def _shares(self) -> list[Sequence[torch.Tensor]]:
        """The constants of each formula."""
        if self.constants is None:
            return [()] * len(self.expressions)
        counts = [len(e.constants) for e in self.expressions]
        return [part.unbind() for part in self.constants.split(counts)]

    def extra_repr(self) -> str:
        return "\n".join(self.equations)


def value_at(expression: Expression, states: torch.Tensor, functions: Mapping[str, Callable]) -> torch.Tensor:
    """The values of an expression with its own constants."""
    constants = torch.tensor(expression.constants, dtype=states.dtype, device=states.device).unbind()
    return expression.evaluate(states, constants, functions)


def _tables(tables: Any, count: int) -> list[list[Mapping[str, Any]]]:
    """One list of rows a target."""
    single = hasattr(tables, "to_dict") or (len(tables) > 0 and isinstance(tables[0], Mapping))
    listed = [list(t.to_dict("records") if hasattr(t, "to_dict") else t) for t in ([tables] if single else tables)]
    if len(listed) != count or not all(listed):
        raise InvalidInputError("there must be one table of equations a target, with a row at least.",
                                got=f"tables of {[len(t) for t in listed]} rows for {count} targets",
                                fix="SymbolicLaw.from_tables(model.equations_, inputs, outputs)")  # fmt: skip
    return listed


def _rounding(values: torch.Tensor, precision: int) -> float:
    """A mean squared error at which formulas differ in rounding alone, in numbers of so many bits."""
    eps = torch.finfo({16: torch.float16, 64: torch.float64}.get(precision, torch.float32)).eps
    return (100 * eps) ** 2 * float(values.square().mean())


def front_of(
    rows: Iterable[Mapping[str, Any]],
    variables: Sequence[str],
    functions: Mapping[str, Callable],
    states: torch.Tensor,
    values: torch.Tensor,
) -> Front:
    """A front from PySR's table of equations: of each its `complexity`, `loss`, `equation` and, if it has one, `score`.

    Args:
        variables: as they are called in the equations. states: (n, d). values: (n,) of this target there.
    """
    variance = max(float(values.var(correction=0)), torch.finfo(torch.float64).tiny)
    front = []
    for row in rows:
        expression = read(str(row["equation"]), variables, functions)
        error = float((value_at(expression, states, functions) - values).square().mean())
        score = float(row.get("score", math.nan))
        front.append(Formula(int(row["complexity"]), float(row["loss"]), score, 1 - error / variance, expression))
    return tuple(sorted(front, key=lambda formula: formula.complexity))


def selected(front: Front, model_selection: str, rounding: float = 0.0) -> int:
    """PySR's own rules: the least loss ("accuracy"); the highest score of all ("score"), or of those whose loss is at
    most 1.5 times the least ("best"). Without scores, the least loss.

    Of formulas that are exact, rounding decides whose loss is least: all losses up to `rounding` count as that.
    """
    losses = [math.inf if math.isnan(f.loss) else max(f.loss, rounding) for f in front]
    if model_selection == "accuracy" or any(math.isnan(f.score) for f in front):
        return losses.index(min(losses))
    limit = 1.5 * min(losses) if model_selection == "best" else math.inf
    among = [i for i, loss in enumerate(losses) if loss <= limit]
    return max(among, key=lambda i: front[i].score)
