"""What the tables of right-hand sides are written in."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch


@dataclass(frozen=True)
class Case:
    """One right-hand side: `make` builds `f(t, u)` or `f(t, u, p)`; `u` is a shape, a tensor or a pytree of tensors."""

    name: str
    make: Callable[[], Callable]
    u: Any
    p: Any = None
    positive: bool = False
    tol: float = 1e-10
    fixed: bool = False  # see `against_torch.check`

    def build(self) -> tuple[Callable, Any, Any]:
        with double_by_default():
            torch.manual_seed(zlib.crc32(self.name.encode()))
            u = self.u() if callable(self.u) else self._random() if isinstance(self.u, tuple) else self.u
            return self.make(), u, self.p() if callable(self.p) else self.p

    def _random(self) -> torch.Tensor:
        # Away from 0, where many functions have a kink or a pole: kinks have tests of their own.
        x = 0.15 + 0.7 * torch.rand(self.u)
        return x if self.positive else x * torch.where(torch.rand(self.u) < 0.5, -1.0, 1.0)


@contextmanager
def double_by_default() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def shaped_like(u: torch.Tensor, out: Any) -> torch.Tensor:
    """Anything f computed, as a derivative of u's shape: every number of it weighs in every number of the result."""
    parts = [x.reshape(-1) for x in (out if isinstance(out, (tuple, list)) else [out])]
    flat = torch.cat([x.to(u.dtype) for x in parts])
    if flat.numel() == u.numel() and not isinstance(out, (tuple, list)) and out.shape == u.shape:
        return flat.reshape(u.shape)
    mix = torch.cos(torch.arange(u.numel() * flat.numel(), dtype=u.dtype)).reshape(u.numel(), flat.numel())
    return (mix @ flat).reshape(u.shape)


def of_u(name: str, g: Callable, shape: tuple[int, ...] = (3,), **options: Any) -> Case:
    """du = g(u), whatever shape that has."""
    return Case(name, lambda: lambda t, u: shaped_like(u, g(u)), shape, **options)


def of_net(name: str, make: Callable[[], torch.nn.Module], shape: tuple[int, ...] = (3,), **options: Any) -> Case:
    """du = net(u) for a module in eval mode, with t in it too."""

    def build() -> Callable:
        net = make().eval()
        return lambda t, u: shaped_like(u, net(u * (1 + 0.1 * t)))

    return Case(name, build, shape, **options)


def params(cases: list[Case]) -> list:
    names = [case.name for case in cases]
    assert len(set(names)) == len(names), [n for n in names if names.count(n) > 1]
    return [pytest.param(case, id=case.name) for case in cases]
