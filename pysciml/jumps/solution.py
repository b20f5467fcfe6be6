"""What the solve of a jump process returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from pysciml.solution import EnsembleSolution, Solution


class Jumps(NamedTuple):
    """All events of a path.

    Attributes:
        t: (K,) when, increasing, float64. channel: (K,) which row of `changes`, int64.
    """

    t: torch.Tensor
    channel: torch.Tensor


@dataclass(eq=False, repr=False)
class JumpSolution(Solution):
    """One path of a jump process. As `Solution`; `sol(t)` is the state at any time, just after an event at t.

    Attributes:
        u: (k, n) in u0's dtype; differentiating it raises, where something that it depends on requires grad.
        seed: with this one the same problem and algorithm come to the same path again.
        jumps: its events, or None of a path by leaps, which does not know them.

    Example:
        >>> import pysciml as ps
        >>> ps.JumpSolution.log_likelihood.__name__
        'log_likelihood'
    """

    seed: int = 0
    jumps: Jumps | None = None
    _likelihood: Callable[[], torch.Tensor] | None = field(default=None, repr=False)

    def log_likelihood(self) -> torch.Tensor:
        """() the logarithm of how likely this path is: the density of its events, of their times and channels.

        It is the sum of log rates[j] at each event less the integral of all rates, exact, and differentiable by torch
        in p and in what the rates capture, to any order: the score of the path.

        Raises:
            UnsupportedError: a path by leaps. In backward: u0 requires grad.

        Reference: Glynn, "Likelihood ratio gradient estimation for stochastic systems", Comm. ACM 33 (1990).
        """
        assert self._likelihood is not None  # noqa: S101 - the solver gives it
        return self._likelihood()

    def _facts(self) -> list[tuple[str, str]]:
        jumps = [] if self.jumps is None else [("jumps", str(len(self.jumps.t)))]
        return [*super()._facts(), *jumps, ("seed", str(self.seed))]


@dataclass(eq=False, repr=False)
class JumpEnsembleSolution(EnsembleSolution):
    """Paths of a jump process. As `EnsembleSolution`, with the likelihood of each."""

    _likelihood: Callable[[], torch.Tensor] | None = field(default=None, repr=False)

    def log_likelihood(self) -> torch.Tensor:
        """(N,) of each path, as `JumpSolution.log_likelihood`; NaN where one failed.

        The derivative of the mean of h over paths is that of `((h - h.mean()) * sol.log_likelihood()).mean()`, where h
        itself is detached; subtracting the mean takes away noise.

        Raises:
            UnsupportedError: paths by leaps, or of a solve in which nothing required grad: their events were not kept.
        """
        assert self._likelihood is not None  # noqa: S101 - the solver gives it
        return self._likelihood()
