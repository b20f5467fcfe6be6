"""The law that was found: its formula, what supports it, and what else was tried."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from pysciml.discovery.library import Library
from pysciml.discovery.module import LawModule
from pysciml.discovery.symbolic import expressions, latex


@dataclass(frozen=True)
class Candidate:
    """One model on the path from many terms to few.

    Attributes:
        threshold: the least contribution of a term, relative to the target; NaN of an optimizer with its own.
        terms: the terms kept. r2: on all samples.
        error, error_se: cross-validated mean squared error over the target's mean square, and its standard error.
    """

    threshold: float
    terms: tuple[str, ...]
    r2: float
    error: float
    error_se: float


@dataclass(frozen=True, eq=False)
class Law:
    """What `discover` returns. Call it to evaluate the law: `law(states)`, (..., d) to (..., targets), in torch.

    Attributes:
        names, targets: of the states and of what was explained. terms: of the library.
        coefficients: (targets, terms), zero where a term is left out.
        inclusion: (targets, terms) share of the resampled fits that kept the term. low, high: (targets, terms)
            percentile interval of the coefficient over them, those that dropped the term counted as zero.
        r2: (targets,) share of each target's variance the law explains. thresholds: chosen, one a target; NaN of an
            optimizer with its own.
        path: for each target the models compared, from many terms to few.
        confidence: of the intervals. samples: the resampled coefficients, (resamples, targets, terms).
        resampled: what was resampled, in words.
    """

    names: tuple[str, ...]
    targets: tuple[str, ...]
    coefficients: torch.Tensor
    inclusion: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    r2: torch.Tensor
    thresholds: tuple[float, ...]
    path: tuple[tuple[Candidate, ...], ...]
    confidence: float
    samples: torch.Tensor = field(repr=False)
    resampled: str
    library: Library = field(repr=False)

    @property
    def terms(self) -> tuple[str, ...]:
        return self.library.terms

    @property
    def equations(self) -> list[str]:
        """One formula a target, in plain text."""
        return [
            f"{name} = {_sum(self.terms, row)}"
            for name, row in zip(self.targets, self.coefficients.tolist(), strict=True)
        ]

    def sympy(self, digits: int | None = None) -> dict[str, Any]:
        """The law as SymPy expressions of the states' names, by target; coefficients to `digits`, or as they are.

        Raises:
            UnsupportedError: a term whose name is no formula of what it computes.
        """
        return expressions(self, digits)

    def latex(self, digits: int = 4) -> str:
        """The equations in LaTeX. Raises as `sympy`."""
        return latex(self.sympy(digits))

    def module(self, dtype: torch.dtype = torch.float64) -> LawModule:
        r"""The law as a torch module whose coefficients can be fitted, to stand in f where the network stood.

        Each coefficient is free: what an optimizer's constraints tied together is not tied in a later fit.

        Example:
            >>> import torch
            >>> from pysciml.discovery import discover
            >>> x = torch.linspace(0.5, 2, 60, dtype=torch.float64)[:, None]
            >>> law = discover(x, 0.3 * x - 0.2 * x**2, names=("x",), targets=("dx/dt",), bootstraps=5)
            >>> f = law.module()
            >>> f.names, f(x).shape, law.latex(2)
            (['dx/dt: x', 'dx/dt: x²'], torch.Size([60, 1]), '\\frac{dx}{dt} = - 0.2 x^{2} + 0.3 x')
        """
        return LawModule(self, dtype)

    def kept(self, target: int | str) -> list[str]:
        """The terms in one target's formula."""
        row = self.coefficients[self._index(target)].tolist()
        return [term for term, c in zip(self.terms, row, strict=True) if c]

    def coefficient(self, target: int | str, term: str) -> tuple[float, float, float, float]:
        """(value, low, high, inclusion) of one term in one target's formula."""
        i, j = self._index(target), self.terms.index(term)
        return tuple(float(x[i, j]) for x in (self.coefficients, self.low, self.high, self.inclusion))  # type: ignore[return-value]

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return self.library.evaluate(states) @ self.coefficients.to(states).T

    def _index(self, target: int | str) -> int:
        return self.targets.index(target) if isinstance(target, str) else target

    def _rows(self) -> Iterator[tuple[str, ...]]:
        """One row a term that is kept, or that every tenth resampled fit would keep."""
        for i, target in enumerate(self.targets):
            for term in self.terms:
                value, low, high, inclusion = self.coefficient(i, term)
                if value or inclusion >= 0.1:
                    shown = f"{value:.4g}" if value else "-"
                    yield target, term, shown, f"[{low:.3g}, {high:.3g}]", f"{inclusion:.0%}"

    def _header(self) -> tuple[str, ...]:
        return "target", "term", "coefficient", f"{self.confidence:.0%} interval", "kept in"

    def __repr__(self) -> str:
        rows = [self._header(), *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        table = ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        formulas = [f"  {e}    (R² {r:.3f})" for e, r in zip(self.equations, self.r2.tolist(), strict=True)]
        return "\n".join(["Law", *formulas, "", *table, f"  intervals over {self.resampled}"])

    def _repr_html_(self) -> str:
        formulas = "".join(
            f"<div><b>{html.escape(e)}</b> &nbsp; R² {r:.3f}</div>"
            for e, r in zip(self.equations, self.r2.tolist(), strict=True)
        )
        head = "".join(f"<th style='text-align:left'>{html.escape(x)}</th>" for x in self._header())
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(x)}</td>" for x in row) + "</tr>"
            for row in self._rows()
        )
        return f"{formulas}<table><tr>{head}</tr>{body}</table><div>intervals over {html.escape(self.resampled)}</div>"


def _sum(terms: tuple[str, ...], coefficients: list[float]) -> str:
    parts: list[str] = []
    for term, c in zip(terms, coefficients, strict=True):
        if c:
            sign = "-" if c < 0 else ("+" if parts else "")
            gap = " " if parts else ""
            parts.append(f"{sign}{gap}{abs(c):.4g}" + ("" if term == "1" else f" {term}"))
    return " ".join(parts) or "0"
