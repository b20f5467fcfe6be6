"""The Julia calls of one gradient made from Julia itself: what the solver costs without Python around it."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

import pysciml as ps
from pysciml.engines.julia.algorithms import julia_algorithm
from pysciml.engines.julia.runtime import julia, on_julia_thread
from pysciml.rhs.parameters import pack
from pysciml.rhs.trace import prepare

# Vectors of Julia's own; the cotangent is that of the mean square of the saved states, by the call that it is.
LOOP = """
begin
    import PySciML
    function (model, alg, u0, p, t1, ts, tol, times)
        u0, p, ts = Vector{Float64}(u0), Vector{Float64}(p), Vector{Float64}(ts)
        out, counts = zeros(length(u0), length(ts)), zeros(Int, 4)
        du0, dp = zeros(length(u0)), zeros(length(p))
        for i in eachindex(times)
            start = time_ns()
            run = PySciML.solve!(out, counts, model, alg, u0, p, Float64[], 0.0, t1, ts, tol, [tol], 0, ())
            PySciML.adjoint!(du0, dp, counts, run, "GaussAdjoint", alg, ts, (2 / length(out)) .* out, tol, tol)
            times[i] = (time_ns() - start) / 1e9
        end
        return dp
    end
end
"""


class FromJulia:
    """The gradient of the mean square of the states at `ts`, by a loop in Julia with the model pysciml compiled.

    Args:
        net: a module that pysciml has solved with Julia before, in this process, its parameters in its own order.
    """

    def __init__(self, net: torch.nn.Module, alg: ps.algorithms.Algorithm, u0: torch.Tensor, ts: torch.Tensor, tol):
        import juliacall

        rhs = prepare(net, torch.zeros((), dtype=u0.dtype), u0)[1]
        model = rhs.lowered["julia", False, False]["model"].value
        julia()
        loop = on_julia_thread(juliacall.newmodule("Benchmark").seval, LOOP)
        self._args = (model, julia_algorithm(alg).value, u0.numpy(), pack(list(net.parameters())),
                      float(ts[-1]), ts.numpy(), tol)  # fmt: skip
        self._loop = loop

    def __call__(self) -> torch.Tensor:
        return self.timed(1)[0]

    def timed(self, repeats: int) -> tuple[torch.Tensor, list[float]]:
        """The gradient, and the seconds of each of so many repetitions by Julia's own clock."""
        times = np.zeros(repeats)
        gradient = on_julia_thread(lambda: np.array(self._loop(*self._args, times)))
        return torch.from_numpy(gradient), times.tolist()


def timed(run: Callable[[], torch.Tensor], repeats: int) -> list[float]:
    """Seconds of each of so many calls, by the clock of the language that makes them."""
    if hasattr(run, "timed"):
        found = run.timed(repeats)
        return found[1] if isinstance(found, tuple) else found
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times
