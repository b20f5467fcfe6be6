"""Implicit layers: the fixed point of a cell in the place of a stack of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.algorithms import Algorithm
from pysciml.errors import InvalidInputError
from pysciml.problems import SteadyStateProblem
from pysciml.rhs import functorch
from pysciml.solve import solve


class DeepEquilibrium(torch.nn.Module):
    """A layer whose output is z with z = cell(z, x): as of infinitely many layers `cell`, with the memory of one.

    Gradients go to x and to all that the cell holds, by implicit differentiation at the fixed point, to any order.
    The fixed point is that of the whole batch, as one system; a compiled cell has the zeros of its Jacobian left out.

    Args:
        cell: a module or function `cell(z, x)` that returns a tensor of the shape and dtype of z. Dropout and the like
            must not change it between calls.
        shape: of z for one x, without the batch; z then is (batch, *shape), with the first dimension, dtype and device
            of x. None: every call gives `z0`.
        alg: as of `SteadyStateProblem`. warm_start: whether each search starts from the last fixed point, where that
            has the same shape; it is kept in the buffer `last`, outside of the state dict.
        options: more of `pysciml.solve`: `reltol`, `abstol`, `engine`, `route`, `maxiters`.

    Attributes:
        stats: what the last search counted, a `Stats`; None before the first.

    Raises:
        InvalidInputError: from a call, neither `shape` nor `z0`. SolveError: there is no fixed point nearby; where the
            cell may have none, keep its weights small (spectral norms below 1) or add z to its input less strongly.

    Reference: Bai, Kolter and Koltun, "Deep equilibrium models", NeurIPS 2019; warm starts: Bai, Geng, Savani and
    Kolter, "Deep equilibrium optical flow estimation", CVPR 2022.

    Example:
        >>> import torch, pysciml as ps
        >>> class Cell(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.z, self.x = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(2, 3)
        ...         torch.nn.init.orthogonal_(self.z.weight, gain=0.5)
        ...     def forward(self, z, x):
        ...         return torch.tanh(self.z(z) + self.x(x))
        >>> layer = ps.nn.DeepEquilibrium(Cell(), shape=(3,), engine="embedded").double()
        >>> x = torch.rand(5, 2, dtype=torch.float64)
        >>> z = layer(x)
        >>> z.shape, torch.allclose(z, layer.cell(z, x), atol=1e-8)
        (torch.Size([5, 3]), True)
        >>> z.sum().backward()
        >>> layer.cell.z.weight.grad.shape
        torch.Size([3, 3])
    """

    last: torch.Tensor | None

    def __init__(self, cell: Callable[..., torch.Tensor], shape: tuple[int, ...] | None = None,
                 alg: Algorithm | None = None, *, warm_start: bool = True, **options: Any):  # fmt: skip
        super().__init__()
        self.cell, self.shape, self.alg, self.warm_start, self.options = cell, shape, alg, warm_start, options
        self.register_buffer("last", None, persistent=False)
        self.stats: Any = None

    def forward(self, x: Any, z0: torch.Tensor | None = None) -> torch.Tensor:
        """The fixed point for x, a tensor or whatever the cell takes. `z0` is where to look from, this once."""
        guess = self._guess(x, z0)
        sol = solve(SteadyStateProblem(lambda t, z: self.cell(z, x) - z, guess), self.alg, **self.options)
        self.stats = sol.stats
        if self.warm_start and not functorch.transforming():
            self.last = sol.u.detach()
        return sol.u

    def _guess(self, x: Any, z0: torch.Tensor | None) -> torch.Tensor:
        if z0 is not None:
            return z0
        leaf = next((x for x in pytree.tree_leaves(x) if isinstance(x, torch.Tensor)), None)
        if self.shape is None or leaf is None or not leaf.dim():
            raise InvalidInputError(
                "a DeepEquilibrium must know the shape of its state.", got=f"shape={self.shape}, z0=None",
                expected="shape, and a batch of inputs; or z0", fix="DeepEquilibrium(cell, shape=(32,))",
            )  # fmt: skip
        wanted = (leaf.shape[0], *self.shape)
        last = self.last
        if last is not None and last.shape == wanted and last.dtype == leaf.dtype and last.device == leaf.device:
            return last
        return torch.zeros(wanted, dtype=leaf.dtype, device=leaf.device)

    def extra_repr(self) -> str:
        return f"shape={self.shape}, alg={self.alg!r}, warm_start={self.warm_start}"
