"""The table of gradients, `python -m benchmarks gradients`: no claimed cell is above its bound."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import pysciml as ps
from benchmarks.gradients import main
from benchmarks.gradients.problem import Problem
from benchmarks.gradients.problems import LINEAR, PROBLEMS
from benchmarks.gradients.table import lines
from pysciml.engines.embedded.sundials import SundialsEngine

problems = pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name)
HERE = ({"GaussAdjoint", "InterpolatingAdjoint", "ForwardSensitivity"}, {"DirectAdjoint", "BacksolveAdjoint"},
        {"SteadyStateAdjoint"}, {"DirectAdjoint"})  # fmt: skip
DELAYS = {"delayed decay", "mackey-glass"}
IN_JULIA_ALONE = {"ensemble, threads", "SDE additive", "SDE order 1.5", "SDE stiff"} | DELAYS


def check(problem: Problem, engine: str) -> list[set[str]]:
    """Holds every claimed cell to the bound, and returns the names of those that are claimed, line by line."""
    found = list(lines([problem], [engine]))
    wrong = [(str(line.way), line.way.route, name, e, line.failed.get(name)) for line in found
             for name, e in line.errors.items() if e is not None and not e <= problem.bound]  # fmt: skip
    assert not wrong
    return [{name for name, e in line.errors.items() if e is not None} for line in found]


@problems
def test_no_gradient_of_the_embedded_engine_is_above_its_bound(problem):
    claimed = check(problem, "embedded")
    assert all(names in HERE for names in claimed) or problem.name == "ensemble, threads"
    assert any(claimed) == (problem.name not in IN_JULIA_ALONE)


@pytest.mark.julia
@pytest.mark.exhaustive
@problems
def test_no_gradient_of_the_julia_engine_is_above_its_bound(problem):
    claimed = check(problem, "julia")
    first = main_gradient(problem)
    assert first in claimed[0]
    # Threads take no f that is called back.
    assert all(first in names or problem.name == "ensemble, threads" for names in claimed)
    assert problem.name.startswith("SDE") or not any("DirectAdjoint" in names for names in claimed)


def main_gradient(problem: Problem) -> str:
    """The one that every problem of its kind has in Julia."""
    if problem.name.startswith("SDE"):
        return "DirectAdjoint"
    others = {"steady state": "SteadyStateAdjoint"} | dict.fromkeys(DELAYS, "CollocationAdjoint")
    return others.get(problem.name, "GaussAdjoint")


def test_float64_has_one_bound():
    assert {p.bound for p in PROBLEMS if not p.single} == {1e-5}
    assert all(
        x.dtype in (torch.float64, torch.complex128) for p in PROBLEMS if not p.single for x in p.leaves.values()
    )


def test_the_table_is_printed_and_tells_a_wrong_gradient(capsys, monkeypatch):
    with pytest.raises(SystemExit) as ended:
        main("linear")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "| linear " in said
    assert "unsupported" in said
    assert "reltol=1e-10, abstol=1e-10" in said
    right = SundialsEngine.vjp
    monkeypatch.setattr(SundialsEngine, "vjp", lambda *args: off(right(*args)))
    with pytest.raises(SystemExit) as ended:
        main("linear")
    assert ended.value.code == 1
    assert "!" in capsys.readouterr().out


def off(pull):
    return dataclasses.replace(pull, flat=pull.flat * (1 + 2e-5))


def test_a_solve_that_fails_is_no_refusal(capsys, monkeypatch):
    def fails(*args):
        raise ps.SolveError("stopped", retcode=ps.ReturnCode.Failure, t=0.0, direction="backward", stats=None)

    monkeypatch.setattr(SundialsEngine, "vjp", fails)
    with pytest.raises(SystemExit) as ended:
        main("dose")
    assert ended.value.code == 1
    assert "GaussAdjoint:\nstopped" in capsys.readouterr().out


def test_a_problem_that_is_not_there():
    with pytest.raises(SystemExit, match="there is no problem 'nothing'; there are 'linear'"):
        main("nothing")


def test_differences_agree_with_a_closed_form():
    """What stands for a closed form where there is none."""
    by_differences = dataclasses.replace(LINEAR, differences=1e-3)
    (found, known), (truth, _) = by_differences.reference(), LINEAR.reference()
    assert known < 1e-7
    for name, x in truth.items():
        torch.testing.assert_close(found[name], x, rtol=1e-7, atol=1e-9)
