"""What a fit returns: how it went, the best values, and the solution they give."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from pysciml.errors import UnsupportedError
from pysciml.fit.history import History
from pysciml.fit.parameters import Named, Values, holding
from pysciml.fit.trajectory import Trajectory
from pysciml.fit.validation import Split
from pysciml.solution import Solution
from pysciml.solve import solve


@dataclass(eq=False)
class FitResult:
    """The best fit found. The fitted tensors themselves hold its values when `fit` returns.

    Attributes:
        loss, val_loss: at the best epoch; `val_loss` is NaN without validation. epoch: the best epoch; 0 is the
            start. epochs: how many were run. history: every epoch; see `History`.
        stopped: why it ended: "epochs" (all were run), "early stopping", "converged", "interrupted", "callback", "solve
            failed" or "running" (still in the loop).
        failures: attempts whose loss could not be computed, all survived. parameters: the fitted tensors by name.
        values: their best values, in the same order. trajectories: problems with times and data, as given.
        split: what was trained on and what was held out. options: what `solve` was called with.

    Example:
        >>> import torch, pysciml as ps
        >>> k = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        >>> prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(1, dtype=torch.float64), (0.0, 2.0))
        >>> t = torch.linspace(0, 2, 9, dtype=torch.float64)
        >>> result = ps.fit(prob, torch.exp(-t)[:, None], t, stages=("LBFGS", 20), progress="off")
        >>> round(k.item(), 3), result.loss < 1e-9
        (1.0, True)
    """

    loss: float
    val_loss: float
    epoch: int
    epochs: int
    history: History
    stopped: str
    failures: int
    parameters: Named
    values: Values
    trajectories: list[Trajectory]
    split: Split
    options: dict[str, Any]
    _several: bool = False
    _objective: Any = field(default=None, repr=False)
    _solutions: list[Solution] | None = field(default=None, repr=False)

    @property
    def prob(self) -> Any:
        """The problem, or the list of them, as given to `fit`; None when the loss solved by itself."""
        return self._as_given([x.full for x in self.trajectories])

    @property
    def t(self) -> Any:
        """The times of the data, (k,), or a list of such."""
        return self._as_given([x.t for x in self.trajectories])

    @property
    def data(self) -> Any:
        """The data as leaves (k, ...), NaN where missing: a tuple, or a list of tuples."""
        return self._as_given([x.data for x in self.trajectories])

    @property
    def held_out(self) -> Any:
        """(k,) True at the times that were held out, or a list of such."""
        trained = [x.t for x in self.split.train]
        return self._as_given([~torch.isin(x.t, t) for x, t in zip(self.trajectories, trained, strict=True)])

    @property
    def solution(self) -> Any:
        """The Solution with the best values at all times of the data, held out or not; a list for several problems.

        Solved when first asked for. Raises UnsupportedError when the loss solved by itself.
        """
        if not self.trajectories:
            raise UnsupportedError("a fit of a loss alone has no problem to solve.", got="fit(loss=..., params=...)",
                                   fix="pysciml.solve(your_problem): the tensors hold the best values")  # fmt: skip
        if self._solutions is None:
            with holding(list(self.parameters.values()), self.values), torch.no_grad():
                self._solutions = [solve(x.full, saveat=x.t, **self.options) for x in self.trajectories]
        return self._as_given(self._solutions)

    def plot(self, **options: Any) -> Any:
        """Draws the history and the fit against the data; see `pysciml.plot.plot_fit`. Needs `pysciml[plot]`."""
        from pysciml.plot import plot_fit

        return plot_fit(self, **options)

    def _as_given(self, values: list[Any]) -> Any:
        return values if self._several else (values[0] if values else None)

    def _facts(self) -> list[tuple[str, str]]:
        start = f", from {self.history.loss[0]:.3g}" if len(self.history) else ""
        facts = [("loss", f"{self.loss:.6g}{start}")]
        if not math.isnan(self.val_loss):
            facts.append(("val_loss", f"{self.val_loss:.6g}"))
        facts += [
            ("best", f"epoch {self.epoch} of {self.epochs}"),
            ("stopped", self.stopped),
            ("failures", str(self.failures)),
            ("time", f"{sum(self.history.time):.3g} s"),
            ("fitted", _listed(self.parameters)),
        ]
        return facts

    def __repr__(self) -> str:
        return "FitResult\n" + "\n".join(f"  {name:<8} {text}" for name, text in self._facts())

    def _repr_html_(self) -> str:
        import html

        rows = "".join(f"<tr><th style='text-align:left'>{n}</th><td style='text-align:left'>{html.escape(t)}</td></tr>"
                       for n, t in self._facts())  # fmt: skip
        return f"<table><caption style='text-align:left'><b>FitResult</b></caption>{rows}</table>"


def result_of(
    run: Any, named: Named, trajectories: list[Trajectory], split: Split, options: dict[str, Any], several: bool
) -> FitResult:
    """The FitResult of a `Run` as it stands."""
    best, history = run.best, run.history
    facts = (len(history) - 1, history, run.stopped, run.failures, named, best["values"][: len(named)])
    data = trajectories, split, options, several, run.objective
    return FitResult(best["loss"], best["val_loss"], best["epoch"], *facts, *data)


def _listed(named: Named) -> str:
    few = [f"{n} = {x.item():.6g}" if x.numel() == 1 else f"{n} {list(x.shape)}" for n, x in list(named.items())[:6]]
    more = [f"{len(named) - 6} more"] if len(named) > 6 else []
    return ", ".join(few + more) + f" ({sum(x.numel() for x in named.values())} numbers)"
