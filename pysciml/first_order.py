"""Gradients that say so when they cannot be complete: second derivatives that are not there raise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pysciml.errors import UnsupportedError


def first_order_only(
    name: str, inputs: Sequence[Any], grads: Sequence[torch.Tensor | None]
) -> list[torch.Tensor | None]:
    """`grads`, which raise when they are differentiated in turn.

    torch's own `once_differentiable` lets second derivatives pass as zero where the incoming gradient is a constant,
    as for a sum. Here the gradients hang on the Function's inputs, so the way to any of them leads through the refusal.
    """
    if not torch.is_grad_enabled():  # that is: no create_graph
        return list(grads)
    anchors = [x for x in inputs if isinstance(x, torch.Tensor) and x.requires_grad]
    there = [g for g in grads if g is not None]
    refused = iter(_Refusal.apply(name, len(there), *there, *anchors))
    return [None if g is None else next(refused) for g in grads]


_DIRECT = {"expected": "DirectAdjoint, which has them",
           "fix": "pysciml.solve(prob, pysciml.Tsit5(), sensealg=pysciml.DirectAdjoint())"}  # fmt: skip
_INSTEAD = {
    "a stochastic equation": {"expected": "the first derivative, or differences of it at the same seed",
                              "fix": "(gradient(p + h) - gradient(p - h)) / (2 * h)"},
    "an event": {"expected": "the first derivative, or differences of it",
                 "fix": "(gradient(p + h) - gradient(p - h)) / (2 * h)"},
}  # fmt: skip


class _Refusal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, name: str, count: int, *tensors: torch.Tensor):
        ctx.name = name
        return tuple(x.detach().clone() for x in tensors[:count])

    @staticmethod
    def backward(ctx, *grads):
        raise UnsupportedError(
            f"second derivatives through {ctx.name} are not available.",
            got="create_graph=True and a second backward()", **_INSTEAD.get(ctx.name, _DIRECT),
        )  # fmt: skip


def first_derivative_only(name: str, x: torch.Tensor, anchors: Sequence[torch.Tensor] = ()) -> torch.Tensor:
    """`x` itself, whose gradient is right but refuses to be differentiated again.

    Args:
        anchors: what x depends on, where x itself does not show it.
    """
    return _Once.apply(name, x, *anchors)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, name: str, x: torch.Tensor, *anchors: torch.Tensor) -> torch.Tensor:
        ctx.name, ctx.inputs = name, (x, *anchors)
        return x.detach().clone()

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        return None, *first_order_only(ctx.name, ctx.inputs, [grad]), *[None] * (len(ctx.inputs) - 1)


def without_gradient(name: str, x: torch.Tensor, anchors: Sequence[torch.Tensor]) -> torch.Tensor:
    """`x`, which depends on `anchors` but cannot be differentiated: backward raises instead of giving zero."""
    return _NoGradient.apply(name, x, *(a for a in anchors if a.requires_grad))


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, name: str, x: torch.Tensor, *anchors: torch.Tensor) -> torch.Tensor:
        ctx.name = name
        return x.clone()

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        raise UnsupportedError(f"{ctx.name} cannot be backpropagated through.", got="backward()",
                               expected="odeint_adjoint, or a method in torch", fix='method="dopri5"')  # fmt: skip


def refusing(x: torch.Tensor, anchors: Sequence[torch.Tensor], what: str, **parts: str) -> torch.Tensor:
    """`x`, which depends on `anchors`: backward raises an `UnsupportedError` that says this, instead of giving zero."""
    tensors = [a for a in anchors if a.requires_grad]
    return _Refusing.apply(x, what, parts, *tensors) if tensors and torch.is_grad_enabled() else x


class _Refusing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: torch.Tensor, what: str, parts: dict[str, str], *anchors: torch.Tensor) -> torch.Tensor:
        ctx.what, ctx.parts = what, parts
        return x.clone()

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        raise UnsupportedError(ctx.what, **ctx.parts)
