"""What the solve of an ensemble returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pysciml.problems import EnsembleProblem
from pysciml.solution import ReturnCode, Stats


@dataclass(eq=False)
class EnsembleSolution:
    """The trajectories of an ensemble.

    Attributes:
        t: (k,) the saved times. u: the saved states in the structure of `u0`, each leaf (N, k, *shape); NaN where a
            trajectory failed.
        prob: the ensemble. retcodes: how each ended. stopped: (N,) the time where each that failed stopped, else NaN.
        stats: what the solver counted for all of them together.
    """

    t: torch.Tensor
    u: Any
    prob: EnsembleProblem
    retcodes: list[ReturnCode]
    stopped: torch.Tensor
    stats: Stats

    @property
    def successful(self) -> torch.Tensor:
        """(N,) whether each reached its end: `sol.u[sol.successful]`."""
        return torch.tensor([code.successful for code in self.retcodes], device=self.t.device)

    @property
    def failed(self) -> list[int]:
        """The numbers of those that did not."""
        return [i for i, code in enumerate(self.retcodes) if not code.successful]

    def __len__(self) -> int:
        return len(self.retcodes)

    def __repr__(self) -> str:
        s = self.stats
        return (f"EnsembleSolution\n  {len(self)} trajectories, {len(self.failed)} failed\n  t {self.t[0].item():g} to "
                f"{self.t[-1].item():g}, {len(self.t)} saved\n  solver {s.alg} ({s.engine}), {s.nf} evaluations of f, "
                f"{1e3 * s.wall_time:.3g} ms")  # fmt: skip
