"""Functions that torch cannot look into, for torch.func and for derivatives of any order.

An `Operation` computes with plain numbers, and says what its derivatives are in terms of further operations. `apply`
lets every transform of torch meet it: `grad` and `vjp` pull cotangents back, `jvp` pushes tangents forward, `vmap`
runs it for one member after the other, and all of them nest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

Tensors = Sequence[torch.Tensor]


class Operation:
    """A function of tensors."""

    def run(self, *xs: torch.Tensor) -> Tensors:
        """The results, of plain tensors without gradient; it may be called for several members of a `vmap`."""
        raise NotImplementedError

    def pull(self, xs: Tensors, cotangents: Tensors, needs: Sequence[bool]) -> Sequence[torch.Tensor | None]:
        """The gradients in xs, in differentiable operations."""
        raise NotImplementedError

    def push(self, xs: Tensors, tangents: Sequence[torch.Tensor | None]) -> Tensors:
        """The derivatives of the results along tangents of xs, in differentiable operations; None stands for zero."""
        raise NotImplementedError


def apply(operation: Operation, *xs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The results of an operation, differentiable in xs."""
    return _Applied.apply(operation, *xs)


class _Applied(torch.autograd.Function):
    @staticmethod
    def forward(operation: Operation, *xs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(operation.run(*(x.detach() for x in xs)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.operation, *xs = inputs
        ctx.set_materialize_grads(False)  # a time that is no variable has no tangent, rather than one of zeros
        ctx.like = [(y.shape, y.dtype, y.device) for y in output]
        ctx.save_for_backward(*xs)
        ctx.save_for_forward(*xs)

    @staticmethod
    def backward(ctx: Any, *cotangents: torch.Tensor | None) -> tuple:
        given = [torch.zeros(like[0], dtype=like[1], device=like[2]) if c is None else c
                 for c, like in zip(cotangents, ctx.like, strict=True)]  # fmt: skip
        return None, *ctx.operation.pull(ctx.saved_tensors, given, ctx.needs_input_grad[1:])

    @staticmethod
    def jvp(ctx: Any, _: Any, *tangents: torch.Tensor | None) -> tuple:
        # torch comes here with forward gradients switched off, and then the derivative of a `jvp` in a transform around
        # this one would be zero without a word (torch 2.13; its own custom Functions have it).
        with forward_ad._set_fwd_grad_enabled(True):
            xs = [forward_ad.unpack_dual(x).primal for x in ctx.saved_tensors]
            return tuple(ctx.operation.push(xs, tangents))

    @staticmethod
    def vmap(info: Any, dims: tuple, operation: Operation, *xs: torch.Tensor) -> tuple:
        each = [[x] * info.batch_size if dim is None else x.unbind(dim) for x, dim in zip(xs, dims[1:], strict=True)]
        found = [_Applied.apply(operation, *members) for members in zip(*each, strict=True)]
        out = tuple(torch.stack(results) for results in zip(*found, strict=True))
        return out, (0,) * len(out)


class InTorch(Operation):
    """A torch function that autograd can differentiate, but that the transforms shall not see into.

    One that branches on values cannot be mapped, and an old `torch.autograd.Function` in it stops torch.func.

    Args:
        function: tensors to a tuple of tensors, of its arguments alone.
    """

    def __init__(self, function: Callable[..., Tensors]):
        self.function = function

    def run(self, *xs: torch.Tensor) -> Tensors:
        return self.function(*xs)

    def pull(self, xs: Tensors, cotangents: Tensors, needs: Sequence[bool]) -> Sequence[torch.Tensor | None]:
        return apply(InTorch(Pullback(self.function, len(xs))), *xs, *cotangents)

    def push(self, xs: Tensors, tangents: Sequence[torch.Tensor | None]) -> Tensors:
        along = [torch.zeros_like(x) if w is None else w for x, w in zip(xs, tangents, strict=True)]
        return apply(InTorch(_Pushforward(self.function, len(xs))), *xs, *along)


class Pullback:
    """The products of a function's Jacobians with vectors from the left, as a function of its arguments and these."""

    def __init__(self, function: Callable[..., Tensors], inputs: int):
        self.function, self.inputs = function, inputs

    def __call__(self, *args: torch.Tensor) -> Tensors:
        keep = torch.is_grad_enabled() and any(x.requires_grad for x in args)
        with torch.enable_grad():
            xs = [_differentiable(x) for x in args[: self.inputs]]
            known = [(y, v) for y, v in zip(self.function(*xs), args[self.inputs :], strict=True) if y.requires_grad]
            if not known:
                return [torch.zeros_like(x) for x in xs]
            return torch.autograd.grad([y for y, _ in known], xs, [v for _, v in known], create_graph=keep,
                                       materialize_grads=True)  # fmt: skip


class _Pushforward:
    """J w, as the gradient in v of (v J) w, which is linear in v."""

    def __init__(self, function: Callable[..., Tensors], inputs: int):
        self.function, self.inputs = function, inputs

    def __call__(self, *args: torch.Tensor) -> Tensors:
        keep = torch.is_grad_enabled() and any(x.requires_grad for x in args)
        with torch.enable_grad():
            xs, along = [_differentiable(x) for x in args[: self.inputs]], args[self.inputs :]
            ys = self.function(*xs)
            vs = [torch.zeros_like(y, requires_grad=True) for y in ys]
            pulled = Pullback(self.function, self.inputs)(*xs, *vs)
            known = [(g, w) for g, w in zip(pulled, along, strict=True) if g.requires_grad]
            if not known:
                return vs
            return torch.autograd.grad([g for g, _ in known], vs, [w for _, w in known], create_graph=keep,
                                       materialize_grads=True)  # fmt: skip


def _differentiable(x: torch.Tensor) -> torch.Tensor:
    return x if x.requires_grad else x.detach().requires_grad_()
