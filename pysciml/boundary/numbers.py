"""f and its Jacobian in numbers, at many times and states at once, on every route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pysciml.rhs import functorch
from pysciml.rhs.base import CompiledRHS
from pysciml.rhs.callback import CallbackRHS
from pysciml.rhs.graph import evaluate
from pysciml.rhs.parameters import to_numpy

Numbers = Callable[[str, np.ndarray, np.ndarray], np.ndarray]


def numbers(program: Any, rhs: Any, p: np.ndarray, in_engine: Callable[..., np.ndarray]) -> Numbers:
    """What evaluates "f" (k, n) or "jac" (k, n, n) at times (k,) and states (k, n).

    Args:
        in_engine: evaluates a Julia source: a kind, t, u and p to numbers.
    """
    if isinstance(rhs, CompiledRHS):
        return _compiled(program, rhs, torch.from_numpy(p))

    def one_by_one(kind: str, ts: np.ndarray, us: np.ndarray) -> np.ndarray:
        with functorch.outside():
            if isinstance(rhs, CallbackRHS):
                return np.stack([getattr(rhs, kind)(t, u, p) for t, u in zip(ts.tolist(), us, strict=True)])
            return np.stack([in_engine(kind, t, u, p) for t, u in zip(ts.tolist(), us, strict=True)])

    return one_by_one


def _compiled(program: Any, rhs: CompiledRHS, p: torch.Tensor) -> Numbers:
    def at_once(kind: str, ts: np.ndarray, us: np.ndarray) -> np.ndarray:
        with functorch.outside(), torch.no_grad():
            graph = rhs.graph(kind, program)
            many = torch.func.vmap(lambda t, u: evaluate(graph, t=t, u=u, p=p))
            out = to_numpy(many(torch.from_numpy(ts.copy()), torch.from_numpy(us.copy())))
        return out.reshape(ts.size, rhs.n, rhs.n) if kind == "jac" else out

    return at_once
