"""torch calls to Graph nodes: everything that reaches ATen inside `tracing(...)` is written down.

This sits where `make_fx` sits (below autograd and torch.func, so a vjp arrives as the operations that compute it), but
writes Graph nodes at once. It is used in place of make_fx because that imports torch's compiler stack first: seconds,
before anything is traced.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pysciml.errors import TraceError
from pysciml.rhs import aten
from pysciml.rhs.aten.common import Mask
from pysciml.rhs.aten.indexing import overwrite
from pysciml.rhs.decompositions import DECOMPOSITIONS
from pysciml.rhs.graph import Builder, Node
from pysciml.rhs.record import located, user_location

_EXTRA_DECOMPOSITIONS = (
    "gelu", "silu", "mish", "hardswish", "hardsigmoid", "hardtanh", "leaky_relu", "elu", "celu", "softplus",
    "softshrink", "hardshrink", "log_sigmoid_forward", "_softmax", "_log_softmax", "_softmax_backward_data",
    "_log_softmax_backward_data", "native_layer_norm", "native_layer_norm_backward", "native_group_norm",
    "native_group_norm_backward", "_native_batch_norm_legit_no_training", "native_batch_norm",
    "native_batch_norm_backward", "gelu_backward", "silu_backward", "mish_backward", "elu_backward",
    "hardswish_backward", "linalg_vector_norm", "glu", "glu_backward", "threshold", "threshold_backward", "celu",
    "selu", "addcmul", "addcdiv", "lerp", "std", "var_mean", "std_mean", "sinc", "hypot", "logaddexp", "logaddexp2",
    "logsumexp", "xlogy", "sgn", "frac", "heaviside", "nan_to_num", "logcumsumexp", "trace", "tril", "triu",
    "huber_loss", "smooth_l1_loss", "mse_loss", "norm", "rot90", "dist", "cumprod", "special_erfcx",
    "special_log_ndtr", "reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d",
    "_unsafe_index", "upsample_nearest1d", "upsample_nearest2d", "upsample_bilinear2d", "pixel_shuffle",
    "grid_sampler_2d", "index_add", "index_copy", "prelu", "_prelu_kernel", "_prelu_kernel_backward",
    "rrelu_with_noise", "softshrink_backward", "hardtanh_backward", "leaky_relu_backward", "log_sigmoid_backward",
    "sigmoid_backward", "tanh_backward", "softplus_backward", "select_backward", "slice_backward",
    "diagonal_backward", "unfold_backward", "embedding_dense_backward", "_weight_norm_interface",
    "_weight_norm_interface_backward", "addr", "ger", "lift", "aminmax", "isposinf", "isneginf",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "_reshape_copy", "log_softmax", "softmax",
    "special_entr",
)  # fmt: skip


@cache
def decompositions() -> dict[Any, Callable]:
    """torch's own rewriting of operations into smaller ones, for those without a rule of ours."""
    from torch._decomp import core_aten_decompositions, get_decompositions

    packets = [getattr(torch.ops.aten, n) for n in _EXTRA_DECOMPOSITIONS if hasattr(torch.ops.aten, n)]
    table = {**core_aten_decompositions(), **get_decompositions(packets)}
    return {op: rewrite for op, rewrite in table.items() if _name(op) not in aten.RULES}


def _own(op: Any) -> Callable | None:
    """Our way to write an operation, or one of its overloads, in simpler ones."""
    if op._schema.is_mutable:
        return None
    return DECOMPOSITIONS.get(f"{_name(op)}.{op._overloadname}") or DECOMPOSITIONS.get(_name(op))


def _name(op: Any) -> str:
    return op._schema.name.split("::")[-1] if hasattr(op, "_schema") else str(op)


class GraphTracer(TorchDispatchMode):
    """Maps the tensors that pass by to nodes, and lets torch compute the example values beside them.

    A tensor that is written in place may share its memory with others. From the first write on, what the memory holds
    is one node, and every tensor in it is a view of that.
    """

    def __init__(self, builder: Builder):
        super().__init__()
        self.builder = builder
        self._nodes: dict[int, Node] = {}
        self._memory: dict[int | None, Node] = {}  # by storage: all of its elements
        self._made: set[int] = set()  # ids of all results, of unknown tensors and constants too
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
        if self._memory and _storage(x) in self._memory:
            return self.builder.view(self._memory[_storage(x)], lambda places: places[_places_in_memory(x)])
        if id(x) not in self._nodes:
            # A meta tensor stands for a shape and has no values: NaN would show if one were used.
            values = np.full(x.shape, np.nan) if x.is_meta else x.detach().cpu().numpy(force=True)
            self.bind(x, self.builder.constant(values))
        return self._nodes[id(x)]

    def _tracked(self, x: torch.Tensor) -> bool:
        return id(x) in self._nodes or bool(self._memory and _storage(x) in self._memory)

    def made(self, x: torch.Tensor) -> bool:
        """Whether x is the result of an operation that passed by: torch.func unwraps such tensors out of our sight."""
        return id(x) in self._made or id(x) in self._nodes

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        out = self._run(func, args, kwargs, tensors)
        for x in pytree.tree_leaves(out):
            if isinstance(x, torch.Tensor) and id(x) not in self._made:
                self._made.add(id(x))
                self._kept.append(x)
        return out

    def _run(self, func: Any, args: tuple, kwargs: dict, tensors: Sequence[torch.Tensor]) -> Any:
        writes = func._schema.is_mutable
        if not any(map(self._tracked, tensors)) and not (writes and self._shares_memory(args[0])):
            return func(*args, **kwargs)
        if writes:
            return self._write_in_place(func, args, kwargs)
        out = self._rewritten(func, args, kwargs)
        if out is not NotImplemented:
            return out
        out = func(*args, **kwargs)
        if not isinstance(out, (torch.Tensor, tuple, list)):
            return out  # a question about shapes
        nodes = self._apply(_name(func), func, args, kwargs)
        for x, node in zip(pytree.tree_leaves(out), nodes, strict=True):
            self.bind(x, node)
        return out

    def _shares_memory(self, x: Any) -> bool:
        return isinstance(x, torch.Tensor) and any(
            id(y) in self._nodes and _storage(y) == _storage(x) for y in self._kept
        )

    def _rewritten(self, func: Any, args: tuple, kwargs: dict) -> Any:
        with self:
            own = _own(func)
            if own is not None:
                return own(*args, **kwargs)
            if func in decompositions():
                return decompositions()[func](*args, **kwargs)
            if _name(func) in aten.RULES or _name(func) in _QUESTIONS:
                return NotImplemented
            return func.decompose(*args, **kwargs)

    def _apply(self, name: str, func: Any, args: tuple, kwargs: dict) -> list[Node]:
        if name not in aten.RULES:
            self._no_rule(func)
        args = _explicit(name, args)
        args, kwargs = pytree.tree_map_only(torch.Tensor, self.node, (args, kwargs))
        args = pytree.tree_map_only(_BooleanIndex, lambda index: Mask(self.node(index.x)), args)
        try:
            result = aten.RULES[name](self.builder, *args, **kwargs)
        except TraceError as error:
            raise located(error, user_location()) from None
        return list(result) if isinstance(result, (list, tuple)) else [result]

    def _write_in_place(self, func: Any, args: tuple, kwargs: dict) -> torch.Tensor:
        name, target = _name(func), args[0]
        if not name.endswith("_"):
            self._no_rule(func)
        if torch.Tag.inplace_view in func.tags:  # t_, squeeze_, ...: the same memory seen otherwise
            nodes = [] if _storage(target) in self._memory else self._value_of_write(name[:-1], func, args, kwargs)
            out = func(*args, **kwargs)
            for node in nodes:
                self.bind(target, node)
            return out
        memory = self._memory_of(target)
        (value,) = self._value_of_write(name.removesuffix("_"), func, args, kwargs)
        self._memory[_storage(target)] = overwrite(
            self.builder, memory, value, lambda places: places[_places_in_memory(target)]
        )
        self._kept.append(target)
        return func(*args, **kwargs)

    def _value_of_write(self, name: str, func: Any, args: tuple, kwargs: dict) -> list[Node]:
        """What `x.op_(...)` writes: the value of the operation that does not write."""
        if name in aten.RULES:
            return self._apply(name, func, args, kwargs)
        pure: Any = getattr(getattr(torch.ops.aten, name, None), func._overloadname, None)
        if pure is None:
            self._no_rule(func)
        with self:
            return [self.node(pure(*args, **kwargs))]

    def _memory_of(self, x: torch.Tensor) -> Node:
        """All elements of the storage that x lies in, before it is written for the first time."""
        storage = _storage(x)
        if storage in self._memory:
            return self._memory[storage]
        elements = torch.empty(0, dtype=x.dtype, device=x.device).set_(x.untyped_storage())
        memory = self.builder.constant(elements.cpu().numpy())
        for other in [
            y for y in self._kept if id(y) in self._nodes and not y._is_zerotensor() and _storage(y) == storage
        ]:
            places = _places_in_memory(other)
            memory = overwrite(self.builder, memory, self._nodes[id(other)], operator.itemgetter(places))
        return memory

    def _no_rule(self, func: Any) -> None:
        location, source = user_location()
        value = _name(func) == "_local_scalar_dense"
        raise TraceError(
            "the value of a tensor is needed while tracing." if value else f"`{func}` has no compiled form.",
            op=_name(func),
            location=location,
            source=source,
            fix="choose with torch.where instead of `if`"
            if value
            else "write this step with other torch operations, or " + _CALLBACK,
        )


_QUESTIONS = {"is_same_size", "_has_same_storage_numel", "is_nonzero"}
_CALLBACK = 'solve it with eager torch: pysciml.solve(prob, pysciml.DP5(), route="callback")'


def _storage(x: torch.Tensor) -> int | None:
    return None if x._is_zerotensor() or x.is_meta else x.untyped_storage()._cdata


def _places_in_memory(x: torch.Tensor) -> np.ndarray:
    """Where in its storage each element of x lies."""
    return _storage_places(x).as_strided(x.shape, x.stride(), x.storage_offset()).numpy()


def _storage_places(x: torch.Tensor) -> torch.Tensor:
    return torch.arange(x.untyped_storage().nbytes() // x.element_size())


class _BooleanIndex:
    def __init__(self, x: torch.Tensor):
        self.x = x


def _explicit(name: str, args: tuple) -> tuple:
    """Arguments with what a rule could not see in a Node: that an index is boolean, or how a tensor lies in memory."""
    if name in ("index", "index_put", "_unsafe_index", "_unsafe_index_put"):
        boolean = [_BooleanIndex(k) if k is not None and k.dtype == torch.bool else k for k in args[1]]
        return (args[0], boolean, *args[2:])
    if name == "as_strided":
        return (args[0], _places(*args))
    if name == "as_strided_scatter":
        return (*args[:2], _places(args[0], *args[2:]))
    return args


def _places(x: torch.Tensor, size: Sequence[int], stride: Sequence[int], offset: int | None = None) -> np.ndarray:
    """Which element of x, counted in row-major order, lies at each place of `x.as_strided(size, stride, offset)`."""
    storage = torch.full_like(_storage_places(x), -1)
    storage.as_strided(x.shape, x.stride(), x.storage_offset()).copy_(torch.arange(x.numel()).reshape(x.shape))
    places = storage.as_strided(size, stride, x.storage_offset() if offset is None else offset)
    if (places < 0).any():
        raise TraceError("`as_strided` reads outside of its tensor.", op="as_strided", fix="slice the larger tensor")
    return places.numpy()


def trace_calls(function: Callable[..., Sequence[torch.Tensor]], inputs: Sequence[tuple[torch.Tensor, Node]],
                builder: Builder) -> list[Node]:  # fmt: skip
    """The nodes of what `function` returns for example tensors that stand for the given nodes."""
    tracer = GraphTracer(builder)
    for x, node in inputs:
        tracer.bind(x, node)
    try:
        # vmap warns that it goes slowly over operations without a batching rule: not here, where it only writes down.
        # Fused attention has no derivative in smaller operations, the plain one has.
        with warnings.catch_warnings(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), tracer:
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
            outputs = function(*(x for x, _ in inputs))
    except TraceError:
        raise
    except Exception as error:
        raise _refused_by_torch(error) from error
    return [tracer.node(x) for x in outputs]


def _refused_by_torch(error: Exception) -> TraceError:
    """f itself has run before, so this is about its transformation: an operation without derivative, most likely."""
    if "TorchScript" in str(error):
        return TraceError("a TorchScript function cannot be compiled.", op="torch.jit.script",
                          fix="use the module or function as it was before torch.jit.script")  # fmt: skip
    named = re.search(r"aten::(\w+)", str(error))
    location, source = user_location(error.__traceback__)
    return TraceError(
        "torch cannot differentiate the right-hand side.", op=named[1] if named else type(error).__name__,
        location=location, source=source, got=str(error).partition("\n")[0],
        fix="write this step with other torch operations, or " + _CALLBACK,
    )  # fmt: skip
