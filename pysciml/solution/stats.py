"""What a solver counted on its way."""

from __future__ import annotations

from collections.abc import Sequence
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


class _Total(Stats):
    """The sum of several; `backward` that of those which have been solved backwards by now."""

    def __init__(self, parts: Sequence[Stats]):
        self.parts = parts
        counts = {name: _sum([getattr(s, name) for s in parts]) for name in ("nf", "njacs", "naccept", "nreject")}
        last = parts[-1]
        super().__init__(**counts, wall_time=sum(s.wall_time for s in parts), engine=last.engine, alg=last.alg)  # type: ignore[arg-type] # counts alone

    @property
    def backward(self) -> Stats | None:
        done = [s.backward for s in self.parts if s.backward is not None]
        return total(done) if done else None

    @backward.setter
    def backward(self, value: Stats | None) -> None:
        """The dataclass sets None; there is nothing to keep."""


def total(parts: Sequence[Stats]) -> Stats:
    """The counts of several solves together."""
    return _Total(parts) if parts else Stats()


def _sum(counts: Sequence[int | None]) -> int | None:
    return None if None in counts else sum(counts)  # type: ignore[arg-type]
