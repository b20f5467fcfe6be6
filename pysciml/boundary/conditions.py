"""The conditions of a boundary value problem, as residuals in one flat vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError
from pysciml.problems import BVProblem, TwoPointBVProblem
from pysciml.rhs.captured import Held, Substitute

Path = Callable[[Any], Any]  # a time to a state


class Conditions:
    """bc of a problem.

    Args:
        bc: as of the problem. n: how many residuals there must be.

    Attributes:
        captured: the tensors that it captured, plain. met: the same as it meets them, perhaps in wrappers of
            torch.func: others are put in their place.
    """

    def __init__(self, prob: BVProblem, bc: Any, n: int):
        self.two_point, self.bc, self.n = isinstance(prob, TwoPointBVProblem), bc, n
        self.captured: list[torch.Tensor] = []
        self.met: list[torch.Tensor] = []
        self._held = Held(self)

    @property
    def inner_functions(self) -> tuple[Callable, ...]:
        """Where to look for modules."""
        return tuple(self.bc) if isinstance(self.bc, (tuple, list)) else (self.bc,)

    def raw(self, path: Path, ends: tuple[Any, Any], own: tuple) -> torch.Tensor:
        """The residuals (n,), float64, along a path, with the states at its ends."""
        if not self.two_point:
            out = self.bc(path, *own)
        elif isinstance(self.bc, (tuple, list)):
            out = [bc(u, *own) for bc, u in zip(self.bc, ends, strict=True)]
        else:
            out = self.bc(*ends, *own)
        return self._flat(out)

    def __call__(self, path: Path, ends: tuple[Any, Any], own: tuple, others: Sequence[torch.Tensor]) -> torch.Tensor:
        """The same, with other tensors in the place of the captured ones."""
        replaced = dict(zip(map(id, self.met), others, strict=True))
        with self._held, Substitute(replaced) if replaced else nullcontext():
            return self.raw(path, ends, own)

    def _flat(self, out: Any) -> torch.Tensor:
        leaves = pytree.tree_leaves(out)
        strange = next((x for x in leaves if not isinstance(x, torch.Tensor)), None)
        if strange is not None or not leaves:
            raise InvalidInputError("bc must return tensors.", got=type(strange).__name__,
                                    fix="torch.stack([sol(0.0)[0] - 1.0, sol(1.0)[0]])")  # fmt: skip
        flat = torch.cat([x.reshape(-1).to("cpu", torch.float64) for x in leaves])
        if flat.numel() != self.n:
            raise InvalidInputError(
                "bc must return as many residuals as a state has numbers.", got=f"{flat.numel()} residuals",
                expected=f"{self.n}", fix="one condition for each state, or one state more for each condition",
            )  # fmt: skip
        return flat
