"""Models side by side: what each fits, what it forecasts, and what its size costs."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pysciml.errors import InvalidInputError
from pysciml.fit.noise import Noise
from pysciml.fit.objective import observed
from pysciml.fit.parameters import holding
from pysciml.fit.result import FitResult


@dataclass(frozen=True)
class Row:
    """One model. NaN is what there is not.

    Attributes:
        name: of the model. parameters, observations: how many numbers were fitted, to how many.
        loss, val_loss: on the training data and on what was held out, at the best values, without regularization.
        aic, bic: Akaike's and the Bayesian information criterion, of fits by a noise model.
    """

    name: str
    parameters: int
    observations: int
    loss: float
    val_loss: float
    aic: float
    bic: float


@dataclass(frozen=True)
class Comparison:
    """Models, the best first: by validation loss where all have one, else by BIC, else by training loss."""

    rows: tuple[Row, ...]

    @property
    def best(self) -> str:
        """The name of the first."""
        return self.rows[0].name

    def _table(self) -> list[tuple[str, ...]]:
        head = ("model", "parameters", "loss", "val_loss", "ΔAIC", "ΔBIC")
        least = [min((x for x in column if not math.isnan(x)), default=math.nan)
                 for column in zip(*((r.aic, r.bic) for r in self.rows), strict=True)]  # fmt: skip
        shown = lambda x: "-" if math.isnan(x) else f"{x:.4g}"  # noqa: E731
        return [head, *((r.name, str(r.parameters), shown(r.loss), shown(r.val_loss), shown(r.aic - least[0]),
                         shown(r.bic - least[1])) for r in self.rows)]  # fmt: skip

    def __repr__(self) -> str:
        table = self._table()
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        lines = ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]
        return "\n".join(["Comparison", *lines])

    def _repr_html_(self) -> str:
        head, *rows = self._table()
        cells = lambda row, tag: "".join(f"<{tag} style='text-align:left'>{html.escape(x)}</{tag}>" for x in row)  # noqa: E731
        body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
        return f"<table><tr>{cells(head, 'th')}</tr>{body}</table>"


def compare(results: Mapping[str, FitResult]) -> Comparison:
    """Holds fits of several models to the same data side by side.

    The fair measure of models of unequal size is data that none of them saw: give all fits the same `val`. AIC and BIC
    estimate it from the training data alone, for models that are regular and fitted by maximum likelihood.

    Args:
        results: of `fit`, with data, by the names of their models.

    Raises:
        InvalidInputError: no results; fits without data, or to other numbers of observations.

    Reference: Burnham and Anderson, "Model Selection and Multimodel Inference", 2nd ed., Springer (2002).

    Example:
        >>> import torch, pysciml as ps
        >>> t = torch.linspace(0, 2, 20, dtype=torch.float64)
        >>> data = torch.exp(-t)[:, None] + 0.02 * torch.cos(40 * t)[:, None]
        >>> def fitted(power):
        ...     k = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        ...     prob = ps.ODEProblem(lambda t, u: -k * u**power, torch.ones(1, dtype=torch.float64), (0.0, 2.0))
        ...     return ps.fit(prob, data, t, val=0.3, stages=("LBFGS", 30), progress="off")
        >>> ps.compare({"linear": fitted(1), "quadratic": fitted(2)}).best
        'linear'
    """
    if not results or not all(isinstance(x, FitResult) and x._objective.split.train for x in results.values()):
        raise InvalidInputError("there must be results of fits to data, by name.", got=f"{results!r:.60}",
                                fix='pysciml.compare({"mine": result, "yours": other})')  # fmt: skip
    rows = [_row(name, result) for name, result in results.items()]
    counts = {row.observations for row in rows}
    if len(counts) > 1:
        raise InvalidInputError("models are compared on the same data.", got=f"{sorted(counts)} observations",
                                fix="give all fits the same data, times and val")  # fmt: skip
    key = next((name for name in ("val_loss", "bic") if not any(math.isnan(getattr(r, name)) for r in rows)), "loss")
    return Comparison(tuple(sorted(rows, key=lambda row: getattr(row, key))))


def _row(name: str, result: FitResult) -> Row:
    objective = result._objective
    count, size = sum(map(observed, result.split.train)), sum(x.numel() for x in result.parameters.values())
    before = objective.shoots, objective.horizon
    try:
        objective.look(False, 1.0)
        with holding(list(result.parameters.values()), result.values), torch.no_grad():
            loss, val_loss = float(objective.unregularized()), objective.validate()
    finally:
        objective.look(*before)
    likely = 2 * count * loss if isinstance(objective.loss, Noise) else math.nan
    return Row(name, size, count, loss, val_loss, likely + 2 * size, likely + size * math.log(count))
