"""Trajectories one after the other, in this process: any engine, any route."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.control import save_times
from pysciml.ensemble.progress import Silence
from pysciml.errors import SolveError
from pysciml.problems import EnsembleProblem, ODEProblem
from pysciml.solution import Solution, Stats
from pysciml.solution.ensemble import EnsembleSolution, FailedTrajectory
from pysciml.solve import solve


def one_by_one(ensemble: EnsembleProblem, alg: Any, show: Silence, **options: Any) -> EnsembleSolution:
    """Solves each member by itself. Args: show: what is seen meanwhile. options: as of `solve`."""
    found: list[Solution | SolveError] = []
    for i in range(len(ensemble)):
        found.append(_attempt(ensemble.member(i), alg, options))
        show.update(i + 1, sum(isinstance(x, SolveError) for x in found))
    ts = save_times(ensemble.prob, options["saveat"])
    nothing = pytree.tree_map(lambda x: x.new_full((len(ts), *x.shape), torch.nan), ensemble.prob.u0)
    members = [nothing if isinstance(x, SolveError) else x.u for x in found]
    u = pytree.tree_map(lambda *xs: torch.stack(xs), *members)
    failures = [FailedTrajectory.of(i, x) for i, x in enumerate(found) if isinstance(x, SolveError)]
    stats = together([x.stats for x in found if isinstance(x, Solution)])
    events = [x.events if isinstance(x, Solution) else () for x in found]
    return EnsembleSolution(ts, u, ensemble, failures, stats, events)


def _attempt(prob: ODEProblem, alg: Any, options: dict[str, Any]) -> Solution | SolveError:
    try:
        return solve(prob, alg, **options)
    except SolveError as error:
        return error


def together(each: Sequence[Stats]) -> Stats:
    """What several solves counted, added up."""
    if not each:
        return Stats()
    counts = {name: None if any(getattr(s, name) is None for s in each) else sum(getattr(s, name) for s in each)
              for name in ("nf", "njacs", "naccept", "nreject")}  # fmt: skip
    return Stats(**counts, wall_time=sum(s.wall_time for s in each), engine=each[0].engine, alg=each[0].alg)
