"""The Solution: saved states, how the solve went, and dense output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError
from pysciml.rhs.functorch import number, numbers
from pysciml.solution.event import Event
from pysciml.solution.retcode import ReturnCode
from pysciml.solution.stats import Stats
from pysciml.under_compile import graph_break


@dataclass(eq=False)
class Solution:
    """What `solve` returns.

    Attributes:
        t: (k,) the saved times. u: the saved states in the structure of `u0`, each leaf (k, *shape).
        prob: the problem. retcode: how the solve ended. stats: what the solver counted.
        events: what callbacks met on the way, in order (`Event`).

    Call it for dense output: `sol(t)` is the state at any times of the span, differentiable like `u`.

    Example:
        >>> import torch, pysciml as ps
        >>> prob = ps.ODEProblem(lambda t, u: -u, torch.ones(1, dtype=torch.float64), (0.0, 1.0))
        >>> sol = ps.solve(prob, saveat=[0.5, 1.0])
        >>> sol.u.shape, sol(0.25).shape, sol.retcode
        (torch.Size([2, 1]), torch.Size([1]), ReturnCode.Success)
    """

    t: torch.Tensor
    u: Any
    prob: Any
    retcode: ReturnCode
    stats: Stats
    _dense: Callable[[torch.Tensor], Any] = field(repr=False)
    events: Sequence[Event] = ()

    @graph_break
    def __call__(self, t: float | torch.Tensor) -> Any:
        """The state at time(s) `t`.

        Args:
            t: a number, or a tensor of any shape, in any order; a tensor may require grad.

        Returns:
            The structure of `u0`, each leaf with the shape of `t` before its own.

        Raises:
            InvalidInputError: a time outside the span.
        """
        t = t if isinstance(t, torch.Tensor) else torch.as_tensor(t, dtype=torch.float64)
        low, high = sorted(self.prob.span)
        slack = 1e-12 * max(abs(low), abs(high), high - low)
        flat = t.reshape(-1).to(device=self.t.device, dtype=self.t.dtype)
        times = numbers(flat)
        if times.size == 0 or not ((times >= low - slack) & (times <= high + slack)).all():
            raise InvalidInputError(
                "sol(t) needs times inside the span.",
                got=f"t={times.tolist()!r:.80}",
                expected=f"{low:g} <= t <= {high:g}",
                fix="prob.remake(tspan=...) and solve further",
            )
        if times.min() < low or times.max() > high:  # by a rounding error; most solvers have no state outside
            flat = flat + torch.from_numpy(times.clip(low, high) - times).to(flat)
        return pytree.tree_map(lambda x: x.reshape((*t.shape, *x.shape[1:])), self._dense(flat))

    def plot(self, **options: Any) -> Any:
        """Draws every component over time; see `pysciml.plot.plot_solution`. Needs `pysciml[plot]`."""
        from pysciml.plot import plot_solution

        return plot_solution(self, **options)

    def __len__(self) -> int:
        return len(self.t)

    def _facts(self) -> list[tuple[str, str]]:
        s = self.stats
        leaves = pytree.tree_leaves(self.u)
        shapes = ", ".join(f"{list(x.shape)} {str(x.dtype).removeprefix('torch.')}" for x in leaves)
        steps = "" if s.naccept is None else f"{s.naccept} steps, {s.nreject or 0} rejected, "
        facts = [("retcode", self.retcode.name), ("solver", f"{s.alg} ({s.engine})"),
                 ("t", f"{number(self.t[0]):g} to {number(self.t[-1]):g}, {len(self.t)} saved"), ("u", shapes),
                 ("work", f"{steps}{s.nf} evaluations of f, {1e3 * s.wall_time:.3g} ms")]  # fmt: skip
        if self.events:
            facts.append(("events", f"{len(self.events)}, the last at t = {self.events[-1].t.item():g}"))
        if s.backward is not None:
            facts.append(("backward", f"{1e3 * s.backward.wall_time:.3g} ms"))
        return facts

    def __repr__(self) -> str:
        return "Solution\n" + "\n".join(f"  {name:<8} {text}" for name, text in self._facts())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th style='text-align:left'>{n}</th><td style='text-align:left'>{t}</td></tr>"
                       for n, t in self._facts())  # fmt: skip
        return f"<table><caption style='text-align:left'><b>Solution</b></caption>{rows}</table>"
