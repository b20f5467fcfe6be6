"""Operations written in simpler ones, where torch has no decomposition or one that is not good enough for a Graph.

Engines may differentiate the Graph of f by themselves. So these give, beside torch's values, torch's derivatives where
torch's own formulas treat a point apart: a norm at 0, a kink, x * log(y) at (0, 0).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

DECOMPOSITIONS: dict[str, Callable] = {}


def decomposition(*names: str) -> Callable[[Callable], Callable]:
    def register(function: Callable) -> Callable:
        DECOMPOSITIONS.update(dict.fromkeys(names, function))
        return function

    return register


def _tensor(x, like) -> torch.Tensor:
    return x if isinstance(x, torch.Tensor) else torch.full_like(like, x)


# Rounding ------------------------------------------------------------------------------------------------------------


@decomposition("div.Tensor_mode", "div.Scalar_mode")
def div(x, y, rounding_mode=None):
    if rounding_mode == "floor":
        return floor_divide(x, y)
    return torch.trunc(x / y) if rounding_mode == "trunc" else x / y


@decomposition("floor_divide")
def floor_divide(x, y):
    # From the exact remainder, as torch does it: floor(x / y) is off by one where x / y rounds up to an integer.
    x = _tensor(x, y)
    rest = torch.fmod(x, y)
    quotient = (x - rest) / y
    return torch.round(torch.where((rest != 0) & ((rest < 0) != (y < 0)), quotient - 1, quotient))


@decomposition("remainder")
def remainder(x, y):
    rest = torch.fmod(_tensor(x, y), y)
    return torch.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)


@decomposition("round")
def round(x, decimals=0):
    scale = 10.0**decimals
    down = torch.floor(x * scale)
    rest = x * scale - down
    up = torch.where(rest == 0.5, torch.fmod(down, 2.0) != 0, rest > 0.5)  # halves go to the even neighbour
    return (down + up) / scale


# Roots and logarithms at 0 -------------------------------------------------------------------------------------------


def _root(x, order=2.0):
    """The root of a nonnegative x, with derivative 0 at 0, as torch has it for norms and deviations."""
    zero = x == 0
    inside = torch.where(zero, 1.0, x)
    root = torch.sqrt(inside) if order == 2 else inside ** (1.0 / order)
    return torch.where(zero, 0.0, root)


@decomposition("linalg_vector_norm")
def vector_norm(x, ord=2, dim=None, keepdim=False, dtype=None):
    x = x if dtype is None else x.to(dtype)
    dim = list(range(x.dim())) if dim is None else dim
    if ord == math.inf:
        return x.abs().amax(dim, keepdim)
    if ord == -math.inf:
        return x.abs().amin(dim, keepdim)
    if ord == 0:
        return (x != 0).to(x.dtype).sum(dim, keepdim)
    if ord == 1:
        return x.abs().sum(dim, keepdim)
    if ord == 2:
        return _root((x * x).sum(dim, keepdim))
    zero = x == 0
    powers = torch.where(zero, 0.0, torch.where(zero, 1.0, x.abs()) ** ord)
    return _root(powers.sum(dim, keepdim), ord)


@decomposition("norm")
def norm(x, p=2, dim=None, keepdim=False, dtype=None):
    return vector_norm(x, 2 if p is None else p, dim, keepdim, dtype)


@decomposition("dist")
def dist(x, y, p=2):
    return vector_norm(x - y, p)


@decomposition("std")
def std(x, dim=None, correction=1, keepdim=False, unbiased=None):
    return _root(torch.var(x, dim, correction=correction, keepdim=keepdim))


@decomposition("std_mean")
def std_mean(x, dim=None, correction=1, keepdim=False):
    return std(x, dim, correction, keepdim), torch.mean(x, dim, keepdim=keepdim)


@decomposition("hypot")
def hypot(x, y):
    return torch.sqrt(x * x + y * y)


@decomposition("xlogy")
def xlogy(x, y):
    x, y = _tensor(x, y), _tensor(y, x)
    zero = (x == 0) & (y <= 0)
    return torch.where(zero, 0.0, x * torch.log(torch.where(zero, 1.0, y)))


@decomposition("sinc")
def sinc(x):
    zero = x == 0
    angle = math.pi * torch.where(zero, 1.0, x)
    return torch.where(zero, 1.0, torch.sin(angle) / angle)


# Kinks ---------------------------------------------------------------------------------------------------------------


@decomposition("hardtanh")
def hardtanh(x, min_val=-1.0, max_val=1.0):
    return torch.where(x <= min_val, min_val, torch.where(x >= max_val, max_val, x))  # flat at both ends, unlike clamp


@decomposition("relu6")
def relu6(x):
    return hardtanh(x, 0.0, 6.0)


@decomposition("hardsigmoid")
def hardsigmoid(x):
    return hardtanh(x / 6 + 0.5, 0.0, 1.0)


@decomposition("hardswish")
def hardswish(x):
    return torch.where(x <= -3, 0.0 * x, torch.where(x >= 3, x, x * (x + 3) / 6))


@decomposition("hardshrink_backward", "softshrink_backward")
def shrink_backward(grad, x, lambd):
    return torch.where(x.abs() <= lambd, 0.0, grad)


@decomposition("fmax")
def fmax(x, y):
    return torch.where((x >= y) | torch.isnan(y), x, y)


@decomposition("fmin")
def fmin(x, y):
    return torch.where((x <= y) | torch.isnan(y), x, y)


@decomposition("copysign")
def copysign(x, y):
    y = _tensor(y, x)
    return torch.where(torch.signbit(y), -x.abs(), x.abs())


# Products ------------------------------------------------------------------------------------------------------------


@decomposition("addbmm")
def addbmm(bias, x, y, beta=1, alpha=1):
    return beta * bias + alpha * torch.bmm(x, y).sum(0)
