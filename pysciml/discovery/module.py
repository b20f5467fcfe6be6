"""A law as a right-hand side whose coefficients can be fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pysciml.discovery.law import Law


class LawModule(torch.nn.Module):
    """The terms that a law kept, with their coefficients as a parameter `coefficients` (m,), targets after each other.

    Stands where the network stood: `law.module()(states)` is (..., targets) for states (..., d).
    """

    place: torch.Tensor

    def __init__(self, law: Law, dtype: torch.dtype):
        super().__init__()
        kept = law.coefficients != 0
        self.library = law.library.pick([j for j in range(len(law.terms)) if bool(kept[:, j].any())])
        used = kept[:, kept.any(dim=0)]
        self.names = [f"{law.targets[i]}: {self.library.terms[j]}" for i, j in used.nonzero().tolist()]
        self.coefficients = torch.nn.Parameter(law.coefficients[:, kept.any(dim=0)][used].to(dtype))
        # Where each coefficient stands in (targets, terms): what is left out is the zero behind them.
        place = torch.full(used.shape, len(self.names))
        place[used] = torch.arange(len(self.names))
        self.register_buffer("place", place)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        padded = torch.cat([self.coefficients, self.coefficients.new_zeros(1)])
        return self.library.evaluate(states) @ padded[self.place].T

    def extra_repr(self) -> str:
        pairs = zip(self.names, self.coefficients.tolist(), strict=True)
        return ", ".join(f"{name} = {value:.4g}" for name, value in pairs)
