"""Mackey and Glass's delay equation, its four parameters and the lag learned: one solve and one gradient.

Against the same solve written by hand in Julia, in the same process, warm, at the same tolerances and saved times.
"""

from __future__ import annotations

import statistics

import numpy as np
import torch

import pysciml as ps
from benchmarks.from_julia import timed
from pysciml.engines.select import engine_name

TOLERANCE, REPEATS = 1e-6, 200
TIMES = torch.linspace(0.5, 100.0, 200, dtype=torch.float64)
PARAMETERS = torch.tensor([2.0, 1.0, 9.65, 2.0], dtype=torch.float64)

BY_HAND = """
begin
    import DelayDiffEq, OrdinaryDiffEqTsit5, SciMLBase
    function mackey_glass!(du, u, h, p, t)
        past = h(p, t - p[4]; idxs = 1)
        du[1] = p[1] * past / (1 + past^p[3]) - p[2] * u[1]
        return nothing
    end
    before(p, t; idxs = nothing) = idxs === nothing ? [0.5] : 0.5
    function (p, ts, tol, times, out)
        p, ts, alg = Vector{Float64}(p), Vector{Float64}(ts), DelayDiffEq.MethodOfSteps(OrdinaryDiffEqTsit5.Tsit5())
        for i in eachindex(times)
            start = time_ns()
            prob = SciMLBase.DDEProblem(mackey_glass!, [0.5], before, (0.0, ts[end]), p; constant_lags = [p[4]],
                order_discontinuity_t0 = 1)
            sol = SciMLBase.solve(prob, alg; reltol = tol, abstol = tol, saveat = ts)
            times[i] = (time_ns() - start) / 1e9
            copyto!(out, (u[1] for u in sol.u))
        end
        return nothing
    end
end
"""


def mackey_glass(t, u, h, p):
    past = h(t - p[3])
    return p[0] * past / (1 + past ** p[2]) - p[1] * u


def solve(p: torch.Tensor, alg: ps.MethodOfSteps | None = None) -> ps.Solution:
    prob = ps.DDEProblem(mackey_glass, torch.full((1,), 0.5, dtype=torch.float64), 0.5, (0.0, 100.0), p)
    alg = alg or ps.MethodOfSteps(ps.Tsit5())
    return ps.solve(prob, alg, saveat=TIMES, reltol=TOLERANCE, abstol=TOLERANCE, engine="julia")


class ByHand:
    """The solve in Julia alone, timed by its clock."""

    def __init__(self):
        from pysciml.engines.julia.runtime import julia, on_julia_thread

        julia()
        import juliacall  # there only once Julia is: it starts it where pysciml would not

        self._run = on_julia_thread(juliacall.newmodule("ByHand").seval, BY_HAND)
        self._on = on_julia_thread

    def __call__(self) -> torch.Tensor:
        return self._solved(1)[0]

    def timed(self, repeats: int) -> tuple[torch.Tensor, list[float]]:
        return self._solved(repeats)

    def _solved(self, repeats: int) -> tuple[torch.Tensor, list[float]]:
        times, out = np.zeros(repeats), np.zeros(len(TIMES))
        self._on(lambda: self._run(PARAMETERS.numpy(), TIMES.numpy(), TOLERANCE, times, out))
        return torch.from_numpy(out), times.tolist()


def gradient() -> torch.Tensor:
    p = PARAMETERS.clone().requires_grad_()
    solve(p).u.square().mean().backward()
    assert p.grad is not None
    return p.grad


def main() -> None:
    if engine_name() != "julia":
        print("needs Julia")
        return
    torch.set_num_threads(1)
    by_hand = ByHand()
    apart = (solve(PARAMETERS).u[:, 0] - by_hand()).abs().max().item()
    gradient()
    rows = {"by hand in Julia, solve": by_hand, "pysciml, solve": lambda: solve(PARAMETERS),
            "pysciml, solve and gradient": gradient}  # fmt: skip
    found = {name: statistics.median(timed(run, REPEATS)) for name, run in rows.items()}
    inside = (solve(PARAMETERS).stats.wall_time for _ in range(REPEATS))
    found["pysciml, the call to Julia alone"] = statistics.median(inside)
    for name, seconds in found.items():
        print(f"{name:<32} {1e3 * seconds:8.3f} ms   {seconds / found['by hand in Julia, solve']:5.2f}")
    print(f"The solutions are {apart:.1e} apart, at tolerances of {TOLERANCE:g}.")
