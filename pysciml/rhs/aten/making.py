"""Making, casting and aliasing tensors."""

from __future__ import annotations

import numpy as np
import torch

from pysciml.errors import TraceError
from pysciml.rhs.aten.common import RULES, as_node, rule
from pysciml.rhs.aten.elementwise import trunc
from pysciml.rhs.graph import Builder, Node


def _fill(b: Builder, shape, value) -> Node:
    return b.expand(b.constant(value) if not isinstance(value, Node) else value, tuple(shape))


RULES["full"] = lambda b, shape, value, **kw: _fill(b, shape, value)
RULES["scalar_tensor"] = lambda b, value, **kw: as_node(b, value)
RULES["full_like"] = lambda b, x, value, **kw: _fill(b, x.shape, value)
RULES["new_full"] = lambda b, x, shape, value, **kw: _fill(b, shape, value)
for _op, _value in (("zeros", 0.0), ("ones", 1.0), ("empty", 0.0)):
    RULES[_op] = lambda b, shape, _value=_value, **kw: _fill(b, shape, _value)
    RULES[f"{_op}_like"] = lambda b, x, _value=_value, **kw: _fill(b, x.shape, _value)
    RULES[f"new_{_op}"] = lambda b, x, shape, _value=_value, **kw: _fill(b, shape, _value)
RULES["empty_strided"] = RULES["empty_permuted"] = lambda b, shape, *a, **kw: _fill(b, shape, 0.0)
RULES["new_empty_strided"] = lambda b, x, shape, *a, **kw: _fill(b, shape, 0.0)


RULES["_new_zeros_with_same_feature_meta"] = lambda b, x, other, self_num_batch_dims=0: _fill(
    b, x.shape[:self_num_batch_dims] + other.shape, 0.0
)


@rule("fill")
def _fill_tensor(b, x, value):
    return _fill(b, x.shape, value)


@rule("copy")
def _copy(b, x, source, non_blocking=False):
    return b.expand(as_node(b, source), x.shape)


@rule("arange")
def _arange(b, *args, **kwargs):
    return b.constant(np.arange(*args))


@rule("eye")
def _eye(b, n, m=None, **kwargs):
    return b.constant(np.eye(n, m))


@rule("lift_fresh_copy", "lift_fresh", "clone", "alias", "detach", "contiguous", "_to_copy", "to",
      "convert_element_type", "device_put", "view_of", "_conj", "resolve_conj", "resolve_neg")  # fmt: skip
def _same(b, x, *args, dtype=None, **kwargs):
    target = next((a for a in args if isinstance(a, torch.dtype)), dtype)
    if target is torch.bool:
        return b.binary("ne", x, b.constant(0.0))
    if target is not None and not target.is_floating_point:
        return trunc(b, x) if not target.is_complex else _no_complex(target)
    return x


def _no_complex(dtype):
    raise TraceError(f"complex numbers have no compiled form (a tensor is cast to {dtype}).", op="to",
                     fix="keep real and imaginary parts as two real tensors")  # fmt: skip
