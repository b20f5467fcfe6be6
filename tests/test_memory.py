"""Resident memory stays flat over thousands of solves, measured in processes that do nothing else."""

from __future__ import annotations

import gc
import pathlib
import resource
from collections.abc import Callable

import pytest
import torch
from problems import lotka_volterra, vector
from processes import output

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


def the_same_problem() -> Callable[[], None]:
    p = vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
    return lambda: solve_and_differentiate(lotka_volterra, p)


def a_right_hand_side_made_anew() -> Callable[[], None]:
    rates = vector(1.5, 1.0, 1.0, 3.0).requires_grad_()

    def step():
        scaled = 2 * rates
        solve_and_differentiate(lambda t, u, p: scaled.mean() * lotka_volterra(t, u, p / 2), scaled)

    return step


def other_times() -> Callable[[], None]:
    """Each grid has an integrator of its own; the oldest are let go."""
    p = vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
    generator = torch.Generator().manual_seed(0)

    def step():
        end = 0.3 + 0.2 * torch.rand((), generator=generator, dtype=torch.float64)
        prob = ps.ODEProblem(lotka_volterra, vector(1.0, 1.0), (0.0, 0.5), p)
        ps.solve(prob, ps.CVODE_Adams(), saveat=end[None]).u.sum().backward()

    return step


def failures() -> Callable[[], None]:
    prob = ps.ODEProblem(lambda t, u: u**2, vector(1.0), (0.0, 2.0))

    def step():
        with pytest.raises(ps.SolveError):
            ps.solve(prob, maxiters=200)

    return step


# How often each is done before memory is read, and how often between the two readings.
CASES = {the_same_problem: (500, 3000), a_right_hand_side_made_anew: (300, 1000), other_times: (150, 300),
         failures: (50, 500)}  # fmt: skip


def print_growth(name: str) -> None:
    """What a process of its own does for one case."""
    torch.set_num_threads(1)
    case, (warm, more) = next((case, times) for case, times in CASES.items() if case.__name__ == name)
    step = case()
    for _ in range(warm):
        step()
    before = resident()
    for _ in range(more):
        step()
    print(resident() - before)


@pytest.mark.parametrize("case", [case.__name__ for case in CASES])
def test_memory_is_flat(case):
    assert float(output(f"import test_memory; test_memory.print_growth({case!r})")) < 4.0
