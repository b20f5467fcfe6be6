"""One line of the table of recovered laws, and how a law is held against the truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch

import pysciml as ps

Truth = Mapping[str, Mapping[str, float]]  # coefficients by target and term


@dataclass(frozen=True)
class Row:
    """What one problem came to with one engine.

    Attributes:
        problem, engine: which. found: the law with its final coefficients. exact: whether it has the true terms and no
            others. coefficients: the largest relative error of a true coefficient; 1 where the term was missed.
        extrapolation: root mean square error beyond the data, over the standard deviation of the truth there.
        seconds: of the whole recovery, warm: the second of two runs in one process.
    """

    problem: str
    engine: str
    found: str
    exact: bool
    coefficients: float
    extrapolation: float
    seconds: float


def is_exact(law: ps.Law, truth: Truth) -> bool:
    """Whether a law has the terms of the truth, and no others."""
    return all(set(law.kept(target)) == set(terms) for target, terms in truth.items())


def coefficient_error(law: ps.Law, truth: Truth) -> float:
    """The largest relative error of the true coefficients; a term that was missed counts as zero."""
    return max(
        abs(law.coefficient(target, term)[0] / value - 1)
        for target, terms in truth.items()
        for term, value in terms.items()
    )


def refitted(law: ps.Law, module: torch.nn.Module) -> ps.Law:
    """The law with the coefficients that its `module()` came to in a fit; of its intervals nothing holds any more."""
    values = law.coefficients.clone()
    values[values != 0] = module.coefficients.detach()
    return dataclasses.replace(law, coefficients=values)


def relative_error(predicted: torch.Tensor, truth: torch.Tensor) -> float:
    """Root mean square error over the standard deviation of the truth, states (k, n); 1 is what its mean would give."""
    spread = (truth - truth.mean(dim=0)).square().mean()
    return float(((predicted - truth).square().mean() / spread).sqrt())
