"""An ensemble in this process."""

from __future__ import annotations

from typing import Any

from pysciml.ensemble.progress import Silence
from pysciml.ensemble.serial import one_by_one
from pysciml.ensemble.threads import can_thread, on_threads
from pysciml.problems import EnsembleProblem
from pysciml.solution.ensemble import EnsembleSolution

HERE = ("serial", "threads")


def solve_here(ensemble: EnsembleProblem, alg: Any, way: str | None, show: Silence, **options: Any) -> EnsembleSolution:
    """Solves an ensemble by "serial" or "threads"; None takes threads where they can."""
    if way is None:
        way = "threads" if can_thread(ensemble, alg, **options) else "serial"
    return (on_threads if way == "threads" else one_by_one)(ensemble, alg, show, **options)
