"""An estimator as scikit-learn has them: `from pysciml.sklearn import UDERegressor`. Needs `pysciml[discovery]`."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from pysciml.errors import InvalidInputError, MissingExtraError
from pysciml.fit import fit, pretrain
from pysciml.problems import ODEProblem
from pysciml.solve import solve

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise MissingExtraError("scikit-learn", "discovery", "UDERegressor") from error

_SMOOTHED = 5  # times that pre-training needs


class NeuralODE(torch.nn.Module):
    """du/dt by a network of one hidden layer, of u and t; what `UDERegressor` fits where nothing else is given."""

    def __init__(self, states: int, hidden: int):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(states + 1, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, states)
        ).double()

    def forward(self, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([t.reshape(1), u]))


class UDERegressor(RegressorMixin, BaseEstimator):
    """A differential equation as a regressor from time to observed states.

    X is (n_samples, 1), the times, in any order; y is (n_samples,) or (n_samples, n_states). `fit` fits the equation,
    its initial state too where none is given; `predict` solves it, before and after the times fitted as well. Several
    observations at one time count each. Works in pipelines, `cross_val_score` and `GridSearchCV` as any regressor; of
    the folds of a time series `TimeSeriesSplit` asks for forecasts.

    Args:
        f: the right-hand side, a torch module `f(t, u)`, which is copied; or a function of the number of states that
            makes one. None is a neural ODE of `hidden` units, on times and states scaled to their own sizes, which
            starts from collocation pre-training.
        u0: (n_states,) the state at the first time; None fits it, from the mean of the first observations.
        stages, epochs, shooting: as of `pysciml.fit`. alg, engine, reltol, abstol: as of `pysciml.solve`.
        random_state: of the initial weights, where f is None or a function.

    Attributes:
        f_: the fitted right-hand side. u0_: (n_states,) tensor. result_: the FitResult. t0_: the first time.

    Raises:
        ValueError: X with another number of columns than one, fewer than two different times; else what scikit-learn
            and `pysciml.fit` raise.

    Example:
        >>> import numpy as np, torch
        >>> from pysciml.sklearn import UDERegressor
        >>> class Decay(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.k = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        ...     def forward(self, t, u):
        ...         return -self.k * u
        >>> t = np.linspace(0, 2, 20)[:, None]
        >>> model = UDERegressor(Decay(), stages=("LBFGS", 20)).fit(t, np.exp(-t[:, 0]))
        >>> round(model.f_.k.item(), 3), round(model.score(t, np.exp(-t[:, 0])), 3), model.predict([[3.0]]).round(3)
        (1.0, 1.0, array([0.05]))
    """

    def __init__(
        self, f: Any = None, *, u0: Any = None, hidden: int = 16, stages: Any = None, epochs: Any = None,
        shooting: Any = None, alg: Any = None, engine: str | None = None, reltol: float = 1e-6, abstol: float = 1e-8,
        random_state: int = 0,
    ):  # fmt: skip
        self.f, self.u0, self.hidden = f, u0, hidden
        self.stages, self.epochs, self.shooting = stages, epochs, shooting
        self.alg, self.engine, self.reltol, self.abstol = alg, engine, reltol, abstol
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> UDERegressor:
        """Fits the equation to observations y at times X."""
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, ensure_min_samples=2, dtype=np.float64)
        self.n_dims_ = y.ndim
        times, states, counts = _by_time(_column(X), np.asarray(y, dtype=np.float64).reshape(len(y), -1))
        self.t0_ = float(times[0])
        self._scale(times, states)
        self.f_ = self._module(states.shape[1])
        start = states[0] if self.u0 is None else np.asarray(self.u0, dtype=np.float64).reshape(-1)
        u0 = torch.tensor(self._scaled(start), requires_grad=self.u0 is None)
        self._prob = ODEProblem(self.f_, u0, (self._clock(times[0]), self._clock(times[-1])))
        data, clock = torch.from_numpy(self._scaled(states)), torch.from_numpy(self._clock(times))
        if self.f is None and len(times) >= _SMOOTHED:
            pretrain(self._prob, data, clock, params=self.f_, stages=self.stages, epochs=self.epochs, progress="off")
        self.result_ = fit(self._prob, data, clock,
                           weights=torch.from_numpy(np.repeat(counts[:, None], states.shape[1], axis=1)),
                           stages=self.stages, epochs=self.epochs, shooting=self.shooting, progress="off",
                           **self._solver())  # fmt: skip
        self.u0_ = torch.from_numpy(self._unscaled(u0.detach().numpy()))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The states at times X, (n,) or (n, n_states)."""
        check_is_fitted(self, "result_")
        X = validate_data(self, X, reset=False, dtype=np.float64)
        times, places = np.unique(self._clock(_column(X)), return_inverse=True)
        start = self._prob.span[0]
        after, before = times[times >= start], times[times < start][::-1]
        found = [self._states(side, start) for side in (before, after)]
        states = self._unscaled(np.concatenate([found[0][::-1], found[1]]))[places]
        return states[:, 0] if self.n_dims_ == 1 else states

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.regressor_tags.poor_score = True  # on tables that are no function of time
        return tags

    def _states(self, times: np.ndarray, start: float) -> np.ndarray:
        """(k, n) states at times on one side of the start, away from it."""
        u0 = self._prob.u0.detach()
        at_start = len(times) > 0 and times[0] == start
        if len(times) == at_start:
            return u0.numpy()[None][: len(times)]
        end = float(times[-1])
        if (
            end > start
        ):  # up to the end of what was fitted, so that a state does not depend on which others are asked for
            end = max(end, self._prob.span[1])
        with torch.no_grad():
            prob = self._prob.remake(u0=u0, tspan=(start, end))
            ends = torch.tensor([end], dtype=torch.float64)
            sol = solve(prob, saveat=ends, **self._solver())
            return sol(torch.from_numpy(times.copy())).numpy()

    def _solver(self) -> dict[str, Any]:
        chosen = {"alg": self.alg, "engine": self.engine, "reltol": self.reltol, "abstol": self.abstol}
        return {name: value for name, value in chosen.items() if value is not None}

    def _module(self, states: int) -> torch.nn.Module:
        if isinstance(self.f, torch.nn.Module):
            return copy.deepcopy(self.f)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            made = NeuralODE(states, self.hidden) if self.f is None else self.f(states)
        if not isinstance(made, torch.nn.Module):
            raise InvalidInputError("f must be a torch module, or make one.", got=type(made).__name__,
                                    fix="UDERegressor(f=MyModule())")  # fmt: skip
        return made

    # An equation of the user's is in the units of the data; the network is in units in which all is of size one.

    def _scale(self, times: np.ndarray, states: np.ndarray) -> None:
        plain = self.f is not None
        self._unit = 1.0 if plain else float(times[-1] - times[0])
        self._origin = 0.0 if plain else float(times[0])
        spread = states.std(axis=0)
        self._size = np.ones_like(spread) if plain else np.where(spread > 0, spread, 1.0)
        self._mean = np.zeros_like(spread) if plain else states.mean(axis=0)

    def _clock(self, t: Any) -> Any:
        return (t - self._origin) / self._unit

    def _scaled(self, states: np.ndarray) -> np.ndarray:
        return (states - self._mean) / self._size

    def _unscaled(self, states: np.ndarray) -> np.ndarray:
        return states * self._size + self._mean


def _column(X: np.ndarray) -> np.ndarray:
    if X.shape[1] != 1:
        raise ValueError(f"X must have one column, the time, and has {X.shape[1]} features.")
    return X[:, 0]


def _by_time(times: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The different times, rising, the mean of the states at each, and how many there were."""
    distinct, places, counts = np.unique(times, return_inverse=True, return_counts=True)
    if len(distinct) < 2:
        raise ValueError(f"X must have two different times, and has {len(distinct)} (n_samples={len(times)}).")
    total = np.zeros((len(distinct), states.shape[1]))
    np.add.at(total, places, states)
    return distinct, total / counts[:, None], counts.astype(np.float64)
