"""torch functions that are written anew before they are differentiated, in operations the Graph has.

Convolution and pooling become a gather of patches (constant index, zeros outside) and a matrix product; autograd then
differentiates those, and no rule for a convolution's backward is needed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from pysciml.errors import TraceError


def _tuple(x, n: int) -> tuple[int, ...]:
    return (x,) * n if isinstance(x, int) else tuple(x) * (n if len(x) == 1 else 1)


def _patches(x: torch.Tensor, kernel, stride, padding, dilation, fill: float = 0.0) -> torch.Tensor:
    """(batch, channels, *space) -> (batch, channels, *out, prod(kernel)): what each kernel position sees."""
    n = len(kernel)
    x = F.pad(x, [w for lo, hi in reversed(padding) for w in (lo, hi)], value=fill)
    space = x.shape[-n:]
    out = [(s - d * (k - 1) - 1) // st + 1 for s, k, st, d in zip(space, kernel, stride, dilation, strict=True)]
    grids = [np.arange(o)[:, None] * st + np.arange(k) * d
             for o, st, k, d in zip(out, stride, kernel, dilation, strict=True)]  # fmt: skip
    index = np.zeros((*out, *kernel), dtype=np.int64)
    for axis, grid in enumerate(grids):
        shape = [1] * (2 * n)
        shape[axis], shape[n + axis] = grid.shape
        index = index * space[axis] + grid.reshape(shape)
    flat = x.flatten(-n)
    picked = flat[..., torch.from_numpy(index.reshape(-1)).to(x.device)]
    return picked.reshape(*x.shape[:-n], *out, math.prod(kernel))


def _padding(padding, kernel, dilation, n: int) -> list[tuple[int, int]]:
    if padding == "valid":
        return [(0, 0)] * n
    if padding == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(t // 2, t - t // 2) for t in total]
    return [(q, q) for q in _tuple(padding, n)]


def _convolution(n: int) -> Callable:
    def conv(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        batched = input.dim() == n + 2
        x = input if batched else input.unsqueeze(0)
        kernel = tuple(weight.shape[2:])
        stride, dilation = _tuple(stride, n), _tuple(dilation, n)
        seen = _patches(x, kernel, stride, _padding(padding, kernel, dilation, n), dilation)
        out_space = seen.shape[2 : 2 + n]
        b, c = x.shape[:2]
        seen = seen.reshape(b, groups, c // groups, -1, math.prod(kernel)).permute(1, 2, 4, 0, 3)
        seen = seen.reshape(groups, (c // groups) * math.prod(kernel), -1)
        out = torch.bmm(weight.reshape(groups, weight.shape[0] // groups, -1), seen)
        out = out.reshape(weight.shape[0], b, *out_space).transpose(0, 1)
        if bias is not None:
            out = out + bias.reshape(-1, *(1,) * n)
        return out if batched else out.squeeze(0)

    return conv


def _transposed(n: int) -> Callable:
    def conv(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
        batched = input.dim() == n + 2
        x = input if batched else input.unsqueeze(0)
        stride, dilation, padding = _tuple(stride, n), _tuple(dilation, n), _tuple(padding, n)
        extra, kernel = _tuple(output_padding, n), tuple(weight.shape[2:])
        for axis, s in enumerate(
            stride
        ):  # spread the input out with zeros between, then convolve with the flipped kernel
            x = _spread(x, 2 + axis, s)
        pads = [(d * (k - 1) - q, d * (k - 1) - q + e)
                for k, d, q, e in zip(kernel, dilation, padding, extra, strict=True)]  # fmt: skip
        x = F.pad(x, [w for lo, hi in reversed(pads) for w in (lo, hi)])
        c, per = weight.shape[0], weight.shape[1]
        flipped = weight.flip(tuple(range(2, 2 + n))).reshape(groups, c // groups, per, *kernel)
        flipped = flipped.transpose(1, 2).reshape(groups * per, c // groups, *kernel)
        out = _convolution(n)(x, flipped, bias, 1, 0, dilation, groups)
        return out if batched else out.squeeze(0)

    return conv


def _spread(x: torch.Tensor, axis: int, step: int) -> torch.Tensor:
    if step == 1:
        return x
    zeros = torch.zeros_like(x).unsqueeze(axis + 1)
    x = torch.cat([x.unsqueeze(axis + 1), *itertools.repeat(zeros, step - 1)], axis + 1).flatten(axis, axis + 1)
    return x.narrow(axis, 0, x.shape[axis] - step + 1)


def _windows(input, kernel_size, stride, padding, n: int, dilation=1, fill: float = 0.0) -> torch.Tensor:
    kernel = _tuple(kernel_size, n)
    pads = [(q, q) for q in _tuple(padding, n)]
    return _patches(input, kernel, _tuple(stride or kernel, n), pads, _tuple(dilation, n), fill)


def _max_pool(n: int) -> Callable:
    def pool(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
        if ceil_mode or return_indices:
            raise _only_simple_pooling(f"max_pool{n}d")
        return _windows(input, kernel_size, stride, padding, n, dilation, -math.inf).max(-1).values

    return pool


def _avg_pool(n: int) -> Callable:
    def pool(
        input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None
    ):
        if ceil_mode or divisor_override:
            raise _only_simple_pooling(f"avg_pool{n}d")
        mean = _windows(input, kernel_size, stride, padding, n).mean(-1)
        if count_include_pad:
            return mean
        return mean / _windows(torch.ones_like(input), kernel_size, stride, padding, n).mean(-1)

    return pool


def _only_simple_pooling(op: str) -> TraceError:
    return TraceError("pooling is compiled without ceil_mode, return_indices and divisor_override.", op=op,
                      fix="pad the input instead of ceil_mode")  # fmt: skip


def _along_axes(input, n: int, matrices) -> torch.Tensor:
    """Each of the last n axes, mapped by a constant matrix that one-dimensional torch says."""
    for axis, make in zip(range(-n, 0), matrices, strict=True):
        size = input.shape[axis]
        matrix = make(torch.eye(size, dtype=input.dtype, device=input.device)[:, None])[:, 0]
        input = (input.movedim(axis, -1) @ matrix).movedim(-1, axis)
    return input


def _adaptive_avg_pool(n: int) -> Callable:
    def pool(input, output_size):
        sizes = (output_size,) * n if isinstance(output_size, int) else output_size
        sizes = [size or input.shape[k - n] for k, size in enumerate(sizes)]
        return _along_axes(input, n, [lambda eye, o=o: F.adaptive_avg_pool1d(eye, o) for o in sizes])

    return pool


_ONE_AXIS = {"nearest": "nearest", "nearest-exact": "nearest-exact", "area": "area", "linear": "linear",
             "bilinear": "linear", "trilinear": "linear"}  # fmt: skip


def _interpolate(input, size=None, scale_factor=None, mode="nearest", align_corners=None, *args, **kwargs):
    if mode not in _ONE_AXIS or args or any(kwargs.values()):
        raise TraceError(f"interpolation of mode {mode!r} or with further options is not compiled.", op="interpolate",
                         fix='mode="bilinear" or "nearest", with size or scale_factor')  # fmt: skip
    n = input.dim() - 2
    sizes, scales = _tuple(size, n) if size is not None else (None,) * n, scale_factor
    scales = (scales,) * n if not isinstance(scales, (tuple, list)) else scales
    return _along_axes(input, n, [
        lambda eye, o=o, s=s: F.interpolate(eye, o, s, _ONE_AXIS[mode], align_corners)
        for o, s in zip(sizes, scales, strict=True)
    ])  # fmt: skip


def _batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    shape = (1, -1) + (1,) * (input.dim() - 2)
    return _affine((input - running_mean.view(shape)) / torch.sqrt(running_var.view(shape) + eps), weight, bias, shape)


def _instance_norm(input, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True,
                   momentum=0.1, eps=1e-5):  # fmt: skip
    if not use_input_stats:
        return _batch_norm(input, running_mean, running_var, weight, bias, eps=eps)
    axes = tuple(range(2, input.dim()))
    var, mean = torch.var_mean(input, axes, correction=0, keepdim=True)
    return _affine((input - mean) / torch.sqrt(var + eps), weight, bias, (1, -1) + (1,) * len(axes))


def _affine(x, weight, bias, shape):
    x = x if weight is None else x * weight.view(shape)
    return x if bias is None else x + bias.view(shape)


def _rrelu(input, lower=1 / 8, upper=1 / 3, training=False, inplace=False):
    return F.leaky_relu(input, (lower + upper) / 2)


def _weight_norm(v, g, dim=0):
    return v * (g / torch.norm_except_dim(v, 2, dim))


_SOURCE = {
    "circular": lambda i, n: i % n,
    "replicate": lambda i, n: i.clip(0, n - 1),
    "reflect": lambda i, n: n - 1 - np.abs(n - 1 - np.abs(i)),
}


def _pad(input, pad, mode="constant", value=None):
    if mode not in _SOURCE:
        return F.pad(input, pad, mode, value)
    for k in range(len(pad) // 2):
        axis, (lo, hi) = input.dim() - 1 - k, pad[2 * k : 2 * k + 2]
        n = input.shape[axis]
        index = _SOURCE[mode](np.arange(-lo, n + hi), n)
        input = input.index_select(axis, torch.from_numpy(index).to(input.device))
    return input


def _unfold(x, dimension, size, step):
    n = (x.shape[dimension] - size) // step + 1 if x.dim() else 1
    index = torch.from_numpy(np.arange(n)[:, None] * step + np.arange(size)).to(x.device)
    return x.movedim(dimension, -1)[..., index].movedim(-2, dimension if dimension >= 0 else dimension - 1)


def _bilinear(x, y, weight, bias=None):
    out = torch.einsum("...i,oij,...j->...o", x, weight, y)
    return out if bias is None else out + bias


def _cdist(x1, x2, p=2.0, compute_mode=None):
    return torch.linalg.vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, -1)


def _logcumsumexp(x, dim):
    x = x.movedim(dim, -1)
    before = torch.ones(x.shape[-1], x.shape[-1], dtype=torch.bool, device=x.device).tril()
    return torch.where(before, x.unsqueeze(-2), -math.inf).logsumexp(-1).movedim(-1, dim)


def _set_item(x, key, value):
    """A boolean mask may be computed from the state as long as one value goes everywhere it is true."""
    single = not isinstance(value, torch.Tensor) or value.dim() == 0
    if isinstance(key, torch.Tensor) and key.dtype == torch.bool and single:
        x.masked_fill_(key.reshape(key.shape + (1,) * (x.dim() - key.dim())), value)
    else:
        x[key] = value


# torch has no derivative for these; they are flat between their steps.


def _floor_divide(x, y):
    return torch.div(x, y, rounding_mode="floor")


def _reversed_floor_divide(x, y):
    return torch.div(torch.full_like(x, y), x, rounding_mode="floor")


def _remainder(x, y):
    return torch.remainder(x if isinstance(x, torch.Tensor) else torch.full_like(y, x), y)


def _heaviside(x, values):
    return torch.where(x == 0, values, (x > 0).to(x.dtype))


REWRITES: dict[Callable, Callable] = {
    torch.conv1d: _convolution(1),
    torch.conv2d: _convolution(2),
    torch.conv3d: _convolution(3),
    torch.conv_transpose1d: _transposed(1),
    torch.conv_transpose2d: _transposed(2),
    torch.conv_transpose3d: _transposed(3),
    F.avg_pool1d: _avg_pool(1),
    torch.avg_pool1d: _avg_pool(1),
    F.avg_pool2d: _avg_pool(2),
    F.avg_pool3d: _avg_pool(3),
    F.max_pool1d: _max_pool(1),
    F.max_pool2d: _max_pool(2),
    F.max_pool3d: _max_pool(3),
    F.adaptive_avg_pool1d: _adaptive_avg_pool(1),
    F.adaptive_avg_pool2d: _adaptive_avg_pool(2),
    F.interpolate: _interpolate,
    F.batch_norm: _batch_norm,
    F.instance_norm: _instance_norm,
    F.rrelu: _rrelu,
    torch._weight_norm: _weight_norm,
    F.pad: _pad,
    torch.Tensor.unfold: _unfold,
    F.bilinear: _bilinear,
    torch.bilinear: _bilinear,
    torch.cdist: _cdist,
    torch.logcumsumexp: _logcumsumexp,
    torch.Tensor.logcumsumexp: _logcumsumexp,
    torch.Tensor.__setitem__: _set_item,
    torch.floor_divide: _floor_divide,
    torch.Tensor.floor_divide: _floor_divide,
    torch.Tensor.__floordiv__: _floor_divide,
    torch.Tensor.__rfloordiv__: _reversed_floor_divide,
    torch.remainder: _remainder,
    torch.Tensor.__rmod__: lambda x, y: _remainder(y, x),
    torch.heaviside: _heaviside,
    torch.Tensor.heaviside: _heaviside,
}
