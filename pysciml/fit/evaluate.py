"""One look at the loss and its gradient, with everything checked that a step relies on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pysciml.errors import InvalidInputError, SolveError
from pysciml.fit.errors import Setback
from pysciml.fit.objective import Objective

Gradients = list[torch.Tensor | None]


@dataclass(eq=False)
class Evaluation:
    """A loss and its gradients, one for each tensor; None where a batch does not depend on it."""

    loss: float
    gradients: Gradients

    @property
    def norm(self) -> float:
        norms = [g.norm() for g in self.gradients if g is not None]
        return float(torch.stack([n.double().cpu() for n in norms]).norm()) if norms else math.nan


def loss_of(objective: Objective, batch: Sequence[int] | None = None) -> torch.Tensor:
    """The loss, finite.

    Raises:
        Setback: the solve failed, or the loss is NaN or infinite.
    """
    try:
        loss = objective(batch)
    except SolveError as error:
        raise Setback(error.what, error) from error
    if not math.isfinite(float(loss.detach())):
        raise Setback(f"the loss is {float(loss.detach())}")
    return loss


def evaluate(objective: Objective, tensors: Sequence[torch.Tensor], batch: Sequence[int] | None = None) -> Evaluation:
    """The loss and its gradient at the tensors' present values.

    Raises:
        Setback: one of the solves failed, or the loss or a gradient is NaN or infinite.
        InvalidInputError: nothing in the loss requires grad.
    """
    if not all(bool(torch.isfinite(x.detach()).all()) for x in tensors):
        raise Setback("a step made a parameter NaN or infinite")
    loss = loss_of(objective, batch)
    if not loss.requires_grad:
        raise InvalidInputError("the loss does not depend on anything that is fitted.", got="a loss without gradient",
                                fix="look for .detach(), .item() or torch.no_grad() in the loss")  # fmt: skip
    try:
        # Not backward(): that would also write into .grad of tensors which are not fitted here.
        gradients: Gradients = list(torch.autograd.grad(loss, list(tensors), allow_unused=True))
    except SolveError as error:
        raise Setback(error.what, error) from error
    if not all(g is None or bool(torch.isfinite(g).all()) for g in gradients):
        raise Setback("the gradient is not finite")
    return Evaluation(float(loss.detach()), gradients)


def set_gradients(
    tensors: Sequence[torch.Tensor], gradients: Gradients, clip: float | None = None, scale: float = 1.0
) -> None:
    """Puts gradients where an optimizer looks for them, their common norm at most `clip`."""
    for x, g in zip(tensors, gradients, strict=True):
        x.grad = None if g is None else (g * scale).contiguous()
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(tensors, clip)
