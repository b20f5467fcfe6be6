"""torchdiffeq as the solver for right-hand sides that stay in eager torch, on any device.

Reference: Chen et al., "Neural ordinary differential equations", NeurIPS 2018, and the torchdiffeq package.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.algorithms import Algorithm, TorchDiffEq
from pysciml.errors import SolveError, UnsupportedError
from pysciml.sensitivity import BacksolveAdjoint, DirectAdjoint, SensitivityAlgorithm
from pysciml.solution import ReturnCode, Stats


def solve(prob, alg: Algorithm, ts: torch.Tensor, reltol: float, abstol: Any, sensealg: SensitivityAlgorithm, *,
          dt=None, dtmax=None, maxiters=None) -> tuple[Any, Stats]:  # fmt: skip
    """The states at `ts` in the structure of u0, time first, and what was counted. Arguments as of `pysciml.solve`."""
    from torchdiffeq import odeint

    leaves, spec = pytree.tree_flatten(prob.u0)
    count = 0

    def f(t, state):
        nonlocal count
        count += 1
        u = pytree.tree_unflatten(list(state), spec)
        return tuple(pytree.tree_leaves(prob.f(t, u) if prob.p is None else prob.f(t, u, prob.p)))

    if not isinstance(sensealg, DirectAdjoint):
        raise UnsupportedError(f"`{sensealg.name}` is not available for {alg.name} in the embedded engine.")
    t0 = torch.as_tensor(prob.tspan[0], dtype=ts.dtype, device=ts.device).reshape(1)
    at_start = bool(ts[0].detach() == t0.detach())
    grid = ts if at_start else torch.cat([t0, ts])
    start = time.perf_counter()
    out = odeint(f, tuple(leaves), grid, rtol=reltol, atol=abstol, method=alg.torchdiffeq)
    stats = Stats(nf=count, wall_time=time.perf_counter() - start, engine="embedded", alg=alg.name)
    return pytree.tree_unflatten([x if at_start else x[1:] for x in out], spec), stats
