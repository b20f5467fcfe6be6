"""The bar of a long solve."""

from __future__ import annotations

import time

import pytest
import torch
from problems import vector

import pysciml as ps
from pysciml.control import progress

WAYS = [
    pytest.param(ps.DP5(), {"engine": "embedded"}, id="dp5"),
    pytest.param(ps.Tsit5(), {"engine": "julia", "route": "callback"}, id="julia", marks=pytest.mark.julia),
]


def slow(seconds):
    def f(t, u):
        time.sleep(seconds)
        return torch.cos(t) * u

    return ps.ODEProblem(f, vector(1.0), (0.0, 20.0))


@pytest.mark.parametrize(("alg", "options"), WAYS)
def test_a_long_solve_shows_how_far_it_is(alg, options, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_PATIENCE", 0.1)
    shares = []
    monkeypatch.setattr(progress, "_INTERVAL", 0.02)
    make = progress._bar

    def kept():
        bar = make()
        show = bar.set_postfix_str
        monkeypatch.setattr(bar, "set_postfix_str", lambda text, refresh: (shares.append(bar.n), show(text, refresh)))
        return bar

    monkeypatch.setattr(progress, "_bar", kept)
    ps.solve(slow(0.003), alg, progress=True, dt=0.1, dtmax=0.2, **options)
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert 0.0 <= shares[0] < shares[-1] <= 1.0
    assert "solve |" in capsys.readouterr().err


@pytest.mark.parametrize(("alg", "options"), WAYS)
def test_a_short_one_shows_nothing(alg, options, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_PATIENCE", 60.0)  # a busy machine is slower than half a second now and then
    ps.solve(slow(0.0), alg, progress=True, **options)
    assert capsys.readouterr().err == ""


@pytest.mark.julia
def test_a_compiled_solve_shows_itself_too(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_PATIENCE", 0.05)
    monkeypatch.setattr(progress, "_INTERVAL", 0.01)
    prob = ps.ODEProblem(lambda t, u: torch.stack([u[1], -u[0]]), vector(1.0, 0.0), (0.0, 2e4))
    ps.solve(prob, ps.Tsit5(), progress=True, maxiters=10_000_000, engine="julia", saveat=[2e4])
    assert "of 2e+04" in capsys.readouterr().err


def test_a_solve_that_fails_closes_its_bar(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    prob = ps.ODEProblem(lambda t, u: u**2, vector(1.0), (0.0, 2.0))
    with pytest.raises(ps.SolveError):
        ps.solve(prob, ps.DP5(), progress=True, engine="embedded")


def test_casadi_says_that_it_cannot():
    prob = ps.ODEProblem(lambda t, u: -u, vector(1.0), (0.0, 2.0))
    with pytest.raises(ps.UnsupportedError, match=r"solves in one call[\s\S]*progress=True"):
        ps.solve(prob, ps.CVODE_BDF(), progress=True, engine="embedded")
