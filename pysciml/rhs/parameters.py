"""Pytrees of tensors to and from one flat vector, the only form an engine sees."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError
from pysciml.rhs.functorch import active, values


@dataclass(frozen=True)
class Layout:
    """Where each leaf of a pytree lies in the flat vector.

    Attributes:
        spec: the pytree's structure. shapes: one shape per leaf, in order.
    """

    spec: Any
    shapes: tuple[tuple[int, ...], ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(math.prod(s) for s in self.shapes)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        return tuple(itertools.accumulate(self.sizes, initial=0))

    @cached_property
    def size(self) -> int:
        return self.offsets[-1]

    def unflatten(self, flat: torch.Tensor) -> Any:
        """A (..., size) tensor as the pytree, each leaf (..., *shape)."""
        if len(self.shapes) == 1:
            shape = self.shapes[0]
            leaves = [flat if len(shape) == 1 else flat.reshape(flat.shape[:-1] + shape)]
        else:
            pieces = flat.split(self.sizes, dim=-1)
            leaves = [x.reshape(x.shape[:-1] + s) for x, s in zip(pieces, self.shapes, strict=True)]
        return self.build(leaves)

    def build(self, leaves: Sequence[torch.Tensor]) -> Any:
        """The pytree of these leaves."""
        return leaves[0] if self._is_leaf else pytree.tree_unflatten(list(leaves), self.spec)

    @cached_property
    def _is_leaf(self) -> bool:
        return self.spec.is_leaf()

    def split(self, flat: np.ndarray) -> list[np.ndarray]:
        """The leaves of a flat vector, as views of it."""
        return [flat[o : o + n].reshape(s)
                for o, n, s in zip(self.offsets, self.sizes, self.shapes, strict=False)]  # fmt: skip


def flatten(tree: Any) -> tuple[list[torch.Tensor], Layout]:
    """The leaves of a pytree of tensors, and where each would lie in one flat vector."""
    leaves, spec = pytree.tree_flatten(tree)
    return leaves, Layout(spec, tuple(tuple(x.shape) for x in leaves))


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a right-hand side is called with besides the time.

    Attributes:
        u, p: leaves of the state and of the parameters. u_layout, p_layout: where they lie; no layout without p.
        facts: what a compiled form is made for: shapes, dtypes, devices and structures.
    """

    u: list[torch.Tensor]
    u_layout: Layout
    p: list[torch.Tensor]
    p_layout: Layout | None
    facts: tuple

    @classmethod
    def of(cls, u: Any, p: Any = None) -> Inputs:
        """Those of a state and parameters, pytrees of tensors; `p` may be None."""
        u_leaves, u_layout = flatten(u)
        p_leaves, p_layout = ([], None) if p is None else flatten(p)
        facts = tuple((x.shape, x.dtype, x.device) for x in (*u_leaves, *p_leaves))
        return cls(u_leaves, u_layout, p_leaves, p_layout, (facts, u_layout.spec, p_layout and p_layout.spec))


def to_numpy(x: torch.Tensor) -> np.ndarray:
    """The values in float64, sharing memory where they can."""
    if x.dtype is torch.float64 and x.is_cpu and not x.is_neg():
        return x.detach().numpy()
    return x.detach().cpu().to(torch.float64).resolve_neg().numpy()


def real(x: torch.Tensor) -> torch.Tensor:
    """The tensor itself; complex numbers as pairs of real ones, which torch's gradients of them are too."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def count(x: torch.Tensor) -> int:
    """How many real numbers it holds."""
    return x.numel() * (2 if x.is_complex() else 1)


def restored(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A copy of the flat real `values` in the shape, dtype and device of `like`: what `real` undoes."""
    if like.is_complex():
        return torch.view_as_complex(values.reshape(*like.shape, 2)).to(like.device, like.dtype, copy=True)
    return values.reshape(like.shape).to(like.device, like.dtype, copy=True)


def pack(leaves: Sequence[torch.Tensor]) -> np.ndarray:
    """One float64 vector of all leaves, row-major, copied."""
    if not leaves:
        return np.zeros(0)
    if len(leaves) == 1:  # of which torch would make no copy
        return to_numpy(leaves[0]).flatten()
    # By numpy it takes half the time in a loop of its own, and longer between two solves.
    return to_numpy(torch._utils._flatten_dense_tensors(leaves))


def all_finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite."""
    # The sum of their squares tells, which is quicker, but where it overflows.
    return math.isfinite(np.vdot(values, values)) or bool(np.isfinite(values).all())


def leaf_names(tree: Any, root: str) -> list[str]:
    """How a user would write each leaf: `u0`, `u0['prey']`, `u0[1]`."""
    paths, _ = pytree.tree_flatten_with_path(tree)
    return [root + pytree.keystr(path) for path, _ in paths]


def entry_names(name: str, shape: Sequence[int]) -> list[str]:
    """How a user would write each number of a tensor, row by row: `p[0, 1]`; of a scalar its own name."""
    return [
        f"{name}[{', '.join(map(str, place))}]" if shape else name for place in itertools.product(*map(range, shape))
    ]


def as_floating(tree: Any, root: str) -> Any:
    """`tree` with every leaf a finite floating tensor.

    Accepts tensors, numpy arrays and Python numbers as leaves. Complex ones are floating too.

    Raises:
        InvalidInputError: an integer, NaN or infinite leaf; mixed dtypes or devices; no leaf at all.
    """
    leaves, spec = pytree.tree_flatten(tree)
    if not leaves:
        raise InvalidInputError(f"`{root}` holds no tensor.", got=repr(tree), fix=f"{root} = torch.tensor([1.0, 0.5])")
    tensors = [_floating_leaf(x, tree, root, i) for i, x in enumerate(leaves)]
    for i, x in enumerate(tensors):
        if x.dtype != tensors[0].dtype or x.device != tensors[0].device:
            names = leaf_names(tree, root)
            name = names[i]
            raise InvalidInputError(
                f"all of `{root}` must share one dtype and one device.",
                got=f"{names[0]}: {tensors[0].dtype} on {tensors[0].device}, {name}: {x.dtype} on {x.device}",
                fix=f"{name}.to({names[0]})",
            )  # fmt: skip
    return pytree.tree_unflatten(tensors, spec)


_FLOATING = torch.float32, torch.float64, torch.complex64, torch.complex128


def _floating_leaf(x: Any, tree: Any, root: str, i: int) -> torch.Tensor:
    if isinstance(x, (float, complex, np.ndarray, np.floating, np.complexfloating)):
        x = torch.as_tensor(x)
    if isinstance(x, torch.Tensor) and x.dtype in _FLOATING and is_finite(values(x)):
        return x
    name = leaf_names(tree, root)[i]
    if not isinstance(x, torch.Tensor):
        raise InvalidInputError(f"`{name}` must be a floating tensor.", got=f"{type(x).__name__}: {x!r:.80}",
                                fix=f"{name} = torch.tensor(..., dtype=torch.float64)")  # fmt: skip
    if x.dtype not in _FLOATING:
        raise InvalidInputError(f"`{name}` must be float32 or float64, or complex.", got=f"dtype {x.dtype}",
                                fix=f"{name}.double()")  # fmt: skip
    bad = int((~torch.isfinite(values(x))).sum())
    raise InvalidInputError(f"`{name}` must be finite.", got=f"{bad} NaN or infinite of {x.numel()} values",
                            fix=f"look where {name} comes from: torch.isfinite({name})")  # fmt: skip


def is_finite(x: torch.Tensor) -> bool:
    """Whether no number of a tensor, in no wrapper of torch.func, is NaN or infinite."""
    if x.is_cpu and x.layout is torch.strided and not (x.is_complex() or active()):
        return all_finite(to_numpy(x).ravel())
    return bool(torch.isfinite(x).all())
