"""The models: growth and death as known, and in the interaction's place a network, or a formula."""

from __future__ import annotations

from collections.abc import Callable

import torch

DTYPE = torch.float64


class Known(torch.nn.Module):
    """What is known, as f(t, u) of u = log(pelts / scale); a subclass says what the interaction does.

        d hare / dt =  growth * hare + hare * n_0(hare, lynx)
        d lynx / dt = -death  * lynx + lynx * n_1(hare, lynx)

    In logarithms the populations stay positive, and errors count as parts of the population.
    """

    def __init__(self, rates: torch.Tensor | None = None):
        super().__init__()
        start = torch.tensor([0.5, 0.8], dtype=DTYPE) if rates is None else rates
        self.log_rates = torch.nn.Parameter(start.detach().log())

    def forward(self, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        growth, death = self.log_rates.exp()
        return torch.stack([growth, -death]) + self.per_head(u.exp())

    def per_head(self, x: torch.Tensor) -> torch.Tensor:
        """(..., 2) effect of the interaction per hare and per lynx, a year, at pelts / scale x (..., 2)."""
        raise NotImplementedError

    @property
    def rates(self) -> torch.Tensor:
        """(2,) growth of the hares and death of the lynx, a year."""
        return self.log_rates.detach().exp()


class LynxAndHare(Known):
    """A network for the interaction: n_0 is zero without lynx and n_1 without hares, by construction.

    What happens to one kind alone belongs to the known part, or else the network and the rates could trade with each
    other and neither would mean anything.
    """

    alone: torch.Tensor

    def __init__(self, width: int = 8):
        super().__init__()
        layers = torch.nn.Linear(2, width), torch.nn.Tanh(), torch.nn.Linear(width, 2, bias=False)
        self.net = torch.nn.Sequential(*layers).to(DTYPE)
        with torch.no_grad():
            layers[2].weight.mul_(0.3)  # start near no interaction, where the solution is tame
        self.register_buffer("alone", torch.eye(2, dtype=DTYPE))

    def per_head(self, x: torch.Tensor) -> torch.Tensor:
        both, hare_alone, lynx_alone = self.net(x), self.net(x * self.alone[0]), self.net(x * self.alone[1])
        return both - torch.stack([hare_alone[..., 0], lynx_alone[..., 1]], dim=-1)


class Written(Known):
    """A formula for the interaction, in thousand pelts a year: its terms, and coefficients to be fitted.

    Args:
        terms: from pelts (..., 2) to (..., k). start: (2, k) coefficients to start from; what is zero stays zero.
        rates: to start from. scale: (2,) of the pelts.
    """

    start: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        terms: Callable[[torch.Tensor], torch.Tensor],
        start: torch.Tensor,
        rates: torch.Tensor | None,
        scale: torch.Tensor,
    ):
        super().__init__(rates)
        # Relative to the start, so that one learning rate suits coefficients of all sizes.
        self.factors = torch.nn.Parameter(torch.ones_like(start))
        self.register_buffer("start", start.clone())
        self.register_buffer("scale", scale.clone())
        self.terms = terms

    def per_head(self, x: torch.Tensor) -> torch.Tensor:
        pelts = x * self.scale
        return self.terms(pelts) @ (self.start * self.factors).T / pelts

    @property
    def coefficients(self) -> torch.Tensor:
        return (self.start * self.factors).detach()
