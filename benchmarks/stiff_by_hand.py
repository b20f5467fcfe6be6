"""The stiff problems as one writes them in Julia: in place, with ForwardDiff's Jacobians, timed by Julia's clock."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.stiff_problems import POLLU_REACTIONS, StiffProblem

TEXT = """
begin
    import ForwardDiff, LinearAlgebra, Logging, OrdinaryDiffEqRosenbrock, SciMLBase, SciMLSensitivity, SparseArrays
    LinearAlgebra.BLAS.set_num_threads(1)

    function robertson!(du, u, p, t)
        a, b, c = u
        slow, fast, back = p[1] * a, p[2] * b^2, p[3] * b * c
        du[1] = back - slow
        du[2] = slow - fast - back
        du[3] = fast
        return nothing
    end

    function hires!(du, u, p, t)
        a, b, c, d, e, f, g, h = u
        k1, k2, k3, k4, k5, k6, k7, k8, k9, supply = p
        bind, split = k7 * f * h, (k2 + k8 + k9) * g
        du[1] = k2 * b + k6 * c - k1 * a + supply
        du[2] = k1 * a - (k2 + k3) * b
        du[3] = k2 * d + k5 * e - (k6 + k1) * c
        du[4] = k3 * b + k1 * c - (k4 + k2) * d
        du[5] = k2 * (f + g) - (k5 + k1) * e
        du[6] = k8 * d + k1 * e - k2 * f + k8 * g - bind
        du[7] = bind - split
        du[8] = split - bind
        return nothing
    end

    function allen_cahn!(du, u, p, t)
        n = length(u)
        c, r = p[1] * n^2, p[2]
        @inbounds for i in 1:n
            left, right = u[max(i - 1, 1)], u[min(i + 1, n)]
            du[i] = c * (left - 2 * u[i] + right) + r * u[i] * (1 - u[i]^2)
        end
        return nothing
    end

POLLUTION
    function made(f!, n, tridiagonal)
        tridiagonal || return SciMLBase.ODEFunction{true, SciMLBase.FullSpecialize}(f!)
        jac_prototype = SparseArrays.sparse(LinearAlgebra.Tridiagonal(ones(n - 1), ones(n), ones(n - 1)))
        return SciMLBase.ODEFunction{true, SciMLBase.FullSpecialize}(f!; jac_prototype)
    end

    checked(sol) = SciMLBase.successful_retcode(sol) ? sol : error("the solve ended with $(sol.retcode)")

    function by_forward(f, u0, p, ts, scale, tol, abstol)
        function loss(p)
            prob = SciMLBase.ODEProblem(f, Vector{eltype(p)}(u0), (0.0, ts[end]), p)
            sol = checked(SciMLBase.solve(prob, OrdinaryDiffEqRosenbrock.Rodas5P(); reltol = tol, abstol, saveat = ts))
            return sum(u -> sum(abs2(x * s) for (x, s) in zip(u, scale)), sol.u) / (length(u0) * length(ts))
        end
        return ForwardDiff.gradient(loss, p)
    end

    function by_adjoint(f, u0, p, ts, scale, tol, abstol)
        alg, count = OrdinaryDiffEqRosenbrock.Rodas5P(), length(u0) * length(ts)
        prob = SciMLBase.ODEProblem(f, u0, (0.0, ts[end]), p)
        sol = checked(SciMLBase.solve(prob, alg; reltol = tol, abstol))
        cotangent(out, u, p, t, i) = (out .= 2 .* scale .^ 2 .* u ./ count; nothing)
        sensealg = SciMLSensitivity.GaussAdjoint(; autojacvec = SciMLSensitivity.ReverseDiffVJP(true))
        _, dp = SciMLSensitivity.adjoint_sensitivities(
            sol, alg; t = ts, dgdu_discrete = cotangent, sensealg, reltol = tol, abstol = minimum(abstol))
        return vec(dp)
    end

    function (way, name, tridiagonal, u0, p, ts, scale, tol, abstol, out)
        u0, p, ts, scale, abstol = (Vector{Float64}(x) for x in (u0, p, ts, scale, abstol))
        f! = (; robertson!, hires!, pollution!, allen_cahn!)[Symbol(name)]
        gradient = (; by_forward, by_adjoint)[Symbol(way)]
        f = made(f!, length(u0), tridiagonal)
        # What a solver says of its first step, on POLLU at each solve, would take long to print.
        return Logging.with_logger(Logging.NullLogger()) do
            start = time_ns()
            dp = gradient(f, u0, p, ts, scale, tol, abstol)
            seconds = (time_ns() - start) / 1e9
            copyto!(out, dp)
            return seconds
        end
    end
end
"""


def _pollution() -> str:
    """POLLU as it is usually written: its rates one by one, then the species, each of those that change it."""
    rates, change = [], [""] * 20
    for j, (taken, made, _) in enumerate(POLLU_REACTIONS, 1):
        rates.append(f"r{j} = " + " * ".join([f"p[{j}]", *(f"u[{s}]" for s in taken)]))
        for species, sign in [*((s, "-") for s in taken), *((s, "+") for s in made)]:
            change[species - 1] += f" {sign} r{j}"
    lines = ["function pollution!(du, u, p, t)", "    @inbounds begin"]
    lines += [f"        {line}" for line in (*rates, *(f"du[{i}] = {x.strip()}" for i, x in enumerate(change, 1)))]
    return "\n".join(f"    {line}" for line in [*lines, "    end", "    return nothing", "end"]) + "\n"


def load() -> None:
    """Starts Julia, with one thread for its linear algebra, and loads what is written here."""
    _called()


@functools.cache
def _called() -> Callable[..., Any]:
    from pysciml.engines.julia.runtime import julia, on_julia_thread

    julia()
    import juliacall  # there only once Julia is: it starts it where pysciml would not

    return on_julia_thread(juliacall.newmodule("StiffByHand").seval, TEXT.replace("POLLUTION\n", _pollution()))


class ByHand:
    """The gradient at a tolerance, by "by_forward" or "by_adjoint"; `seconds` of the last by Julia's own clock."""

    def __init__(self, way: str, problem: StiffProblem, scale: np.ndarray, small: np.ndarray, tol: float) -> None:
        self._args = (way, problem.by_hand, problem.tridiagonal, problem.u0, problem.p, problem.times, scale, tol,
                      tol * small)  # fmt: skip
        self.seconds = float("nan")
        self._m = len(problem.p)

    def __call__(self) -> torch.Tensor:
        from pysciml.engines.julia.runtime import on_julia_thread

        out = np.zeros(self._m)
        self.seconds = on_julia_thread(lambda: _called()(*self._args, out))
        return torch.from_numpy(out)
