"""Contestants side by side: first calls apart, warm times in interleaved rounds, and how far each is from the truth."""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median, quantiles

import torch

Run = Callable[[], torch.Tensor]


@dataclass
class Result:
    """One contestant.

    Attributes:
        first: seconds of its first call, with all that is compiled for it. times: seconds of warm calls.
        error: relative distance of what it returned to the truth, NaN without one.
        failed: why it did not run, in its own words, or nothing.
    """

    first: float = float("nan")
    times: list[float] = field(default_factory=list)
    error: float = float("nan")
    failed: str = ""

    @property
    def median(self) -> float:
        return median(self.times) if self.times else float("nan")

    @property
    def best(self) -> float:
        return min(self.times, default=float("nan"))

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles over the median."""
        if len(self.times) < 3:
            return float("nan")
        low, _, high = quantiles(self.times, n=4)
        return (high - low) / 2 / self.median


def race(
    contestants: Mapping[str, Callable[[], Run]], *, truth: torch.Tensor | None = None, rounds: int = 5,
    seconds: float = 0.5,
) -> dict[str, Result]:  # fmt: skip
    """Runs everyone once, then in rounds that are interleaved, so that a noisy machine is noisy for all.

    Args:
        contestants: by name, what makes ready and gives what is timed. truth: what all should return.
        seconds: each has about so long in each round, for one call at least. Of many calls in a row the first are left
            out: they find caches that another has filled, as no call of a training loop does.
    """
    results = {name: Result() for name in contestants}
    runs: dict[str, Run] = {}
    for name, build in contestants.items():
        start = time.perf_counter()
        try:
            run = build()
            value = run()
        except Exception as error:  # a contestant that cannot is told of, and not left out
            results[name].failed = f"{type(error).__name__}: {str(error).splitlines()[0]:.100}"
            continue
        results[name].first = time.perf_counter() - start
        runs[name] = run
        if truth is not None:
            results[name].error = float((value.double() - truth).norm() / truth.norm())
    for _ in range(rounds):
        for name, run in runs.items():
            results[name].times += timed(run, seconds)
    return results


def timed(run: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each call that fits into so many, of one at least; without garbage of others in between."""
    gc.collect()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times[len(times) // 10 :] if len(times) > 1 else times


def at(curve: list[tuple[float, float]], error: float) -> float:
    """The least time at which an error is reached, between (error, time) points that are neighbours on log scales.

    NaN where the curve does not come down to it. Above its largest error it is its least time: there is nothing looser.
    """
    best = math.nan
    for (e1, t1), (e2, t2) in itertools.pairwise(curve):
        if e2 <= error <= e1 and e2 < e1:
            share = math.log(e1 / error) / math.log(e1 / e2)
            time_there = t1 ** (1 - share) * t2**share
            best = time_there if math.isnan(best) else min(best, time_there)
    under = [t for e, t in curve if e <= error]
    return min([best, *under]) if not math.isnan(best) else min(under, default=math.nan)
