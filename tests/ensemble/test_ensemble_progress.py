"""What is seen while an ensemble is solved."""

from __future__ import annotations

import io
import re
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from ensemble_cases import COMPILED, blow_ups

import pysciml as ps
from pysciml.ensemble.progress import Lines


def solve(**options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ps.PySciMLWarning)
        return ps.solve_ensemble(blow_ups()[0], saveat=[1.0], **COMPILED, **options)


def test_a_bar_in_a_terminal(monkeypatch):
    with ThreadPoolExecutor(2) as pool:
        for executor in ("serial", pool):
            screen = io.StringIO()
            screen.isatty = lambda: True
            monkeypatch.setattr(sys, "stderr", screen)
            solve(executor=executor, progress=True)
            shown = re.split(r"[\r\n]+", screen.getvalue().strip())
            assert re.match(r"trajectories 0/5 \| +\|", shown[0])
            assert re.match(r"trajectories 5/5 \|#+\|00:0\d<00:00, failed 1", shown[-1]), shown[-1]


def test_lines_elsewhere_and_nothing_unless_asked(capsys):
    solve(progress="on")
    assert capsys.readouterr().err == "trajectories 5/5 failed 1\n"
    solve()
    solve(progress=False)
    assert capsys.readouterr().err == ""
    with pytest.raises(ps.InvalidInputError, match="progress must be auto, on or off"):
        solve(progress="loud")


def test_a_line_every_few_seconds(capsys, monkeypatch):
    lines = Lines(14)
    begun = lines._last
    for second in range(14):
        monkeypatch.setattr("time.monotonic", lambda now=begun + second: now)
        lines.update(second, 0)
    lines.close()
    assert re.findall(r"(\d+)/14", capsys.readouterr().err) == ["6", "12", "13"]
