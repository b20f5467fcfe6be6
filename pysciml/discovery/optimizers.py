"""Sparse regression by an optimizer of pysindy's, as pysindy itself runs it.

It gets the values of the terms as they are and all targets at once: so its thresholds, weights and constraints mean
what they mean in pysindy, and what it finds is the law, without another fit.
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pysciml.discovery.found import Found
from pysciml.discovery.law import Candidate
from pysciml.discovery.library import pysindy
from pysciml.discovery.regression import block_rows
from pysciml.errors import InvalidInputError, UnsupportedError

Arrays = tuple[np.ndarray, np.ndarray]  # (n, terms), (n, targets)
_FOLDS = 5
_ROUNDING = 1e-10  # a contribution to the target, relative to it, that is what rounding leaves of none


def check_optimizer(optimizer: Any) -> None:
    """Raises InvalidInputError for what is no optimizer of pysindy's."""
    if not isinstance(optimizer, pysindy().optimizers.BaseOptimizer):
        raise InvalidInputError(
            "optimizer must be one of pysindy's.",
            got=f"{optimizer!r:.80}",
            expected="pysindy.STLSQ, SR3, SSR, FROLS, ConstrainedSR3, MIOSR, EnsembleOptimizer, ...",
            fix="optimizer=pysindy.WrappedOptimizer(Lasso(fit_intercept=False)) for one of scikit-learn's",
        )


class OptimizerSearch:
    """One fit to all samples, one for each resample, one for each fold of the cross-validation.

    Args:
        terms: their names. main: the samples. refits: those of models fitted again. bootstraps, block: without refits.
    """

    def __init__(self, terms: Sequence[str], main: Arrays, refits: Sequence[Arrays], bootstraps: int, block: int,
                 optimizer: Any, seed: int):  # fmt: skip
        self.terms, self.main, self.refits = terms, main, refits
        self.bootstraps, self.block, self.optimizer, self.seed = bootstraps, block, optimizer, seed

    def targets(self) -> list[Found]:
        """What was found for each target."""
        theta, y = self.main
        coefficients = self._fit(theta, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the first fit has said already
            again = np.stack([self._fit(*arrays) for arrays in self.refits or self._bootstrapped()])
            errors = self._errors()
        variance = np.maximum(y.var(axis=0), np.finfo(float).tiny)
        r2 = 1 - np.mean((y - theta @ coefficients.T) ** 2, axis=0) / variance
        mean, se = errors.mean(axis=0), errors.std(axis=0, ddof=1) / math.sqrt(len(errors))
        found = []
        for j, c in enumerate(coefficients):
            kept = tuple(term for term, value in zip(self.terms, c, strict=True) if value)
            candidate = Candidate(math.nan, kept, float(r2[j]), float(mean[j]), float(se[j]))
            found.append(Found(c, math.nan, float(r2[j]), (candidate,), again[:, j]))
        return found

    def says(self) -> str:
        """What was resampled, in words."""
        name = type(self.optimizer).__name__
        if self.refits:
            return f"{len(self.refits)} models fitted again to resampled data, each by {name}"
        what = f"{self.bootstraps} block bootstraps of one model's samples, each by {name}"
        return f"{what}: sure of that model, not of nature"

    def _fit(self, theta: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Coefficients (targets, terms) by a fresh copy: an optimizer remembers earlier fits."""
        optimizer = copy.deepcopy(self.optimizer)
        try:
            with _numbers_from(self.seed):
                optimizer.fit(theta, y)
        except Warning:
            raise
        except Exception as error:
            raise InvalidInputError(
                f"{type(optimizer).__name__} cannot fit these samples: {error}",
                got=f"{y.shape[1]} targets and {len(self.terms)} terms ({', '.join(self.terms)})",
                expected="options that fit them: constraint_lhs has a column for each term of each target",
            ) from error
        coefficients = np.array(optimizer.coef_, dtype=float)
        if coefficients.shape != (y.shape[1], len(self.terms)):
            raise UnsupportedError(
                f"{type(optimizer).__name__} does not give one formula a target.",
                got=f"coefficients of shape {coefficients.shape}",
                expected=f"{(y.shape[1], len(self.terms))}: targets and terms",
                fix="optimizer=pysindy.STLSQ(), SR3, SSR, FROLS, ConstrainedSR3, EnsembleOptimizer, ...",
            )
        sizes = np.abs(coefficients) * _rms(theta)
        return np.where(sizes > _ROUNDING * _rms(y)[:, None], coefficients, 0.0)

    def _bootstrapped(self) -> Iterator[Arrays]:
        rng = np.random.default_rng(self.seed)
        theta, y = self.main
        for _ in range(self.bootstraps):
            rows = block_rows(len(y), self.block, rng)
            yield theta[rows], y[rows]

    def _errors(self) -> np.ndarray:
        """(folds, targets) mean squared errors of the whole procedure on what it was not fitted to, relative to y."""
        count = min(_FOLDS, len(self.main[1]))
        pieces = zip(*(np.array_split(x, count) for x in self.main), strict=True)
        groups = list(self.refits) if len(self.refits) > 1 else list(pieces)
        unit = np.maximum(np.mean(np.concatenate([y for _, y in groups]) ** 2, axis=0), np.finfo(float).tiny)
        errors = []
        for i, (theta, y) in enumerate(groups):
            rest = [*groups[:i], *groups[i + 1 :]]
            coefficients = self._fit(*(np.concatenate(x) for x in zip(*rest, strict=True)))
            errors.append(np.mean((y - theta @ coefficients.T) ** 2, axis=0) / unit)
        return np.stack(errors)


def _rms(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(x**2, axis=0))


@contextlib.contextmanager
def _numbers_from(seed: int) -> Iterator[None]:
    """pysindy's ensembles draw from NumPy's global generator: here always the same, and left as it was."""
    before = np.random.get_state()  # noqa: NPY002 - it is the generator pysindy uses
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
