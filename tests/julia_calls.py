"""Small work for Julia through pysciml's gate, for tests of threads, processes and signals. Runs where Julia does."""

from __future__ import annotations

import os
from functools import cache

import numpy as np

from pysciml.engines.julia.runtime import call, julia, on_julia_thread

DECAY = """function (out, v, u, p, t, w, c, k)
    out[1] = p[1] * u[1]
    return 0
end
"""


@cache
def model():
    made = call("Model", False, 1, 1)
    call("define!", made, "f", DECAY, np.ones(1), np.zeros(0, dtype=np.int64), 0)
    return made


@cache
def tsit5():
    return call("algorithm", "OrdinaryDiffEqTsit5", "Tsit5", False, {})


def solve(rate: float = -1.0):
    """Solves u' = rate u from 1 to t = 1, checks it, and returns the run, which stays in Julia."""
    u, counts = np.empty((1, 1)), np.zeros(4, dtype=np.int64)
    run = call("solve!", u.T, counts, model(), tsit5(), np.ones(1), np.array([rate]), np.zeros(0), 0.0, 1.0,
               np.array([1.0]), 1e-9, np.array([1e-9]), 0, {})  # fmt: skip
    assert abs(u[0, 0] - np.exp(rate)) < 1e-6
    return run


@cache
def _evaluated(code: str):
    import juliacall

    return juliacall.newmodule("Test").seval(code)


def evaluate(code: str, *args):
    """`code`, a Julia function, called with args on a thread that Julia knows."""
    julia()
    return on_julia_thread(lambda: _evaluated(code)(*args))


SLOW = """
begin
    import OrdinaryDiffEqTsit5, PySciML, SciMLBase
    rhs!(du, u, p, t) = (du[1] = -u[1] + sin(1000t); nothing)
    function (t1)
        prob = SciMLBase.ODEProblem(rhs!, [1.0], (0.0, t1))
        sol = SciMLBase.solve(prob, OrdinaryDiffEqTsit5.Tsit5(); callback = PySciML.poll_callback(),
            save_everystep = false, maxiters = typemax(Int))
        return sol.t[end]
    end
end
"""


def slow(t1: float) -> float:
    """A solve of some 500 steps for each unit of time; to 1e6 it takes minutes."""
    return evaluate(SLOW, t1)


def garbage() -> None:
    """Collects Julia's garbage, all of it."""
    evaluate("() -> (GC.gc(); nothing)")


def kept() -> int:
    """How many values Julia keeps for Python, those among them that the next call lets go."""
    return evaluate("begin import PySciML; () -> count(!isnothing, PySciML.KEPT) end")


def allocate() -> None:
    """Makes garbage enough for several collections: 800 MB in small pieces."""
    evaluate("() -> (for _ in 1:100_000; global x = rand(1000); end; nothing)")


def memory() -> float:
    """Resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
