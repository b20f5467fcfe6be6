"""A problem of the table: what it is differentiated in, and what its solution is in closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from benchmarks.gradients.ways import NONSTIFF, Solvers, Way

F64 = torch.float64
TIGHT = {"reltol": 1e-10, "abstol": 1e-10}
Leaves = Mapping[str, torch.Tensor]


def states(sol: Any) -> Any:
    """What is seen of most solutions."""
    return sol.u


@dataclass(frozen=True)
class Problem:
    """One problem, whose gradients are those of sum(weights * what is seen of the solution), with fixed weights.

    Attributes:
        leaves: the values to differentiate in, by name.
        build: makes, of the leaves, an `ODEProblem` or `EnsembleProblem` and the options of its solve.
        truth: makes of the leaves what `seen` gives of the solution: in torch, to be differentiated; or in
            numbers alone, of which central differences are taken, in steps of `differences` relative to each entry.
        seen: what the loss is made of.
        solvers: what it is solved by. source: its f in Julia, where it has only u0 and p for leaves.
        tolerances: of the solves. bound: the largest relative error of a gradient.
        single: whether this is float32, whose bound is its own.
    """

    name: str
    leaves: Leaves
    build: Callable[..., tuple[Any, dict[str, Any]]]
    truth: Callable[..., Any]
    solvers: Solvers = NONSTIFF
    seen: Callable[[Any], Any] = states
    source: str | None = None
    differences: float = 0.0
    tolerances: Mapping[str, Any] = field(default_factory=lambda: TIGHT)
    bound: float = 1e-5
    single: bool = False

    def ways(self, engine: str) -> list[Way]:
        """What it is solved by in an engine; in Julia's own text where there is one."""
        return [way for way in self.solvers.ways(engine) if way.route != "source" or self.source is not None]

    def reference(self) -> tuple[dict[str, torch.Tensor], float]:
        """The gradient in each leaf in double precision, and how well it is known: 0 for closed forms."""
        leaves = {name: x if x.is_complex() else x.double() for name, x in self.leaves.items()}
        if not self.differences:
            grown = {name: x.clone().requires_grad_() for name, x in leaves.items()}
            grads = torch.autograd.grad(loss(self.truth(**grown)), list(grown.values()))
            return dict(zip(grown, grads, strict=True)), 0.0
        coarse, fine = (self._differences(leaves, step) for step in (2 * self.differences, self.differences))
        return fine, max(relative_error(coarse[name], fine[name]) for name in fine)

    def _differences(self, leaves: Leaves, step: float) -> dict[str, torch.Tensor]:
        def moved(name: str, i: int, by: float) -> float:
            x = leaves[name].clone()
            x.view(-1)[i] += by
            return float(loss(self.truth(**{**leaves, name: x})))

        def slope(name: str, i: int) -> float:
            """Of fourth order; the step is relative, so no entry may be 0."""
            h = step * abs(leaves[name].reshape(-1)[i].item())
            one, two = (moved(name, i, k * h) - moved(name, i, -k * h) for k in (1, 2))
            return (8 * one - two) / (12 * h)

        return {
            name: torch.tensor([slope(name, i) for i in range(x.numel())], dtype=F64).reshape(x.shape)
            for name, x in leaves.items()
        }


def loss(seen: Any) -> torch.Tensor:
    """A sum with fixed random weights; of complex numbers both parts count."""
    draw = torch.Generator().manual_seed(1)
    total = torch.zeros((), dtype=F64)
    for x in pytree.tree_leaves(seen):
        for part in (x.real, x.imag) if x.is_complex() else (x,):
            total = total + (torch.randn(part.shape, generator=draw, dtype=F64) * part).sum()
    return total


def relative_error(found: torch.Tensor, truth: torch.Tensor) -> float:
    """In the norm of the whole leaf."""
    return ((found.to(truth.dtype) - truth).norm() / truth.norm()).item()
