"""torchdiffeq's own methods, for the embedded engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pysciml.algorithms.base import Algorithm


@dataclass(frozen=True)
class TorchDiffEq(
    Algorithm,
    order=0,
    embedded="torchdiffeq",
    reference='Chen et al., "Neural ordinary differential equations", NeurIPS 2018',
):
    """Any method of torchdiffeq by its own name, for those SciML has no equal of (`rk4`, `dopri8`, `midpoint`, ...).

    Args:
        method: torchdiffeq's name. options: its `options` dictionary.
    """

    method: str = "dopri5"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f'TorchDiffEq("{self.method}")'
