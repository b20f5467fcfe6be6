"""Sparse regression of one target: pysindy's STLSQ on scaled columns, cross-validation, resampling.

Columns and target are scaled to a root mean square of one, so that a threshold means the same for every term: the
least contribution, relative to the target, that a term must make to stay.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pysciml.discovery.library import pysindy

THRESHOLDS = tuple(np.geomspace(0.02, 1.0, 20).round(4).tolist())
_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, eq=False)
class Samples:
    """Values of the terms (n, k) and of one target (n,), reduced to at most k + 1 rows.

    The triangle of a QR factorisation has the same normal equations as the samples, so every fit and every error comes
    out the same, at a cost that no longer grows with n.

    Attributes:
        theta: (m, k). y: (m,). n: the number of samples they stand for.
    """

    theta: np.ndarray
    y: np.ndarray
    n: int

    @classmethod
    def reduce(cls, theta: np.ndarray, y: np.ndarray, n: int | None = None) -> Samples:
        triangle = np.asarray(np.linalg.qr(np.column_stack([theta, y]), mode="r"))
        return cls(triangle[:, :-1], triangle[:, -1], len(y) if n is None else n)

    @cached_property
    def sizes(self) -> tuple[np.ndarray, float]:
        """Root mean squares of the terms and of the target."""
        term, target = np.sqrt(np.sum(self.theta**2, axis=0) / self.n), math.sqrt(float(self.y @ self.y) / self.n)
        return np.maximum(term, _TINY), max(target, _TINY)

    def error(self, coefficients: np.ndarray) -> float:
        """Mean square of what the coefficients leave."""
        rest = self.y - self.theta @ coefficients
        return float(rest @ rest) / self.n


def pool(groups: Sequence[Samples]) -> Samples:
    """All samples of the groups together."""
    theta, y = np.concatenate([g.theta for g in groups]), np.concatenate([g.y for g in groups])
    return Samples.reduce(theta, y, sum(g.n for g in groups))


def sparse_fit(samples: Samples, threshold: float, ridge: float) -> np.ndarray:
    """Coefficients (k,), those that contribute less than the threshold zero.

    `ridge` is relative to the scaled columns' sum of squares; the kept terms are fitted again without it.
    """
    term, target = samples.sizes
    optimizer = pysindy().STLSQ(threshold=threshold, alpha=ridge * samples.n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "sparsity parameter is too big": then the law is zero, which the result shows
        optimizer.fit(samples.theta / term, (samples.y / target)[:, None])
    return np.asarray(optimizer.coef_)[0] * target / term


def least_squares(samples: Samples, kept: np.ndarray) -> np.ndarray:
    """Coefficients (k,) of the kept terms (k,) booleans; the others zero."""
    coefficients = np.zeros(len(kept))
    if kept.any():
        coefficients[kept] = np.linalg.lstsq(samples.theta[:, kept], samples.y, rcond=None)[0]
    return coefficients


def cross_validate(groups: Sequence[Samples], kept: np.ndarray) -> tuple[float, float]:
    """Mean squared error of these terms on left-out groups, over the targets' mean square, and its standard error.

    Samples in a group hang together: a refit of one model, or a stretch of one trajectory.
    """
    unit = max(pool(groups).sizes[1] ** 2, _TINY)
    errors = []
    for i, left_out in enumerate(groups):
        coefficients = least_squares(pool([*groups[:i], *groups[i + 1 :]]), kept)
        errors.append(left_out.error(coefficients) / unit)
    return float(np.mean(errors)), float(np.std(errors, ddof=1) / math.sqrt(len(errors)))


def stretches(theta: np.ndarray, y: np.ndarray, count: int) -> list[Samples]:
    """A trajectory in contiguous pieces: neighbouring samples are nearly copies, so folds must not separate them."""
    pieces = zip(np.array_split(theta, count), np.array_split(y, count), strict=True)
    return [Samples.reduce(*piece) for piece in pieces]


def resample(theta: np.ndarray, y: np.ndarray, block: int, rng: np.random.Generator) -> Samples:
    """A moving-block bootstrap sample: stretches of `block` neighbours, drawn with replacement, of the same length."""
    rows = block_rows(len(y), block, rng)
    return Samples.reduce(theta[rows], y[rows])


def block_rows(n: int, block: int, rng: np.random.Generator) -> np.ndarray:
    """The rows of a moving-block bootstrap sample of n."""
    starts = rng.integers(0, n - block + 1, size=math.ceil(n / block))
    return (starts[:, None] + np.arange(block)).ravel()[:n]
