"""Values of terms at states (..., d), as (..., k) in torch: what a right-hand side made of a law is compiled from.

Objects and not functions, so that a law can be pickled and copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.lib.mixins import NDArrayOperatorsMixin

from pysciml.errors import UnsupportedError

Values = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Monomials:
    """Products of powers, one row of exponents (d,) a term."""

    powers: Sequence[Sequence[int]]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self._monomial(x, row) for row in self.powers], dim=-1)

    def _monomial(self, x: torch.Tensor, powers: Sequence[int]) -> torch.Tensor:
        value = torch.ones_like(x[..., 0])
        for j, power in enumerate(powers):
            for _ in range(power):
                value = value * x[..., j]
        return value


@dataclass(frozen=True)
class Waves:
    """sin(k x) and cos(k x), k = 1, 2, ...: in pysindy's order, for each k every state, for each the sine first."""

    frequencies: int
    sin: bool
    cos: bool

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        kinds = [torch.sin] * self.sin + [torch.cos] * self.cos
        columns = [f(k * x[..., j]) for k in range(1, self.frequencies + 1) for j in range(x.shape[-1]) for f in kinds]
        return torch.stack(columns, dim=-1)


@dataclass(frozen=True, eq=False)
class Functions:
    """Functions of the states, each of one tensor per state."""

    functions: Sequence[Callable]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([f(*x.unbind(-1)) for f in self.functions], dim=-1)


@dataclass(frozen=True, eq=False)
class Applied:
    """Functions of some of the states each: (function, places of its arguments). A function of none is a constant 1."""

    calls: Sequence[tuple[Callable | None, tuple[int, ...]]]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        states = x.unbind(-1)
        return torch.stack([self._call(f, [states[j] for j in places], states[0]) for f, places in self.calls], dim=-1)

    def _call(self, f: Callable | None, states: Sequence[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
        value = 1.0 if f is None else f(*states)
        return value.expand_as(like) if isinstance(value, torch.Tensor) else torch.full_like(like, value)


@dataclass(frozen=True, eq=False)
class OfUfuncs:
    """A function written with NumPy's ufuncs, as one of tensors."""

    function: Callable

    def __call__(self, *states: torch.Tensor) -> Any:
        return _bare(self.function(*map(UfuncTensor, states)))


@dataclass(frozen=True, eq=False)
class Of:
    """Terms of some of the states."""

    evaluate: Values
    places: list[int]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.evaluate(x[..., self.places])


@dataclass(frozen=True, eq=False)
class Joined:
    """The terms of one after those of the other."""

    parts: Sequence[Values]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([part(x) for part in self.parts], dim=-1)


@dataclass(frozen=True, eq=False)
class Products:
    """Each term of one times each of the other, the last running fastest."""

    parts: Sequence[Values]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        value = self.parts[0](x)
        for part in self.parts[1:]:
            value = (value[..., :, None] * part(x)[..., None, :]).flatten(-2)
        return value


@dataclass(frozen=True, eq=False)
class ByNumPy:
    """Terms that NumPy alone can compute: they have values and no derivatives, and compiling them raises.

    Raises:
        UnsupportedError: they are to be differentiated.
    """

    library: Any

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            raise UnsupportedError(
                f"the terms of this {type(self.library).__name__} are computed by NumPy: they have no derivatives.",
                got="a state that requires grad",
                expected="pysindy's PolynomialLibrary, FourierLibrary, CustomLibrary of torch functions or NumPy "
                "ufuncs, and sums and products of these; a degree; a dict of functions",
                fix='library={"sin(x)": lambda x, y: torch.sin(x)}',
            )
        values = self.library.transform(x.detach().cpu().reshape(-1, x.shape[-1]).numpy())
        return torch.as_tensor(np.asarray(values), dtype=x.dtype, device=x.device).reshape(*x.shape[:-1], -1)


class UfuncTensor(NDArrayOperatorsMixin):
    """A tensor that NumPy's functions take: `np.sin` of it is `torch.sin`, so that derivatives go through."""

    __array_priority__ = 1000

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        f = _torch_function(ufunc.__name__)
        if method != "__call__" or options or f is None:
            return NotImplemented
        tensors = [torch.as_tensor(x, dtype=self.tensor.dtype) for x in map(_bare, inputs)]
        return UfuncTensor(f(*tensors))


_OTHER_NAMES = {"power": "pow", "conjugate": "conj", "fabs": "abs", "mod": "remainder", "fmod": "fmod"}


def _torch_function(name: str) -> Callable | None:
    return getattr(torch, _OTHER_NAMES.get(name, name), None)


def _bare(x: Any) -> Any:
    return x.tensor if isinstance(x, UfuncTensor) else x
