"""Resident memory stays flat over thousands of gradients by Julia."""

from __future__ import annotations

import json
import sys

import pytest
from processes import output

pytestmark = [pytest.mark.julia, pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")]

CODE = """
import gc, json
import julia_calls, problems
import pysciml as ps

p = problems.vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
def step():
    prob = ps.ODEProblem(problems.lotka_volterra, problems.vector(1.0, 1.0), (0.0, 1.0), p)
    ps.solve(prob, ps.Tsit5(), saveat=[0.5, 1.0], engine="julia").u.sum().backward()

found = {}
for k in range(1, 10_001):
    step()
    if k in (500, 3_000, 10_000):
        gc.collect()
        found[k] = julia_calls.memory()
print(json.dumps(found))
"""


def test_memory_is_flat_over_10000_gradients():
    found = {int(k): megabytes for k, megabytes in json.loads(output(CODE)).items()}
    print(found)
    assert found[10_000] - found[500] < 4.0, found
    assert found[10_000] - found[3_000] < 1.0, found
