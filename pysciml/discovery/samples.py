"""Samples of a learned term, and the names of what they are of, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pysciml.errors import InvalidInputError

Pair = tuple[torch.Tensor, torch.Tensor]


def checked(inputs: Any, outputs: Any, x_name: str, y_name: str) -> Pair:
    """States (n, d) and values (n, k) as float64 on the CPU; values may be given as (n,).

    Raises:
        InvalidInputError: other shapes, none, or numbers that are not finite.
    """
    x, y = (torch.as_tensor(v).detach().cpu().to(torch.float64) for v in (inputs, outputs))
    y = y[:, None] if y.dim() == 1 else y
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y) or x.numel() == 0 or y.numel() == 0:
        raise InvalidInputError(
            f"{x_name} and {y_name} must be one row a sample, the same number of rows.",
            got=f"shapes {list(x.shape)} and {list(y.shape)}",
            fix="discover(sol.u, term(sol.u))  # (n, d) and (n, k)",
        )
    for name, value in ((x_name, x), (y_name, y)):
        if not bool(torch.isfinite(value).all()):
            raise InvalidInputError(
                f"{name} must be finite.", got=f"{int((~torch.isfinite(value)).sum())} NaN or infinite values"
            )
    return x, y


def named(given: Sequence[str] | None, count: int, what: str, letter: str) -> tuple[str, ...]:
    """The names given, or `letter` with numbers.

    Raises:
        InvalidInputError: not one for each column, or one twice.
    """
    if given is None:
        return tuple(f"{letter}{i}" for i in range(count))
    if isinstance(given, str) or len(given) != count or len(set(given)) != count:
        raise InvalidInputError(
            f"{what} must be one for each column, all different.",
            got=f"{what}={given!r:.60}",
            expected=f"{count} of them",
        )
    return tuple(given)
