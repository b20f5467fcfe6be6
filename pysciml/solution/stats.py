"""What a solver counted on its way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Stats:
    """Counts of one solve, and after `backward()` those of its backward solve under `backward`.

    Attributes:
        nf: evaluations of the right-hand side. njacs: Jacobian or linear-solver set-ups.
        naccept, nreject: accepted and rejected steps. Counts a solver does not report are None.
        wall_time: seconds in the solver. engine, alg: who solved it.
        backward: the Stats of the last backward solve, or None.
    """

    nf: int | None = None
    njacs: int | None = None
    naccept: int | None = None
    nreject: int | None = None
    wall_time: float = 0.0
    engine: str = ""
    alg: str = ""
    backward: Stats | None = None
