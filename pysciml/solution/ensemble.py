"""What the solve of an ensemble returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pysciml.errors import SolveError
from pysciml.problems import EnsembleProblem
from pysciml.solution.event import Event
from pysciml.solution.retcode import ReturnCode
from pysciml.solution.stats import Stats


@dataclass(frozen=True)
class FailedTrajectory:
    """A trajectory that did not reach its end.

    Attributes:
        index: which one. retcode: how it ended. t: the time where it stopped, NaN where the solver did not say.
        message: the error that solving it alone would have raised.
    """

    index: int
    retcode: ReturnCode
    t: float
    message: str

    @classmethod
    def of(cls, index: int, error: SolveError) -> FailedTrajectory:
        return cls(index, error.retcode, float(error.t), str(error))


@dataclass(eq=False)
class EnsembleSolution:
    """The trajectories of an ensemble.

    Attributes:
        t: (k,) the saved times. u: the saved states in the structure of `u0`, each leaf (N, k, *shape); NaN where a
            trajectory failed.
        prob: the ensemble. failures: those that failed, in order, with retcode, time and message.
        stats: what the solver counted for all of them together. events: what callbacks met in each (`Event`), if any.
        seed: of what is random, or None.
    """

    t: torch.Tensor
    u: Any
    prob: EnsembleProblem
    failures: list[FailedTrajectory]
    stats: Stats
    events: Sequence[Sequence[Event]] = ()
    seed: int | None = None

    @property
    def retcodes(self) -> list[ReturnCode]:
        """How each ended."""
        codes = [ReturnCode.Success] * len(self)
        for failure in self.failures:
            codes[failure.index] = failure.retcode
        return codes

    @property
    def successful(self) -> torch.Tensor:
        """(N,) whether each reached its end: `sol.u[sol.successful]`."""
        return torch.tensor([code.successful for code in self.retcodes], device=self.t.device)

    @property
    def failed(self) -> list[int]:
        """The numbers of those that did not."""
        return [failure.index for failure in self.failures]

    @property
    def stopped(self) -> torch.Tensor:
        """(N,) the time where each that failed stopped, else NaN."""
        times = torch.full((len(self),), torch.nan, dtype=torch.float64)
        for failure in self.failures:
            times[failure.index] = failure.t
        return times

    def __len__(self) -> int:
        return len(self.prob)

    def __repr__(self) -> str:
        s = self.stats
        return (f"EnsembleSolution\n  {len(self)} trajectories, {len(self.failures)} failed\n  t {self.t[0].item():g} "
                f"to {self.t[-1].item():g}, {len(self.t)} saved\n  solver {s.alg} ({s.engine}), {s.nf} evaluations of "
                f"f, {1e3 * s.wall_time:.3g} ms")  # fmt: skip
