"""Resident memory stays flat over thousands of solves."""

from __future__ import annotations

import gc
import pathlib
import resource

import pytest
import torch
from problems import lotka_volterra, vector

import pysciml as ps

STATM = pathlib.Path("/proc/self/statm")
pytestmark = pytest.mark.skipif(not STATM.exists(), reason="resident memory is read from /proc, which is Linux's")


def resident() -> float:
    """MiB of resident memory."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * resource.getpagesize() / 2**20


def solve_and_differentiate(f, p) -> None:
    prob = ps.ODEProblem(f, vector(1.0, 1.0), (0.0, 0.5), p)
    ps.solve(prob, ps.CVODE_Adams(), saveat=[0.25, 0.5]).u.sum().backward()


def growth(step, warm: int, more: int) -> float:
    for _ in range(warm):
        step()
    before = resident()
    for _ in range(more):
        step()
    return resident() - before


def test_the_same_problem_again_and_again():
    p = vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
    assert growth(lambda: solve_and_differentiate(lotka_volterra, p), 500, 3000) < 4.0


def test_a_right_hand_side_made_anew_every_time():
    rates = vector(1.5, 1.0, 1.0, 3.0).requires_grad_()

    def step():
        scaled = 2 * rates
        solve_and_differentiate(lambda t, u, p: scaled.mean() * lotka_volterra(t, u, p / 2), scaled)

    assert growth(step, 300, 1000) < 4.0


def test_other_times_every_time():
    """Each grid has an integrator of its own; the oldest are let go."""
    p = vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
    generator = torch.Generator().manual_seed(0)

    def step():
        end = 0.3 + 0.2 * torch.rand((), generator=generator, dtype=torch.float64)
        prob = ps.ODEProblem(lotka_volterra, vector(1.0, 1.0), (0.0, 0.5), p)
        ps.solve(prob, ps.CVODE_Adams(), saveat=end[None]).u.sum().backward()

    assert growth(step, 150, 300) < 4.0


def test_failed_solves():
    prob = ps.ODEProblem(lambda t, u: u**2, vector(1.0), (0.0, 2.0))

    def step():
        with pytest.raises(ps.SolveError):
            ps.solve(prob, maxiters=200)

    assert growth(step, 50, 500) < 4.0
