"""The conditions of a callback set as one function of flat numbers, which is compiled as a right-hand side is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.callbacks import (
    Callback,
    CallbackSet,
    ContinuousCallback,
    DiscreteCallback,
    VectorContinuousCallback,
)
from pysciml.engines.base import AT_STEPS, Watch
from pysciml.errors import InvalidInputError, PySciMLWarning, TraceError
from pysciml.rhs.callback import prepare_callback
from pysciml.rhs.parameters import Inputs, pack
from pysciml.rhs.trace import prepare_for

Looked = ContinuousCallback | VectorContinuousCallback | DiscreteCallback


class Conditions:
    """All conditions of a set that are looked at, one after the other.

    Attributes:
        owners: of each condition, its callback and its number there. kinds: as of `engines.base.Watch`.
        points: the most looks in a step that any of them asks for.
    """

    def __init__(self, callbacks: CallbackSet, inputs: Inputs):
        self.callbacks = [c for c in callbacks.callbacks if isinstance(c, Looked)]
        self.layout, self.dtype, self.device = inputs.u_layout, inputs.u[0].dtype, inputs.u[0].device
        self.owners: list[tuple[Callback, int]] = [(c, i) for c in self.callbacks for i in range(_length(c))]
        self.kinds = np.array([_kind(c) for c, _ in self.owners], np.int64)
        self.points = max((getattr(c, "interp_points", 1) for c in self.callbacks), default=1)
        self.n = max(self.layout.size, len(self.owners))

    def __len__(self) -> int:
        return len(self.owners)

    def __call__(self, t: torch.Tensor, z: torch.Tensor, *p: Any) -> torch.Tensor:
        """As a right-hand side: the conditions, then zeros where there are more states."""
        u = self.layout.unflatten(z[: self.layout.size] if self.layout.size < self.n else z)
        values = self.values(t, u, *p)
        return values if len(self) == self.n else torch.cat([values, values.new_zeros(self.n - len(self))])

    def values(self, t: torch.Tensor, u: Any, *p: Any) -> torch.Tensor:
        """(k,): the conditions at a state; a true one is 1, one that is not is -1."""
        return torch.cat([self._of(c, c.condition(t, u, *p)) for c in self.callbacks])

    def _of(self, c: Callback, value: Any) -> torch.Tensor:
        if not isinstance(value, torch.Tensor):
            value = torch.as_tensor(value, device=self.device)
        if value.numel() != _length(c):
            raise InvalidInputError(
                f"the condition of a {type(c).__name__} must return {_length(c)} value{'s' * (_length(c) > 1)}.",
                got=f"a tensor of shape {list(value.shape)}", expected=f"{_length(c)} in one tensor",
                fix="condition=lambda t, u: u[0]",
            )  # fmt: skip
        if isinstance(c, DiscreteCallback):
            value = torch.where(value != 0, 1.0, -1.0)
        return value.reshape(-1).to(self.dtype)

    def prepare(self, t0: float, p: Any, compiled: bool) -> tuple[Any, Any]:
        """The program and the right-hand side: compiled, or else called back, with a warning that says why."""
        if not len(self):
            return None, None
        if not compiled:
            return SimpleNamespace(f=self, captured=[]), None
        z = torch.full((self.n,), 0.5, dtype=self.dtype, device=self.device)
        try:
            return prepare_for(self, t0, Inputs.of(z, p))
        except TraceError as refusal:
            warnings.warn(f"a condition cannot be compiled, so Python is asked at each step, more slowly:\n{refusal}",
                          PySciMLWarning, stacklevel=2)  # fmt: skip
            return prepare_callback(SimpleNamespace(f=self, u0=z, tspan=(t0, t0 + 1.0), p=p))

    def watch(
        self, prepared: tuple[Any, Any], p: Sequence[torch.Tensor], sides: np.ndarray, bands: np.ndarray
    ) -> Watch:
        program, rhs = prepared
        return Watch(rhs, program, pack([*p, *program.captured]), sides, bands, self.kinds, self.points)


def along(value: Callable, t: float, u: Any, du: Any) -> torch.Tensor:
    """d/dt of `value(t, u)` along a solution: (), where du/dt is `du`."""
    leaves, spec = pytree.tree_flatten(u)
    with torch.enable_grad():
        inputs = [torch.tensor(t, dtype=leaves[0].dtype, device=leaves[0].device), *(x.detach() for x in leaves)]
        inputs = [x.clone().requires_grad_() for x in inputs]
        out = value(inputs[0], pytree.tree_unflatten(inputs[1:], spec))
        if not out.requires_grad:
            return torch.zeros_like(inputs[0])
        found = torch.autograd.grad(out, inputs, allow_unused=True)
    slopes = [torch.ones_like(inputs[0]), *pytree.tree_leaves(du)]
    return sum((g * s).sum() for g, s in zip(found, slopes, strict=True) if g is not None)


def _length(c: Callback) -> int:
    return c.length if isinstance(c, VectorContinuousCallback) else 1


def _kind(c: Callback) -> int:
    return AT_STEPS if isinstance(c, DiscreteCallback) else c.direction  # type: ignore[attr-defined]
