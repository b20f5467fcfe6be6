"""The solution of a SteadyStateProblem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.utils import _pytree as pytree

from pysciml.rhs.functorch import numbers
from pysciml.solution.retcode import ReturnCode
from pysciml.solution.stats import Stats


@dataclass(eq=False)
class SteadyStateSolution:
    """What `solve` returns for a `SteadyStateProblem`.

    Attributes:
        u: the steady state, in the structure, shapes and dtype of `u0`; differentiable, to any order. resid: f there,
            likewise but without gradient. prob: the problem. retcode: how the solve ended. stats: what was counted.

    Example:
        >>> import torch, pysciml as ps
        >>> prob = ps.SteadyStateProblem(lambda t, u: torch.cos(u) - u, torch.ones(1, dtype=torch.float64))
        >>> sol = ps.solve(prob, engine="embedded")
        >>> round(sol.u.item(), 4), sol.retcode
        (0.7391, ReturnCode.Success)
    """

    u: Any
    resid: Any
    prob: Any
    retcode: ReturnCode
    stats: Stats

    def _facts(self) -> list[tuple[str, str]]:
        leaves, s = pytree.tree_leaves(self.u), self.stats
        shapes = ", ".join(f"{list(x.shape)} {str(x.dtype).removeprefix('torch.')}" for x in leaves)
        largest = max((abs(numbers(x)).max(initial=0.0) for x in pytree.tree_leaves(self.resid)), default=0.0)
        jacobians = "" if s.njacs is None else f"{s.njacs} Jacobians, "
        return [("retcode", self.retcode.name), ("solver", f"{s.alg} ({s.engine})"), ("u", shapes),
                ("resid", f"{largest:.1e} at most"),
                ("work", f"{s.nf} evaluations of f, {jacobians}{1e3 * s.wall_time:.3g} ms")]  # fmt: skip

    def __repr__(self) -> str:
        return "SteadyStateSolution\n" + "\n".join(f"  {name:<8} {text}" for name, text in self._facts())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th style='text-align:left'>{n}</th><td style='text-align:left'>{t}</td></tr>"
                       for n, t in self._facts())  # fmt: skip
        return f"<table><caption style='text-align:left'><b>Steady state</b></caption>{rows}</table>"
