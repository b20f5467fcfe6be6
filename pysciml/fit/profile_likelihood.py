"""The profile likelihood: how bad the best fit gets when one parameter is held elsewhere."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pysciml.errors import InvalidInputError
from pysciml.fit.errors import FitError
from pysciml.fit.objective import observed
from pysciml.fit.parameters import holding
from pysciml.fit.progress import Silence
from pysciml.fit.run import Run
from pysciml.fit.settings import Settings
from pysciml.fit.stage import Stage
from pysciml.fit.uncertainty import check_likelihood, fisher_information
from pysciml.rhs.parameters import entry_names


@dataclass(frozen=True, eq=False)
class Profile:
    """One parameter's profile likelihood.

    Attributes:
        name: of the number. best: its fitted value. values: (k,) where it was held, rising.
        deviance: (k,) twice what the log-likelihood (with the prior, if any) is below its best, the others fitted anew;
            NaN where that failed.
        confidence: of the interval. low, high: its ends, where the deviance passes the quantile of chi squared;
            infinite where it does not within `values`: then the data do not bound the parameter there.
    """

    name: str
    best: float
    values: np.ndarray
    deviance: np.ndarray
    confidence: float
    low: float
    high: float

    @property
    def limit(self) -> float:
        """The deviance at the ends of the interval."""
        return limit_of(self.confidence)

    @property
    def identifiable(self) -> bool:
        """Whether the interval is finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def __repr__(self) -> str:
        return (f"Profile({self.name} = {self.best:.5g}, {self.confidence:.0%} interval "
                f"[{self.low:.4g}, {self.high:.4g}], {len(self.values)} values)")  # fmt: skip


def profile_likelihood(
    result: Any,
    name: str,
    values: Sequence[float] | None = None,
    *,
    points: int = 15,
    confidence: float = 0.95,
    epochs: int = 40,
) -> Profile:
    """Holds one fitted number at each of several values and fits all others anew, from the best fit outwards.

    Unlike `laplace` it sees the likelihood as it is: flat, bent or bounded on one side.

    Args:
        result: of `fit`, whose loss is a noise model. name: of a number, as in `fisher_information(result).names`.
        values: where to hold it. None takes `points` within four standard deviations of the best, or where the data
            leave it open within its own size.
        confidence: of the interval. epochs: of L-BFGS, most of them, at each value.

    Raises:
        InvalidInputError: another loss; no such number; values that are not finite.

    Reference: Raue et al., "Structural and practical identifiability analysis of partially observed dynamical models by
    exploiting the profile likelihood", Bioinformatics 25 (2009).

    Example:
        >>> import torch, pysciml as ps
        >>> k = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        >>> prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(1, dtype=torch.float64), (0.0, 2.0))
        >>> t = torch.linspace(0, 2, 9, dtype=torch.float64)
        >>> noise = ps.GaussianNoise(0.1)
        >>> result = ps.fit(prob, torch.exp(-t)[:, None], t, loss=noise, stages=("LBFGS", 20), progress="off")
        >>> found = ps.profile_likelihood(result, "k", points=9)
        >>> round(found.low, 2), round(found.high, 2), found.identifiable
        (0.81, 1.25, True)
    """
    check_likelihood(result, "a profile likelihood")
    tensor, index = _entry(result, name)
    best = float(result.values[list(result.parameters).index(tensor)].reshape(-1)[index])
    if not 0 < confidence < 1:
        raise InvalidInputError("confidence must lie between 0 and 1.", got=f"{confidence!r}", fix="confidence=0.95")
    grid = _around(result, name, best, points) if values is None else np.unique(np.asarray(values, dtype=float))
    if grid.size == 0 or not np.isfinite(grid).all():
        raise InvalidInputError("the values of a profile must be finite numbers.", got=f"{values!r:.60}",
                                fix=f"values=[{0.5 * best:g}, {2 * best:g}]")  # fmt: skip
    held, count = _Held(result, tensor, index, epochs), sum(map(observed, result.split.train))
    least = held.at(best, result.values)[0]
    found = {best: least}
    for side in (grid[grid >= best], grid[grid < best][::-1]):
        start = result.values
        for value in side:
            found[float(value)], start = held.at(float(value), start)
    deviance = 2 * count * (np.array([found[float(v)] for v in grid]) - least)
    limit = limit_of(confidence)
    low, high = (_crossing(best, grid, deviance, limit, sign) for sign in (-1, 1))
    return Profile(name, best, grid, deviance, confidence, low, high)


def limit_of(confidence: float) -> float:
    """The quantile of chi squared, with one degree of freedom."""
    from scipy.stats import chi2  # here: importing pysciml shall not import SciPy

    return float(chi2.ppf(confidence, 1))


class _Held:
    """The fit of all parameters but one number, which is held."""

    def __init__(self, result: Any, tensor: str, index: int, epochs: int):
        self.result, self.tensor, self.index = result, tensor, index
        self.settings = Settings((Stage("LBFGS", epochs, shooting=False),))

    def at(self, value: float, start: list[torch.Tensor]) -> tuple[float, list[torch.Tensor]]:
        """The least loss with the number at `value`, and where it is; from `start`, and NaN where it cannot be had."""
        objective, named = self.result._objective, self.result.parameters
        x = named[self.tensor]
        begin = [v.clone() for v in start]
        begin[list(named).index(self.tensor)].reshape(-1)[self.index] = value
        before = objective.shoots, objective.horizon
        try:
            with holding(list(named.values()), begin), _without_gradient(x, self.index):
                run = Run(objective, named, self.settings, Silence(), lambda run: run.best, {})
                best = run.run()
                return float(best["loss"]), [v.clone() for v in best["values"][: len(named)]]
        except FitError:
            return math.nan, start
        finally:
            objective.look(*before)


@contextlib.contextmanager
def _without_gradient(x: torch.Tensor, index: int) -> Iterator[None]:
    """No optimizer moves this number of a tensor: its gradient is zero."""

    def masked(grad: torch.Tensor) -> torch.Tensor:
        grad = grad.clone()
        grad.view(-1)[index] = 0.0
        return grad

    handle = x.register_hook(masked)
    try:
        yield
    finally:
        handle.remove()


def _entry(result: Any, name: str) -> tuple[str, int]:
    """The tensor that a number is of, by its name, and its place there."""
    places = {entry: (tensor, i) for tensor, x in result.parameters.items()
              for i, entry in enumerate(entry_names(tensor, x.shape))}  # fmt: skip
    if name not in places:
        few = ", ".join(list(places)[:8])
        raise InvalidInputError(f"nothing that was fitted is called {name!r}.", got=f"name={name!r}", expected=few,
                                fix=f'pysciml.profile_likelihood(result, "{next(iter(places))}")')  # fmt: skip
    return places[name]


def _around(result: Any, name: str, best: float, points: int) -> np.ndarray:
    information = fisher_information(result)
    std = float(information.std[information.names.index(name)]) if name in information.names else math.inf
    reach = 4 * std if math.isfinite(std) else abs(best) or 1.0
    return best + reach * np.linspace(-1.0, 1.0, points)


def _crossing(best: float, grid: np.ndarray, deviance: np.ndarray, limit: float, sign: int) -> float:
    """Where the deviance first passes the limit on one side; between two values its root is taken as linear."""
    outwards = [(v, d) for v, d in zip(grid, deviance, strict=True) if (v - best) * sign > 0]
    before = (best, 0.0)
    for value, d in sorted(outwards, key=lambda pair: sign * pair[0]):
        if d >= limit:
            low, high = math.sqrt(max(before[1], 0.0)), math.sqrt(d)
            return float(before[0] + (value - before[0]) * (math.sqrt(limit) - low) / (high - low))
        if math.isfinite(d):
            before = (float(value), float(d))
    return sign * math.inf
