"""A problem as it is without the transforms of torch.func."""

from __future__ import annotations

import torch
from torch.utils import _pytree as pytree

from pysciml.problems.ode import ODEProblem
from pysciml.rhs import functorch
from pysciml.rhs.julia_source import JuliaFunction


def plain(prob: ODEProblem) -> ODEProblem:
    """The problem at plain values, the first ones where `vmap` maps over several."""
    u0, p = pytree.tree_map_only(torch.Tensor, functorch.example, (prob.u0, prob.p))
    t0, t1 = map(functorch.number, prob.tspan)
    with functorch.outside():
        t = torch.as_tensor(t0, dtype=prob.inputs.u[0].dtype, device=prob.inputs.u[0].device)
    f = prob.f
    f = f.plain() if isinstance(f, JuliaFunction) else functorch.plain(f, t, u0, *(() if prob.p is None else (p,)))
    with functorch.outside():
        return prob.remake(f=f, u0=u0, p=p, tspan=(t0, t1))
