"""Gradients against closed forms: every problem, engine, route and sensitivity algorithm.

`python -m benchmarks gradients [problem ...]`. A cell is the worst relative error of the gradient, over all that the
problem is differentiated in, each in its own norm; or "unsupported", where pysciml refuses. The exit status is 1 if a
cell is above its bound: 1e-5 in float64.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.gradients.problem import TIGHT
from benchmarks.gradients.problems import PROBLEMS
from benchmarks.gradients.table import Line, lines, show
from pysciml.engines.select import engine_name


def main(*names: str) -> None:
    """Prints the table, or that of the problems named, and exits with 1 if a gradient is wrong."""
    known = {problem.name: problem for problem in PROBLEMS}
    for name in names:
        if name not in known:
            sys.exit(f"there is no problem {name!r}; there are {', '.join(map(repr, known))}")
    torch.set_num_threads(1)
    engines = ("julia", "embedded") if engine_name() == "julia" else ("embedded",)
    start = time.perf_counter()
    found = show(lines([known[name] for name in names] or PROBLEMS, engines))
    sys.exit(report(found, time.perf_counter() - start))


def report(found: list[Line], seconds: float) -> int:
    """Says what the table comes to; 1 if a gradient is wrong."""
    claimed = sum(e is not None for line in found for e in line.errors.values())
    print(f"\n{claimed} claimed cells in {seconds:.0f} s. Tolerances: {tolerances(found)}.")
    for single in (False, True):
        some = [line for line in found if line.problem.single == single]
        if some:
            worst, name = max(some, key=Line.worst), "float32" if single else "float64"
            print(f"The worst of {name} is {worst.worst():.1e}, of at most {worst.problem.bound:.0e}: {worst}.")
    for line in found:
        for name, said in line.failed.items():
            print(f"\n{line}, {name}:\n{said}")
    return int(any(line.worst() > line.problem.bound for line in found))


def tolerances(found: list[Line]) -> str:
    """Those of most problems, and of each that has its own."""
    each = {line.problem.name: line.problem.tolerances for line in found}
    own = [f"{name} {_written(given)}" for name, given in each.items() if given is not TIGHT]
    return "; ".join([_written(TIGHT), *own])


def _written(given: Mapping[str, Any]) -> str:
    values = {k: x.tolist() if isinstance(x, torch.Tensor) else x for k, x in given.items()}
    return ", ".join(f"{k}={x}" for k, x in values.items())
