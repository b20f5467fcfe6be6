"""Solvers of jump processes, of JumpProcesses.jl: exact ones, and leaps of many events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pysciml.algorithms.base import Algorithm
from pysciml.errors import InvalidInputError

_CAO = (
    "Cao, Gillespie and Petzold, Efficient step size selection for the tau-leaping simulation method, J. Chem. Phys. "
    "124 (2006)"
)
_THANH = (
    "Thanh, Priami and Zunino, Efficient rejection-based simulation of biochemical reactions with stochastic noise "
    "and delays, J. Chem. Phys. 141 (2014)"
)


@dataclass(frozen=True)
class JumpAlgorithm(Algorithm):
    """What solvers of a `JumpProblem` share.

    Attributes:
        exact: whether it draws every event, and so paths of the process itself.
        mass_action: whether it needs rates by the law of mass action, `MassAction`.
        name_in_julia: what Julia calls it.
    """

    problem = "jump"
    exact: ClassVar[bool] = True
    mass_action: ClassVar[bool] = False
    name_in_julia: ClassVar[str] = ""

    @property
    def julia_name(self) -> str:
        """Its name in Julia."""
        return self.name_in_julia or self.name


class _Exact(JumpAlgorithm):
    package = "JumpProcesses"


@dataclass(frozen=True)
class Direct(
    _Exact,
    order=0,
    reference="Gillespie, Exact stochastic simulation of coupled chemical reactions, J. Phys. Chem. 81 (1977)",
):
    """Gillespie's direct method: every event by two random numbers; the default up to 20 channels."""

    # The same draws as Julia's `Direct`, without code that is compiled for each number of channels.
    name_in_julia = "DirectFW"


@dataclass(frozen=True)
class SortingDirect(
    _Exact,
    order=0,
    reference="McCollum et al., The sorting direct method for stochastic simulation of biochemical systems with "
    "varying reaction execution behavior, Comput. Biol. Chem. 30 (2006)",
):
    """The direct method that looks at frequent channels first: the default for more than 20 channels."""


@dataclass(frozen=True)
class DirectCR(
    _Exact,
    order=0,
    reference="Slepoy, Thompson and Plimpton, A constant-time kinetic Monte Carlo algorithm for simulation of large "
    "biochemical reaction networks, J. Chem. Phys. 128 (2008)",
):
    """The direct method by composition and rejection: for very many channels of similar rates."""


@dataclass(frozen=True)
class NRM(
    _Exact,
    order=0,
    reference="Gibson and Bruck, Efficient exact stochastic simulation of chemical systems with many species and many "
    "channels, J. Phys. Chem. A 104 (2000)",
):
    """The next reaction method: a queue of firing times, for many channels that hardly depend on each other."""


@dataclass(frozen=True)
class RSSA(_Exact, order=0, reference=_THANH):
    """Rejection-based: draws by bounds on the rates, and evaluates few of them; for many reactions of mass action."""

    mass_action = True


@dataclass(frozen=True)
class RSSACR(_Exact, order=0, reference=_THANH):
    """`RSSA` by composition and rejection: for thousands of reactions of mass action."""

    mass_action = True


class _Leaping(JumpAlgorithm):
    exact, package = False, "JumpProcesses"


@dataclass(frozen=True)
class SimpleTauLeaping(
    _Leaping,
    order=1,
    adaptive=False,
    reference="Gillespie, Approximate accelerated stochastic simulation of chemically reacting systems, J. Chem. Phys. "
    "115 (2001)",
):
    """Many events at once, Poisson numbers of them at rates held over a leap: for large counts.

    Leaps end at saved times, and are no longer than `dt`. Its order is that of means. A leap that takes a count of mass
    action below zero, or comes to where a rate is negative, is an error.
    """

    # StochasticDiffEq's `TauLeaping` is not here. In version 7.1.1 nothing happens in its first leap of a fixed length
    # (8 births of 10 in five leaps), and by leaps of its own 10000 exp(-1) = 3679 came out as 2742, 3127 and 1274 at
    # tolerances of 1e-2, 1e-3 and 1e-4.


@dataclass(frozen=True)
class SimpleExplicitTauLeaping(_Leaping, order=1, reference=_CAO):
    """Leaps of Cao's length for reactions of mass action, which draws again what would take a count below zero.

    Args:
        epsilon: by how much of itself a rate may change in a leap.
    """

    epsilon: float = 0.05
    mass_action = True

    def __post_init__(self):
        if not 0 < self.epsilon < 1:
            raise InvalidInputError("epsilon is a share of the rates.", got=f"epsilon={self.epsilon!r}",
                                    expected="a number between 0 and 1",
                                    fix="pysciml.SimpleExplicitTauLeaping(epsilon=0.03)")  # fmt: skip
