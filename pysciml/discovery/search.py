"""discover(): the search for a law behind samples of a learned term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pysciml.discovery.found import Found
from pysciml.discovery.law import Candidate, Law
from pysciml.discovery.library import Library, make_library
from pysciml.discovery.optimizers import OptimizerSearch, check_optimizer
from pysciml.discovery.regression import THRESHOLDS, Samples, cross_validate, resample, sparse_fit, stretches
from pysciml.discovery.samples import Pair, checked, named
from pysciml.errors import InvalidInputError

Arrays = tuple[np.ndarray, np.ndarray]
_ROUNDING = 1e-20  # a mean squared error, relative to the target's, at which models differ in rounding alone


def discover(
    inputs: torch.Tensor,
    outputs: torch.Tensor,
    *,
    library: Any = 2,
    exclude: Sequence[str] = (),
    names: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    threshold: float | None = None,
    ridge: float = 1e-3,
    optimizer: Any = None,
    refits: Sequence[Pair] = (),
    bootstraps: int = 200,
    block: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Law:
    """Finds a formula with few terms for samples of a learned term, and says how sure it is.

    The regression is pysindy's STLSQ (sequentially thresholded least squares) with columns and targets scaled to the
    same size, so `threshold` is the least contribution a term must make, relative to the target. Without `threshold`,
    a path of thresholds is compared by cross-validation, and the sparsest model within one standard error of the best
    is taken.

    With `optimizer`, one of pysindy's takes the place of all that: it gets the terms unscaled and all targets at once,
    as in pysindy, so that its own threshold, weights and constraints hold, in every resample too. The columns of
    `constraint_lhs` are those of `law.terms`. `law.path` then has one model, with the cross-validated error of the
    whole procedure.

    **Evaluate the learned term where the data led**: on states of the fitted trajectory, in order of time. A network is
    constrained there and nowhere else; on a free grid the regression would describe how the network happens to
    extrapolate. Terms that vary alike along the trajectory cannot be told apart by any method: look at `law.inclusion`.

    How sure: with `refits` (the learned term of models fitted again to resampled data, each on its own trajectory),
    each is searched by itself at the same threshold, and the spread is the uncertainty that the data leave. Without,
    samples of the one model are resampled in blocks of neighbours. That only sees how well the formula describes this
    network, and is too narrow where the network itself is unsure: prefer refits. pysindy's own ensembling draws single
    samples, which along a smooth trajectory are nearly copies of each other: its intervals would be narrower still.

    A network that was fitted with weight decay is drawn towards small weights, and its refits once more, so the
    coefficients found may lie at one end of their interval. Their size is best had by fitting the formula itself.

    Args:
        inputs: (n, d) states visited, in order. outputs: (n, k) or (n,) values of the learned term there.
        library: which terms a law may have: a polynomial degree, a dict `{"x y": lambda x, y: x * y}`, or a pysindy
            feature library. exclude: terms to leave out of it, `("1",)` for the constant. pysindy's polynomials, waves,
            custom functions (of torch's, or of NumPy's ufuncs), their sums and products are computed in torch, so that
            the law can stand in f; other libraries by pysindy, and such a law cannot be differentiated.
        names, targets: of the d states and the k outputs.
        threshold: see above. ridge: relative weight of the ridge penalty within STLSQ; kept terms are refitted without.
        optimizer: one of pysindy's, `pysindy.SR3(...)`, in the place of threshold and ridge; it is left as it was.
        refits: (inputs, outputs) of each. bootstraps: resamples without refits. block: neighbours in a block; n / 10.
        confidence: of the intervals. seed: of the resampling.

    Raises:
        MissingExtraError: pysindy is not installed. InvalidInputError: shapes, names or options that do not fit; what
            an optimizer raises. UnsupportedError: an optimizer that gives no formula for each target, as SINDyPI.

    Example:
        >>> import math, torch
        >>> from pysciml.discovery import discover
        >>> t = torch.linspace(0, 6, 200, dtype=torch.float64)
        >>> states = torch.stack([2 + torch.sin(t), 2 + torch.cos(2 * t)], dim=1)
        >>> law = discover(states, -0.5 * states[:, 0] * states[:, 1], names=("x", "y"), targets=("dx",), bootstraps=20)
        >>> law.equations
        ['dx = -0.5 x y']
    """
    main = checked(inputs, outputs, "inputs", "outputs")
    again = [checked(x, y, f"refits[{i}][0]", f"refits[{i}][1]") for i, (x, y) in enumerate(refits)]
    n, d, k = len(main[0]), main[0].shape[1], main[1].shape[1]
    _check_like(main, again)
    _check_options(threshold, ridge, bootstraps, block, confidence, n, len(again))
    _check_chosen(optimizer, threshold)
    names = named(names, d, "names", "x")
    targets = named(targets, k, "targets", "y")
    terms = make_library(library, main[0], names, exclude)
    arrays, others = _arrays(terms, main), [_arrays(terms, pair) for pair in again]
    block = block or max(1, n // 10)
    search: _Search | OptimizerSearch
    if optimizer is None:
        search = _Search(terms, arrays, others, bootstraps, block, threshold, ridge, seed)
    else:
        search = OptimizerSearch(terms.terms, arrays, others, bootstraps, block, optimizer, seed)
    found = search.targets()
    samples = np.stack([f.samples for f in found], axis=1)
    low, high = np.quantile(samples, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    tensor = torch.from_numpy
    return Law(
        names,
        targets,
        tensor(np.stack([f.coefficients for f in found])),
        tensor((samples != 0).mean(axis=0)),
        tensor(low),
        tensor(high),
        torch.tensor([f.r2 for f in found], dtype=torch.float64),
        tuple(f.threshold for f in found),
        tuple(f.path for f in found),
        confidence,
        tensor(samples),
        search.says(),
        terms,
    )


class _Search:
    """The samples as arrays, with the terms evaluated, and the search for one target after the other."""

    def __init__(
        self,
        library: Library,
        main: Arrays,
        refits: Sequence[Arrays],
        bootstraps: int,
        block: int,
        threshold: float | None,
        ridge: float,
        seed: int,
    ):
        self.library, self.bootstraps, self.block = library, bootstraps, block
        self.threshold, self.ridge, self.seed = threshold, ridge, seed
        (self.theta, self.y), self.refits = main, refits

    def targets(self) -> list[Found]:
        return [self._target(j) for j in range(self.y.shape[1])]

    def _target(self, j: int) -> Found:
        samples = Samples.reduce(self.theta, self.y[:, j])
        refits = [Samples.reduce(theta, y[:, j]) for theta, y in self.refits]
        groups = refits if len(refits) > 1 else stretches(self.theta, self.y[:, j], min(5, len(self.y)))
        variance = max(float(np.var(self.y[:, j])), np.finfo(float).tiny)
        path = tuple(
            self._candidate(c, threshold, samples, groups, variance) for c, threshold in self._supports(samples)
        )
        threshold = _sparsest_of_the_best(path).threshold
        coefficients = sparse_fit(samples, threshold, self.ridge)
        again = np.stack([sparse_fit(x, threshold, self.ridge) for x in refits or self._bootstrapped(j)])
        return Found(coefficients, threshold, 1 - samples.error(coefficients) / variance, path, again)

    def says(self) -> str:
        if self.refits:
            return f"{len(self.refits)} models fitted again to resampled data"
        return f"{self.bootstraps} block bootstraps of one model's samples: sure of that model, not of nature"

    def _supports(self, samples: Samples) -> list[tuple[np.ndarray, float]]:
        """Coefficients of every set of terms on the path, each with the middle of the thresholds that lead to it."""
        thresholds = THRESHOLDS if self.threshold is None else (self.threshold,)
        found: dict[bytes, tuple[np.ndarray, list[float]]] = {}
        for threshold in thresholds:
            c = sparse_fit(samples, threshold, self.ridge)
            found.setdefault((c != 0).tobytes(), (c, []))[1].append(threshold)
        return [(c, ts[len(ts) // 2]) for c, ts in found.values()]

    def _candidate(
        self, c: np.ndarray, threshold: float, samples: Samples, groups: Sequence[Samples], variance: float
    ) -> Candidate:
        error, se = cross_validate(groups, c != 0)
        kept = tuple(term for term, value in zip(self.library.terms, c, strict=True) if value)
        return Candidate(threshold, kept, 1 - samples.error(c) / variance, error, se)

    def _bootstrapped(self, j: int) -> list[Samples]:
        rng = np.random.default_rng(self.seed)
        return [resample(self.theta, self.y[:, j], self.block, rng) for _ in range(self.bootstraps)]


def _sparsest_of_the_best(path: Sequence[Candidate]) -> Candidate:
    """The one-standard-error rule (Breiman et al. 1984): what the data cannot tell from the best, at its simplest."""
    best = min(path, key=lambda c: c.error)
    limit = max(best.error + best.error_se, _ROUNDING)
    return min((c for c in path if c.error <= limit), key=lambda c: (len(c.terms), c.error))


def _arrays(library: Library, pair: Pair) -> Arrays:
    with torch.no_grad():
        return library.evaluate(pair[0]).numpy(), pair[1].numpy()


def _check_like(main: Pair, refits: Sequence[Pair]) -> None:
    for i, pair in enumerate(refits):
        if [x.shape[1] for x in pair] != [x.shape[1] for x in main]:
            raise InvalidInputError(
                f"refits[{i}] must have the columns of inputs and outputs.",
                got=str([x.shape[1] for x in pair]),
                expected=str([x.shape[1] for x in main]),
            )


def _check_options(
    threshold: Any, ridge: float, bootstraps: int, block: int | None, confidence: float, n: int, refits: int
) -> None:
    """`n`: samples there are. `refits`: how many were given; they take the place of bootstraps."""
    checks = (
        ("threshold", threshold, threshold is None or 0 <= threshold <= 1, "a number from 0 to 1, or None"),
        ("ridge", ridge, ridge >= 0, "0 or more"),
        ("bootstraps", bootstraps, bootstraps >= 2 or refits, "2 or more"),
        ("block", block, block is None or 1 <= block <= n, f"1 to {n}"),
        ("confidence", confidence, 0 < confidence < 1, "a number between 0 and 1"),
    )
    for name, value, fine, expected in checks:
        if not fine:
            raise InvalidInputError(f"{name} is out of range.", got=f"{name}={value!r}", expected=expected)


def _check_chosen(optimizer: Any, threshold: float | None) -> None:
    if optimizer is None:
        return
    check_optimizer(optimizer)
    if threshold is not None:
        raise InvalidInputError(
            "an optimizer has a threshold of its own.",
            got=f"optimizer={type(optimizer).__name__}(...) and threshold={threshold!r}",
            fix="leave threshold out; pysindy.STLSQ(threshold=...), pysindy.SR3(reg_weight_lam=...)",
        )
