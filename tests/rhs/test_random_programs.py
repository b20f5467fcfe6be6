"""Random right-hand sides: Graphs against torch, and lowerings against Graphs."""

from __future__ import annotations

import functools

import hypothesis.strategies as st
import torch
import torch.nn as nn
import torch.nn.functional as F
from against_torch import check
from hypothesis import HealthCheck, given, settings
from tables import double_by_default, shaped_like


def few(n: int) -> settings:
    """n examples, or as many as a profile asks for that asks for more (`--hypothesis-profile=explore`)."""
    asked = settings().max_examples
    return settings(max_examples=asked if asked > 100 else n, deadline=None, suppress_health_check=list(HealthCheck))


UNARY = [
    torch.sin, torch.cos, torch.tanh, torch.sigmoid, torch.exp, torch.expm1, torch.abs, torch.square, torch.erf,
    torch.atan, torch.sinh, torch.asinh, torch.floor, torch.sign, F.relu, F.elu, F.gelu, F.silu, F.softplus, F.mish,
    F.hardswish, F.leaky_relu, F.softsign, F.logsigmoid,
    lambda x: torch.log1p(x.abs()), lambda x: torch.sqrt(x * x + 0.1), lambda x: 1 / (1 + x * x), lambda x: x % 0.7,
    lambda x: x.clamp(-0.6, 0.6), lambda x: (x.abs() + 0.1) ** 1.5, lambda x: torch.where(x > 0.1, x, 0.5 * x * x),
    lambda x: x.masked_fill(x < -0.3, 0.2), torch.clone, torch.neg,
]  # fmt: skip

BINARY = [
    torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum, torch.atan2, torch.logaddexp,
    lambda x, y: x / (1 + y * y), lambda x, y: torch.where(x > y, x, y * y), lambda x, y: (x.abs() + 0.2) ** y,
    lambda x, y: torch.hypot(x, y + 2), lambda x, y: torch.lerp(x, y, 0.3), lambda x, y: torch.fmod(x, y.abs() + 0.3),
    lambda x, y: (x > y) * x,
]  # fmt: skip

SHAPE = [
    lambda x: x.T, lambda x: x.flip(0), lambda x: x.roll(1, -1), lambda x: x.reshape(x.shape[1], x.shape[0]),
    lambda x: x[:1], lambda x: x[:, -1:], lambda x: x[:, 1:] if x.shape[1] > 1 else x, lambda x: x[[0, -1]],
    lambda x: x[:, torch.arange(x.shape[1]).flip(0)], lambda x: x.repeat(1, 2), lambda x: torch.cat([x, x.sin()]),
    lambda x: torch.stack([x[0], x[-1]], 1), lambda x: F.pad(x, (1, 0)), lambda x: x.diff(dim=1, prepend=x[:, :1]),
    lambda x: x.expand(2, *x.shape).transpose(0, 1)[0], lambda x: x.unfold(1, 1, 1)[..., 0], lambda x: x.tril(),
    lambda x: x.unsqueeze(0).squeeze(0), lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), lambda x: x.tile(2, 1)[1:],
]  # fmt: skip

REDUCE = [
    lambda x: x.sum(0, keepdim=True), lambda x: x.mean(1, keepdim=True), lambda x: x.prod(1, keepdim=True),
    lambda x: x.amax(0, keepdim=True), lambda x: x.amin(1, keepdim=True), lambda x: x.norm(dim=1, keepdim=True),
    lambda x: x.var(0, correction=0, keepdim=True), lambda x: x.logsumexp(1, keepdim=True), lambda x: x.softmax(1),
    lambda x: x.log_softmax(0), lambda x: x.cumsum(1), lambda x: x.cumprod(0), lambda x: x.max(1, keepdim=True).values,
    lambda x: x @ x.T, lambda x: torch.einsum("ij,kj->ki", x, x), lambda x: F.layer_norm(x, x.shape[-1:]),
    lambda x: torch.outer(x[0], x[:, 0]), lambda x: torch.kron(x[:1], x[:, :1]), lambda x: F.normalize(x + 2, dim=1),
]  # fmt: skip


def write(x: torch.Tensor) -> torch.Tensor:
    out = torch.zeros_like(x)
    out[0] = x[-1]
    out[:, -1:] += x[:, :1] * 2
    out.mul_(0.5)
    row = out[-1]
    row += 1.0
    return out


ONE = [*UNARY, *SHAPE, *REDUCE, write]
MOST = 24  # numbers in an intermediate result


def step(kind: str, which: int, a: int, b: int, pool: list[torch.Tensor]) -> torch.Tensor:
    x, y = pool[a % len(pool)], pool[b % len(pool)]
    if kind == "one":
        return ONE[which % len(ONE)](x)
    if kind == "matmul":
        return x @ y[: x.shape[1]] if y.shape[0] >= x.shape[1] else x @ x.T
    rows, cols = min(x.shape[0], y.shape[0]), min(x.shape[1], y.shape[1])
    return BINARY[which % len(BINARY)](x[:rows, :cols], y[:rows, :cols])


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["one", "one", "one", "two", "matmul"]),
        st.integers(0, 999),
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=7,
)


def run(steps: list[tuple], t: torch.Tensor, u: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    pool = [u, w * u + t, w]
    for s in steps:
        out = step(*s, pool)
        # Tame: what grows like exp(exp(x)) says nothing about rules, only about round-off.
        pool.append(torch.tanh(out[: max(MOST // out.shape[1], 1), :MOST]))
    return shaped_like(u, pool[-1] + pool[0].sum() * pool[1].mean())


@few(50)
@given(steps=STEPS, seed=st.integers(0, 999))
def test_random_expressions(steps, seed):
    torch.manual_seed(seed)
    u, w = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    check(lambda t, u, p: run(steps, t, u, p), u, w, points=1, tol=1e-8)


LAYERS = [
    lambda n: (nn.Linear(n, 4), 4),
    lambda n: (nn.Linear(n, 2, bias=False), 2),
    lambda n: (nn.LayerNorm(n), n),
    lambda n: (nn.Sequential(nn.Unflatten(-1, (1, n)), nn.Conv1d(1, 2, 3, padding=1), nn.Flatten(-2)), 2 * n),
    lambda n: (nn.Sequential(nn.Unflatten(-1, (1, n)), nn.AvgPool1d(2, ceil_mode=False), nn.Flatten(-2)), n // 2)
    if n > 1
    else (nn.Identity(), n),
    lambda n: (nn.PReLU(), n),
    lambda n: (nn.Dropout(), n),
    lambda n: (nn.RMSNorm(n), n),
    *(functools.partial(lambda make, n: (make(), n), make) for make in
      (nn.Tanh, nn.SiLU, nn.ELU, nn.GELU, nn.Softplus, nn.LeakyReLU, nn.Sigmoid, nn.Hardswish, nn.Mish, nn.Softsign)),
    lambda n: (nn.GLU(), n // 2) if n % 2 == 0 else (nn.Softmax(-1), n),
]  # fmt: skip


class Stack(nn.Module):
    def __init__(self, choices, residual):
        super().__init__()
        layers, n = [], 3
        for k in choices:
            layer, n = LAYERS[k](min(n, 8)) if n <= 8 else (nn.Linear(n, 3), 3)
            layers.append(layer)
        self.layers, self.last, self.residual = nn.Sequential(*layers), nn.Linear(n, 3), residual

    def forward(self, t, u):
        out = self.last(self.layers(u))
        return out + t * u if self.residual else out * torch.cos(t)


@few(20)
@given(
    choices=st.lists(st.integers(0, len(LAYERS) - 1), max_size=4),
    residual=st.booleans(),
    rows=st.integers(1, 2),
    seed=st.integers(0, 999),
)
def test_random_modules(choices, residual, rows, seed):
    torch.manual_seed(seed)
    with double_by_default():
        net, u = Stack(choices, residual).eval(), torch.randn(rows, 3)
    check(net, u, points=1, tol=1e-8)
