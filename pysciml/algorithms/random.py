"""Solvers of random ordinary differential equations, of StochasticDiffEq.jl."""

from __future__ import annotations

from dataclasses import dataclass

from pysciml.algorithms.base import Algorithm

_HAN = "Han and Kloeden, Random Ordinary Differential Equations and Their Numerical Solution, Springer (2017)"


@dataclass(frozen=True)
class RandomAlgorithm(Algorithm):
    """What solvers of an `RODEProblem` share: steps of length `dt`."""

    problem = "rode"
    package = "StochasticDiffEq"
    adaptive = False


@dataclass(frozen=True)
class RandomEM(RandomAlgorithm, order=1, reference=_HAN):
    """Euler's method with the noise at the start of each step: order 1 for the noise of Brownian motion."""


@dataclass(frozen=True)
class RandomHeun(RandomAlgorithm, order=1, reference=_HAN):
    """Heun's method with the noise at both ends of each step: order 1, with a smaller error than `RandomEM`."""


@dataclass(frozen=True)
class RandomTamedEM(
    RandomAlgorithm,
    order=1,
    reference="Hutzenthaler, Jentzen and Kloeden, Strong convergence of an explicit numerical method for SDEs with "
    "nonglobally Lipschitz continuous coefficients, Ann. Appl. Probab. 22 (2012)",
):
    """`RandomEM` in whose steps no state moves by more than one, whatever f is: where solutions would explode."""
