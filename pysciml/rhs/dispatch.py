"""torch calls to Graph nodes: everything that reaches ATen inside `tracing(...)` is written down.

This sits where `make_fx` sits (below autograd and torch.func, so a vjp arrives as the operations that compute it), but
writes Graph nodes at once. It is used in place of make_fx because that imports torch's compiler stack first: seconds,
before anything is traced.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pysciml.errors import TraceError
from pysciml.rhs import aten
from pysciml.rhs.graph import Builder, Node
from pysciml.rhs.record import user_location

_EXTRA_DECOMPOSITIONS = (
    "gelu", "silu", "mish", "hardswish", "hardsigmoid", "hardtanh", "leaky_relu", "elu", "celu", "softplus", "softshrink",
    "hardshrink", "log_sigmoid_forward", "_softmax", "_log_softmax", "_softmax_backward_data",
    "_log_softmax_backward_data", "native_layer_norm", "native_layer_norm_backward", "native_group_norm",
    "native_group_norm_backward", "_native_batch_norm_legit_no_training", "native_batch_norm", "native_batch_norm_backward",
    "gelu_backward", "silu_backward", "mish_backward", "elu_backward", "hardswish_backward", "linalg_vector_norm",
    "glu", "glu_backward", "threshold", "threshold_backward", "celu", "selu", "addcmul", "addcdiv", "lerp", "std",
    "var_mean", "std_mean", "sinc", "hypot", "logaddexp", "logaddexp2", "logsumexp", "xlogy", "sgn", "frac", "heaviside",
    "nan_to_num", "logcumsumexp", "trace", "tril", "triu", "huber_loss", "smooth_l1_loss", "mse_loss", "norm",
    "rot90", "dist", "cumprod", "special_erfcx", "special_log_ndtr", "reflection_pad1d", "reflection_pad2d",
    "replication_pad1d", "replication_pad2d", "_unsafe_index", "upsample_nearest1d", "upsample_nearest2d",
    "upsample_bilinear2d", "pixel_shuffle", "grid_sampler_2d", "index_add", "index_copy", "prelu", "_prelu_kernel",
    "_prelu_kernel_backward", "rrelu_with_noise", "softshrink_backward", "hardtanh_backward", "leaky_relu_backward",
    "log_sigmoid_backward", "sigmoid_backward", "tanh_backward", "softplus_backward", "select_backward",
    "slice_backward", "diagonal_backward", "unfold_backward", "embedding_dense_backward", "_weight_norm_interface",
    "_weight_norm_interface_backward", "addr", "ger", "lift", "aminmax", "isposinf", "isneginf",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "_reshape_copy", "log_softmax", "softmax", "special_entr",
)  # fmt: skip


@cache
def decompositions() -> dict[Any, Callable]:
    """torch's own rewriting of operations into smaller ones, for those without a rule of ours."""
    from torch._decomp import core_aten_decompositions, get_decompositions

    packets = [getattr(torch.ops.aten, n) for n in _EXTRA_DECOMPOSITIONS if hasattr(torch.ops.aten, n)]
    table = {**core_aten_decompositions(), **get_decompositions(packets)}
    return {op: rewrite for op, rewrite in table.items() if _name(op) not in aten.RULES}


def _name(op: Any) -> str:
    return op._schema.name.split("::")[-1] if hasattr(op, "_schema") else str(op)


class GraphTracer(TorchDispatchMode):
    """Maps the tensors that pass by to nodes, and lets torch compute the example values beside them."""

    def __init__(self, builder: Builder):
        super().__init__()
        self.builder = builder
        self._nodes: dict[int, Node | None] = {}  # None: overwritten through another view of the same storage
        self._kept: list[torch.Tensor] = []  # an id stays unique only while its tensor lives

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch wraps __torch_dispatch__ so that its first call imports torch._dynamo: seconds

    def bind(self, x: torch.Tensor, node: Node) -> None:
        if node.shape != tuple(x.shape):
            raise TraceError(f"a compiled form has shape {node.shape} where torch has {tuple(x.shape)}.",
                             fix="please report this as a bug, with the right-hand side")  # fmt: skip
        self._nodes[id(x)] = node
        self._kept.append(x)

    def node(self, x: torch.Tensor) -> Node:
        """The node of a tensor; one never seen before is a constant."""
        if id(x) not in self._nodes:
            self.bind(x, self.builder.constant(x.detach().cpu().numpy()))
        node = self._nodes[id(x)]
        if node is None:
            raise TraceError("a tensor is read after it was changed through another view of it.",
                             fix="build the result with torch.stack or torch.cat instead")  # fmt: skip
        return node

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        if not any(id(x) in self._nodes for x in tensors):
            return func(*args, **kwargs)
        out = self._rewritten(func, args, kwargs)
        if out is not NotImplemented:
            return out
        out = func(*args, **kwargs)
        self._write(func, args, kwargs, out)
        return out

    def _rewritten(self, func: Any, args: tuple, kwargs: dict) -> Any:
        with self:
            if func in decompositions():
                return decompositions()[func](*args, **kwargs)
            return NotImplemented if _name(func) in aten.RULES else func.decompose(*args, **kwargs)

    def _write(self, func: Any, args: tuple, kwargs: dict, out: Any) -> None:
        name = _name(func)
        in_place = func._schema.is_mutable
        name = name.removesuffix("_") if in_place else name
        if name not in aten.RULES or (in_place and not _name(func).endswith("_")):
            self._no_rule(func)
        args, kwargs = pytree.tree_map_only(torch.Tensor, self.node, (args, kwargs))
        try:
            result = aten.RULES[name](self.builder, *args, **kwargs)
        except TraceError as error:
            location, source = user_location()
            raise TraceError(error.what, op=error.op, location=location, source=source, fix=error.fix) from None
        if in_place:
            self._mark_overwritten(out)
        for x, node in zip(pytree.tree_leaves(out), result if isinstance(result, (list, tuple)) else [result], strict=True):
            self.bind(x, node)

    def _mark_overwritten(self, x: torch.Tensor) -> None:
        storage = x.untyped_storage()._cdata
        for other in self._kept:
            if other is not x and other.untyped_storage()._cdata == storage and id(other) in self._nodes:
                self._nodes[id(other)] = None

    def _no_rule(self, func: Any) -> None:
        location, source = user_location()
        value = _name(func) == "_local_scalar_dense"
        raise TraceError(
            "the value of a tensor is needed while tracing." if value else f"`{func}` has no compiled form.",
            op=str(func), location=location, source=source,
            fix="choose with torch.where instead of `if`" if value else
                "write this step with other torch operations, or solve it with eager torch: "
                'pysciml.solve(prob, pysciml.DP5(), route="callback")',
        )  # fmt: skip


def trace_calls(function: Callable[..., Sequence[torch.Tensor]], inputs: Sequence[tuple[torch.Tensor, Node]],
                builder: Builder) -> list[Node]:  # fmt: skip
    """The nodes of what `function` returns for example tensors that stand for the given nodes."""
    tracer = GraphTracer(builder)
    for x, node in inputs:
        tracer.bind(x, node)
    with torch.no_grad(), tracer:
        outputs = torch.func.functionalize(function)(*(x for x, _ in inputs))
    return [tracer.node(x) for x in outputs]
