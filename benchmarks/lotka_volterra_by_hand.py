"""The Lotka-Volterra UDE as one writes it in Julia, by Julia's own clock; its gradient by SciMLSensitivity's AD."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pysciml.engines.julia.runtime import julia, on_julia_thread

TEXT = """
begin
    import OrdinaryDiffEqTsit5, SciMLBase, SciMLSensitivity

    # Parameters in torch's order, matrices by rows.
    function ude!(du, u, p, t)
        x, y = u
        a, b, c, d = p[1], p[2], p[3], p[4]
        h = tanh.(transpose(reshape(p[5:68], 2, 32)) * u .+ p[69:100])
        h = tanh.(transpose(reshape(p[101:1124], 32, 32)) * h .+ p[1125:1156])
        n = transpose(reshape(p[1157:1220], 32, 2)) * h .+ p[1221:1222]
        du[1] = a * x - b * x * y + 0.1 * n[1]
        du[2] = c * x * y - d * y + 0.1 * n[2]
        return nothing
    end

    cotangent(count) = (out, u, p, t, i) -> (out .= 2 .* u ./ count; nothing)

    function (u0, p, t1, ts, tol, times)
        u0, p, ts = Vector{Float64}(u0), Vector{Float64}(p), Vector{Float64}(ts)
        alg, dg = OrdinaryDiffEqTsit5.Tsit5(), cotangent(length(u0) * length(ts))
        sensealg = SciMLSensitivity.GaussAdjoint(; autojacvec = SciMLSensitivity.ReverseDiffVJP(true))
        prob = SciMLBase.ODEProblem{true, SciMLBase.FullSpecialize}(ude!, u0, (0.0, t1), p)
        local dp
        for i in eachindex(times)
            start = time_ns()
            sol = SciMLBase.solve(prob, alg; reltol = tol, abstol = tol)
            dp = SciMLSensitivity.adjoint_sensitivities(sol, alg; t = ts, dgdu_discrete = dg, sensealg, reltol = tol,
                abstol = tol)[2]
            times[i] = (time_ns() - start) / 1e9
        end
        return vec(dp)
    end
end
"""


class ByHand:
    """The gradient of the mean square of the states at `ts`; `timed` as of `FromJulia`."""

    def __init__(self, parameters: Sequence[torch.Tensor], u0: torch.Tensor, ts: torch.Tensor, tol: float) -> None:
        julia()
        import juliacall

        flat = torch.cat([p.detach().reshape(-1) for p in parameters]).numpy()
        self._args = u0.numpy(), flat, float(ts[-1]), ts.numpy(), tol
        self._run = on_julia_thread(juliacall.newmodule("LotkaVolterraByHand").seval, TEXT)

    def __call__(self) -> torch.Tensor:
        return self.timed(1)[0]

    def timed(self, repeats: int) -> tuple[torch.Tensor, list[float]]:
        """The gradient, and the seconds of each of so many repetitions by Julia's own clock."""
        times = np.zeros(repeats)
        gradient = on_julia_thread(lambda: np.array(self._run(*self._args, times)))
        return torch.from_numpy(gradient), times.tolist()
