"""The cells of the table and their printing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch

import pysciml as ps
from benchmarks.gradients.problem import Problem, loss, relative_error
from benchmarks.gradients.ways import SENSITIVITIES, Way
from pysciml.sensitivity import SensitivityAlgorithm

UNSUPPORTED = "unsupported"


@dataclass
class Line:
    """One problem in one way. errors: by sensitivity algorithm the worst of all leaves; None where it is refused.

    failed: what was said where a solve that is claimed did not end.
    """

    problem: Problem
    way: Way
    errors: dict[str, float | None] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def worst(self) -> float:
        """Of all claimed; 0 where none is."""
        return max((e for e in self.errors.values() if e is not None), default=0.0)

    def __str__(self) -> str:
        return f"{self.problem.name}, {self.way.engine}, {self.way.route}, {self.way}"


def lines(problems: Iterable[Problem], engines: Iterable[str]) -> Iterator[Line]:
    """Every line in turn, with all its cells."""
    for problem in problems:
        reference, known = problem.reference()
        assert known < 1e-7, f"the reference of {problem.name} is known to {known:.1e} alone"
        for engine in engines:
            for way in problem.ways(engine):
                line = Line(problem, way)
                for sensealg in SENSITIVITIES:
                    _fill(line, sensealg, reference)
                yield line


def _fill(line: Line, sensealg: type[SensitivityAlgorithm], reference: dict[str, torch.Tensor]) -> None:
    name = sensealg.__name__
    try:
        line.errors[name] = gradient_error(line.problem, line.way, sensealg, reference)
    except ps.UnsupportedError:
        line.errors[name] = None
    except ps.PySciMLError as error:  # it is not refused, so it is claimed
        line.errors[name], line.failed[name] = math.inf, str(error)


def gradient_error(problem: Problem, way: Way, sensealg: type[SensitivityAlgorithm],
                   reference: dict[str, torch.Tensor]) -> float:  # fmt: skip
    """The worst relative error of all leaves. Raises `UnsupportedError` where pysciml refuses."""
    leaves = {name: x.clone().requires_grad_() for name, x in problem.leaves.items()}
    prob, options = problem.build(**leaves)
    sol = way.solve(prob, sensealg, problem.source, **problem.tolerances, **options)
    found = torch.autograd.grad(loss(problem.seen(sol)), list(leaves.values()), materialize_grads=True)
    errors = [relative_error(g, reference[name]) for name, g in zip(leaves, found, strict=True)]
    return math.inf if any(map(math.isnan, errors)) else max(errors)


HEAD = ("problem", "engine", "route", "solver", *(s.__name__ for s in SENSITIVITIES))
WIDTHS = (17, 8, 8, 17, *(len(name) for name in HEAD[4:]))


def row(cells: Iterable[str]) -> str:
    """A line of a markdown table whose columns stand in line as plain text too."""
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)) + " |"


def cells(line: Line, first: bool) -> list[str]:
    errors = [UNSUPPORTED if e is None else f"{e:.0e}" + (" !" if e > line.problem.bound else "")
              for e in line.errors.values()]  # fmt: skip
    return [line.problem.name if first else "", line.way.engine, line.way.route, str(line.way), *errors]


def show(found: Iterable[Line]) -> list[Line]:
    """Prints the table as it is filled, and returns its lines."""
    print(row(HEAD))
    print(row("-" * width for width in WIDTHS))
    shown: list[Line] = []
    for line in found:
        print(row(cells(line, not shown or shown[-1].problem is not line.problem)), flush=True)
        shown.append(line)
    return shown
