"""`pysciml.solve` with the fit's options filled in, and its work counted."""

from __future__ import annotations

import math
from typing import Any

from pysciml.errors import SolveError
from pysciml.problems import ODEProblem
from pysciml.solution import Solution, Stats
from pysciml.solve import solve


class CountingSolver:
    """Calls like `pysciml.solve`; `take()` gives and clears what was counted since.

    A loss of the user's own gets one of these, so that its solves are counted like any other.

    Args:
        options: keyword arguments for `solve`; those that are None are left to it.
    """

    def __init__(self, options: dict[str, Any]):
        self.options = {name: value for name, value in options.items() if value is not None}
        self._counts = {"steps": 0.0, "rejected": 0.0, "nf": 0.0}

    def __call__(self, prob: ODEProblem, alg: Any = None, **options: Any) -> Solution:
        given = {"alg": alg, **options} if alg is not None else options
        try:
            sol = solve(prob, **{**self.options, **given})
        except SolveError as error:
            if error.stats is not None:
                self._count(error.stats)
            raise
        self._count(sol.stats)
        return sol

    def take(self) -> dict[str, float]:
        """Counts since the last call: `steps`, `rejected`, `nf`; NaN where a solver did not report."""
        counts, self._counts = self._counts, dict.fromkeys(self._counts, 0.0)
        return counts

    def _count(self, stats: Stats) -> None:
        for name, value in (("steps", stats.naccept), ("rejected", stats.nreject), ("nf", stats.nf)):
            self._counts[name] += math.nan if value is None else value
