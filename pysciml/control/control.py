"""The options of `solve` that are neither the problem's nor the algorithm's, checked once."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from pysciml.control.progress import watching
from pysciml.control.saving import picked, places
from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.problems import ODEProblem
from pysciml.rhs import functorch

_NO_TIMES = np.zeros(0)


@dataclass(frozen=True)
class Control:
    """What is asked of one solve.

    Attributes:
        tstops, jumps: times inside the span to step on, and where f jumps. every_step: whether to save the steps.
        progress: whether to show how far the solve has come.
        pick: takes what was asked for out of states, time first, in the structure of u0.
        watch: shows how far a solve has come, as its function of that says; a context manager.
    """

    tstops: np.ndarray
    jumps: np.ndarray
    every_step: bool
    progress: bool
    pick: Callable[[Any], Any]
    watch: Callable[[Callable[[], float] | None], AbstractContextManager]

    @property
    def stops(self) -> np.ndarray | None:
        """`tstops` as a Request has them."""
        return self.tstops if self.tstops.size else None


def settled(prob: ODEProblem, saveat: Any, tstops: Any, d_discontinuities: Any, save_everystep: bool, save_idxs: Any,
            progress: bool) -> Control:  # fmt: skip
    """The options of `solve` of these names, checked.

    Raises:
        InvalidInputError: times that are not finite or not inside the span; both ways to say what is saved; a state
            that is not there.
    """
    if save_everystep and saveat is not None:
        raise InvalidInputError("save_everystep saves the solver's own steps, saveat others.", got="both",
                                fix="leave one of them out; sol(t) gives other times")  # fmt: skip
    chosen = None if save_idxs is None else places(prob, save_idxs)
    return Control(
        _times("tstops", tstops, prob), _times("d_discontinuities", d_discontinuities, prob),
        bool(save_everystep), bool(progress),
        (lambda u: u) if chosen is None else partial(picked, chosen), partial(watching, progress, *prob.span),
    )  # fmt: skip


def _times(name: str, given: Any, prob: ODEProblem) -> np.ndarray:
    if isinstance(given, tuple) and not given:
        return _NO_TIMES
    if isinstance(given, torch.Tensor):
        if functorch.mapped(given):
            raise UnsupportedError(f"{name} cannot differ among the members of a vmap.", got=f"{name} of a vmap",
                                   expected="the same for all", fix=f"{name}=[{sum(prob.span) / 2:g}]")  # fmt: skip
        given = functorch.numbers(given)
    ts = np.unique(np.asarray(() if given is None else given, dtype=np.float64))
    low, high = sorted(prob.span)
    if not all(math.isfinite(t) and low <= t <= high for t in ts):
        raise InvalidInputError(
            f"{name} must lie inside tspan.", got=f"{name}={ts.tolist()!r:.80}",
            expected=f"times from {low:g} to {high:g}", fix=f"{name}=[{(low + high) / 2:g}]",
        )  # fmt: skip
    return ts
