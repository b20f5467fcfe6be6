"""What the solve of a stochastic equation returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pysciml.problems import NoisePath
from pysciml.solution import Solution


@dataclass(eq=False, repr=False)
class SDESolution(Solution):
    """One path. As `Solution`; `sol(t)` is linear between the solver's steps.

    Attributes:
        seed: with this one the same problem, algorithm and steps come to the same path again.
    """

    seed: int = 0
    _noise: Callable[[], NoisePath] | None = field(default=None, repr=False)

    @property
    def noise(self) -> NoisePath:
        """The Brownian motion at the steps of the solver: `solve(prob, noise=sol.noise.refined(times))`."""
        assert self._noise is not None  # noqa: S101 - the solver gives it
        return self._noise()

    def _facts(self) -> list[tuple[str, str]]:
        return [*super()._facts(), ("seed", str(self.seed))]
