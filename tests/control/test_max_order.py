"""The highest order of SUNDIALS' methods, with each engine."""

from __future__ import annotations

import pytest
import torch
from problems import vector

import pysciml as ps

ENGINES = ["embedded", pytest.param("julia", marks=pytest.mark.julia)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("make", [ps.CVODE_BDF, ps.CVODE_Adams, ps.IDA], ids=lambda a: a.__name__)
def test_a_bound_order_takes_more_steps_to_the_same_end(engine, make):
    def swing(order: int | None) -> ps.Solution:
        prob = ps.ODEProblem(lambda t, u: torch.stack([u[1], -u[0]]), vector(1.0, 0.0), (0.0, 10.0))
        return ps.solve(prob, make(max_order=order), engine=engine, saveat=[10.0], reltol=1e-7, abstol=1e-9)

    free, second, first = swing(None), swing(2), swing(1)
    assert first.stats.naccept > 5 * second.stats.naccept > 25 * free.stats.naccept
    for sol in (free, second):
        torch.testing.assert_close(sol.u[0, 0], torch.cos(sol.t[0]), rtol=1e-2, atol=0)
