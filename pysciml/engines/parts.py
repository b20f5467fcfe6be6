"""Several functions with one list of parameters: where each finds its own among them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from pysciml.engines.base import RequestPart
from pysciml.rhs.parameters import count


def captured_by_any(prepared: Sequence[tuple[Any, Any]]) -> list[torch.Tensor]:
    """The tensors that any of these programs captured, each once."""
    return list({id(x): x for program, _ in prepared for x in program.captured}.values())


def with_places(
    prepared: Sequence[tuple[Any, Any]], p: Sequence[torch.Tensor], captured: Sequence[torch.Tensor]
) -> tuple[RequestPart, ...]:
    """Each (program, right-hand side), with the places of its parameters among the leaves of p and `captured`."""
    first = prepared[0][1]
    # In a training loop they are the same each time. Of which sizes tensors are, right-hand sides tell.
    key = [(weakref.ref(rhs), [id(x) for x in program.captured]) for program, rhs in prepared]
    if _PLACES not in first.lowered or first.lowered[_PLACES][0] != key:
        first.lowered[_PLACES] = key, _places(prepared, p, captured)
    places = first.lowered[_PLACES][1]
    return tuple(RequestPart(rhs, program, x) for (program, rhs), x in zip(prepared, places, strict=True))


_PLACES = "places of parts"


def _places(
    prepared: Sequence[tuple[Any, Any]], p: Sequence[torch.Tensor], captured: Sequence[torch.Tensor]
) -> list[np.ndarray]:
    ends = [0, *accumulate(map(count, [*p, *captured]))]
    place = {id(x): i for i, x in enumerate(captured, start=len(p))}
    found = []
    for program, _ in prepared:
        leaves = [*range(len(p)), *(place[id(x)] for x in program.captured)]
        first, last = (leaves[0], leaves[-1]) if leaves else (0, -1)
        if leaves == list(range(first, last + 1)):
            found.append(np.arange(ends[first], ends[last + 1]))
        else:
            found.append(np.concatenate([np.arange(ends[i], ends[i + 1]) for i in leaves]))
    return found
