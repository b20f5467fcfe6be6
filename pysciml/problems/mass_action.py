"""The rates of chemical reactions: by the number of ways in which the reactants can meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pysciml.errors import InvalidInputError


class MassAction:
    """Rates by the law of mass action: reaction j fires at `constants[j] * prod_i binom(u[i], reactants[j, i])`.

    So 2 A -> B has the rate c u (u - 1) / 2, as in Gillespie's papers and in JumpProcesses.jl. Julia evaluates them
    itself, which is faster than a function, and knows bounds on them.

    Args:
        reactants: (R, n) whole numbers, how many of each state a reaction takes; a row of zeros is a source.
        constants: (R,) a tensor (one that requires grad is found by itself), or a function of the problem's p that
            returns one; none negative.

    Raises:
        InvalidInputError: reactants that are no table of whole numbers, none negative; constants of another shape,
            negative or not finite.

    Reference: Gillespie, J. Phys. Chem. 81 (1977).

    Example:
        >>> import torch, pysciml as ps
        >>> rates = ps.MassAction([[0, 0], [2, 0]], torch.tensor([3.0, 0.5], dtype=torch.float64))
        >>> rates(0.0, torch.tensor([4.0, 0.0], dtype=torch.float64))  # a source, and 2 A -> B
        tensor([3., 3.], dtype=torch.float64)
    """

    def __init__(self, reactants: Any, constants: torch.Tensor | Callable[[Any], torch.Tensor]):
        x = torch.as_tensor(reactants).detach().cpu()
        if x.dim() != 2 or not x.numel() or (x < 0).any() or (x != x.long()).any():
            raise InvalidInputError("reactants must be whole numbers, none negative, a row for each reaction.",
                                    got=f"shape {list(x.shape)}: {x.tolist()!r:.60}", expected="(R, n)",
                                    fix="reactants=[[1, 0], [1, 1]]")  # fmt: skip
        self.reactants = x.long()
        if not callable(constants):
            constants = torch.as_tensor(constants)
            self._check_constants(constants)
        self.constants = constants

    def __call__(self, t: Any, u: torch.Tensor, *p: Any) -> torch.Tensor:
        """(R,) the rates at u (n,)."""
        ways = torch.ones((), dtype=u.dtype, device=u.device)
        for k in range(int(self.reactants.max())):  # u (u - 1) ... / r!, one factor a round
            taken = (self.reactants > k).to(u.device)
            left = torch.clamp(u - k, min=0.0) / (k + 1)
            ways = ways * torch.where(taken, left, torch.ones_like(left)).prod(dim=-1)
        return self.constants_at(*p).to(u) * ways

    def constants_at(self, *p: Any) -> torch.Tensor:
        """(R,) the constants at these parameters.

        Raises:
            InvalidInputError: there are not R of them, or one is negative or not finite.
        """
        if not callable(self.constants):
            return self.constants
        found = self.constants(*p)
        self._check_shape(found)
        return found

    def check(self, changes: torch.Tensor, u0: torch.Tensor) -> None:
        """Raises `InvalidInputError` if these are not the reactions of a problem."""
        if self.reactants.shape != changes.shape:
            raise InvalidInputError("reactants and changes must be tables of one shape.",
                                    got=f"{list(self.reactants.shape)} and {list(changes.shape)}",
                                    expected="(R, n) both", fix="reactants=torch.clamp(-changes, min=0)")  # fmt: skip
        if (u0 < 0).any() or (u0 != u0.round()).any() or (changes != changes.round()).any():
            raise InvalidInputError("the law of mass action is one of counts.",
                                    got=f"u0={u0.tolist()!r:.60}, changes={changes.tolist()!r:.60}",
                                    expected="whole numbers, and none of u0 negative", fix="u0=u0.round()")  # fmt: skip

    def _check_shape(self, x: Any) -> None:
        if not isinstance(x, torch.Tensor) or list(x.shape) != [self.reactants.shape[0]] or not x.is_floating_point():
            got = f"shape {list(x.shape)} {x.dtype}" if isinstance(x, torch.Tensor) else type(x).__name__
            raise InvalidInputError("there is one constant for each reaction.", got=got,
                                    expected=f"a floating tensor ({self.reactants.shape[0]},)",
                                    fix="constants=torch.tensor([1.0, 0.1], dtype=torch.float64)")  # fmt: skip

    def _check_constants(self, x: torch.Tensor) -> None:
        self._check_shape(x)
        if not torch.isfinite(x).all() or (x < 0).any():
            raise InvalidInputError("constants must be finite and none negative.", got=f"{x.tolist()!r:.60}",
                                    fix="torch.exp(log_constants)")  # fmt: skip

    def __repr__(self) -> str:
        return f"MassAction({self.reactants.shape[0]} reactions of {self.reactants.shape[1]} states)"
