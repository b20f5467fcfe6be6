"""Watching a right-hand side run once: what it did, which tensors it reached for, and what it must not do.

Running f costs microseconds, and everything f does with its state passes through torch. So the list of torch calls of
one run, with every argument that is not a tensor, *is* the program: two runs with equal lists compute the same
function. pysciml makes this list before every solve and looks compiled forms up by it. A changed attribute, training
flag, shape, closure or global changes the list, and a stale trace cannot be found.
"""

from __future__ import annotations

import functools
import inspect
import linecache
import os
import sys
from collections.abc import Callable, Container, Iterator, Sequence
from traceback import walk_stack, walk_tb
from types import CodeType, FrameType, TracebackType
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from pysciml.errors import TraceError

_TORCH = os.path.dirname(torch.__file__) + os.sep
_COMPILED = os.path.join(_TORCH, "_dynamo", "eval_frame.py")  # through which a function under torch.compile is called
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

_READS = {
    "item", "__bool__", "__float__", "__int__", "__index__", "__complex__", "tolist", "numpy", "__array__",
    "is_nonzero", "equal", "allclose", "nonzero", "argwhere", "unique", "unique_consecutive", "masked_select",
    "__contains__", "bincount",
}  # fmt: skip
_RANDOM = {
    "rand", "randn", "rand_like", "randn_like", "randint", "randint_like", "randperm", "normal", "bernoulli",
    "multinomial", "poisson", "normal_", "uniform_", "bernoulli_", "exponential_", "random_", "log_normal_", "cauchy_",
    "geometric_", "gumbel_softmax",
}  # fmt: skip
_DROPOUT = {
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "feature_dropout",
    "rrelu",
}  # fmt: skip
_IN_PLACE = {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__", "__imod__", "__ifloordiv__"}
_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
_QUIET = {"requires_grad_", "retain_grad", "__set__"}
# "__get__" is also that of x.shape and its like, but their results are no tensors that f computes with.
_CUTS = {"detach": "detach", "detach_": "detach_", "__get__": "x.data", "embedding": "padding_idx"}
_PLAIN = (bool, int, float, str, complex, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)


class Watch(TorchFunctionMode):
    """Sees every torch call inside f, and knows where each tensor came from."""

    def __init__(self, inputs: Sequence[torch.Tensor]):
        super().__init__()
        self.slots: dict[int, int] = {}
        self.live: set[int] = set()  # ids of tensors whose values are only known while solving
        self._kept: list[torch.Tensor] = []  # an id stays unique only while its tensor lives
        for x in inputs:
            self.know(x, live=True)

    def know(self, x: torch.Tensor, *, live: bool) -> int:
        slot = self.slots.setdefault(id(x), len(self.slots))
        self._kept.append(x)
        if live:
            self.live.add(id(x))
        return slot

    def know_results(self, out: Any, *, live: bool) -> None:
        if isinstance(out, torch.Tensor):
            if id(out) not in self.slots:
                self.know(out, live=live)
        elif isinstance(out, (tuple, list)):
            for x in out:
                self.know_results(x, live=live)
        elif isinstance(out, dict):
            self.know_results(list(out.values()), live=live)

    def any_live(self, x: Any) -> bool:
        if isinstance(x, torch.Tensor):
            return id(x) in self.live
        if isinstance(x, (tuple, list)):
            return any(map(self.any_live, x))
        return isinstance(x, dict) and any(map(self.any_live, x.values()))


class Births(TorchDispatchMode):
    """Notes every tensor that an operation makes, also those that only torch.func's internals see."""

    def __init__(self):
        super().__init__()
        self.ids: set[int] = set()
        self._kept: list[Any] = []  # an id stays unique only while its tensor lives

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as in `dispatch.GraphTracer`

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **kwargs or {})
        made = [x for x in pytree.tree_leaves(out) if isinstance(x, torch.Tensor)]
        self.ids.update(map(id, made))
        self._kept.extend(made)
        return out


class Recorder(Watch):
    """Writes the list of calls, and finds the tensors f captured: module parameters, buffers, closures, globals.

    Attributes:
        log: one hashable entry per call. captured: floating tensors f used beside its arguments, in order of first use.
        constants: integer and boolean tensors it used; their values are part of the log.
        calls: the calls themselves with their results. wrapped: whether f transforms functions with torch.func.
        made: ids of all results, from `Births`, for an f that does.
        cuts: what f did that can make torch's gradient another one than the derivative of its values.
        under_compile: whether something under torch.compile ran.
    """

    def __init__(self, inputs: Sequence[torch.Tensor], made: Container[int] | None = None):
        super().__init__(inputs)
        self.made = made
        self.log: list[Any] = []
        self.captured: list[torch.Tensor] = []
        self.constants: list[torch.Tensor] = []
        self.calls: list[tuple] = []
        self.wrapped = self.under_compile = False
        self.cuts: list[str] = []
        self._storages = {x.untyped_storage().data_ptr(): "the state, the time or a parameter" for x in inputs}

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        entry = (func, self.encode(args), self.encode(kwargs) if kwargs else None)
        live = self.any_live(args) or bool(kwargs and self.any_live(kwargs))
        self._refuse(name, args, kwargs, live)
        self._note_cut(name, args, kwargs, live)
        out = func(*args, **kwargs)
        if isinstance(out, torch.Tensor) and out.is_complex():
            raise _error(f"`{name}` makes complex numbers, which have no compiled form.", name,
                         fix="keep real and imaginary parts as two real tensors")  # fmt: skip
        self.log.append(entry)
        self.calls.append((func, args, kwargs, out))
        self.know_results(out, live=live)
        return out

    def _note_cut(self, name: str, args: tuple, kwargs: dict, live: bool) -> None:
        frames = list(_frames_of_f(sys._getframe(2)))
        self.under_compile = self.under_compile or any(code.co_filename == _COMPILED for code in frames)
        function = next(filter(_is_custom, frames), None)
        if function is not None:
            self.log.append(("function", function))
            self.cuts.append("a torch.autograd.Function")
        elif name == "_set_grad_enabled" and args == (False,):
            self.cuts.append("torch.no_grad")
        elif live and name in _CUTS:
            self.cuts.append(_CUTS[name])

    def encode(self, x: Any) -> Any:
        """A hashable stand-in for an argument: slots for tensors, values for the rest."""
        if isinstance(x, torch.Tensor):
            slot = self.slots.get(id(x))
            return ("tensor", self._capture(x) if slot is None else slot)
        kind = type(x)
        if kind is float and (x == 0 or x != x):
            return (kind, repr(x))  # -0.0 equals 0.0, nan does not equal nan
        if kind is float or kind is int or kind is bool:
            return (kind, x)
        if isinstance(x, _PLAIN):
            return x
        if isinstance(x, (tuple, list)):
            return (kind, *map(self.encode, x))
        if isinstance(x, dict):
            return (kind, *((k, self.encode(v)) for k, v in x.items()))
        if isinstance(x, slice):
            return (slice, self.encode(x.start), self.encode(x.stop), self.encode(x.step))
        if isinstance(x, (np.ndarray, np.generic)):
            return (kind, str(x.dtype), x.shape, x.tobytes())
        return x if x.__hash__ else (kind, id(x))

    def _capture(self, x: torch.Tensor) -> int:
        if _is_wrapped(x):  # made by torch.func inside f, not captured
            inner = torch._C._functorch.get_unwrapped(x)
            self.wrapped = True
            self.log.append(("wrapped", self.encode(inner)))
            return self.know(x, live=True)
        floating = x.dtype in (torch.float32, torch.float64)
        if self.made is not None and id(x) in self.made:  # torch.func took the wrapper off a result
            self.wrapped = True
            self.log.append(("unwrapped", tuple(x.shape), x.dtype))
            return self.know(x, live=floating)
        slot = self.know(x, live=floating)
        self._storages.setdefault(x.untyped_storage().data_ptr(), "a captured tensor")
        if floating:
            self.captured.append(x)
            self.log.append(("captured", tuple(x.shape), x.dtype, x.device, x.requires_grad, slot))
        elif x.dtype.is_complex or x.dtype.is_floating_point:
            raise _error(f"a captured tensor is {x.dtype}.", str(x.dtype), fix="use float32 or float64 tensors")
        else:
            self.constants.append(x)
            values = x.detach().cpu().contiguous().numpy()
            self.log.append(("constant", tuple(x.shape), x.dtype, values.tobytes(), slot))
        return slot

    def _refuse(self, name: str, args: tuple, kwargs: dict, live: bool) -> None:
        if name in _QUIET:
            return
        if live and name in _READS:
            raise _error(
                f"`{name}` needs the value of a tensor that is only known while solving.", name,
                fix="choose with torch.where(condition, a, b) instead of `if`; keep tensors instead of Python numbers",
            )  # fmt: skip
        if name in _RANDOM or (name in _DROPOUT and _training(name, args, kwargs)):
            why = "is in training mode and random" if name in _DROPOUT else "draws random numbers"
            raise _error(f"`{name}` {why}; an ODE's right-hand side must be a function.", name,
                         fix="model.eval(), or draw the numbers before the solve and capture the tensor")  # fmt: skip
        if name in ("batch_norm", "instance_norm") and _training(name, args, kwargs):
            _refuse_in_training(name)
        if name == "grad" and live and not _any_wrapped(args):
            raise _error("torch.autograd.grad inside a right-hand side cannot be compiled.", "torch.autograd.grad",
                         fix="torch.func.grad(energy)(u), which can")  # fmt: skip
        if name == "backward" and live:
            raise _error("`backward` inside a right-hand side cannot be compiled.", name,
                         fix="torch.func.grad(energy)(u), which can")  # fmt: skip
        if kwargs.get("inplace"):
            self._refuse_in_place(name, args[0] if args else kwargs.get("input"))
        if name in _IN_PLACE or (name.endswith("_") and not name.endswith("__")) or kwargs.get("out") is not None:
            self._refuse_in_place(name, kwargs.get("out", args[0] if args else None))

    def _refuse_in_place(self, name: str, target: Any) -> None:
        for x in target if isinstance(target, (tuple, list)) else (target,):
            if isinstance(x, torch.Tensor) and not _is_wrapped(x):
                owner = self._storages.get(x.untyped_storage().data_ptr())
                if owner and x.numel():
                    if sys._getframe(3).f_code.co_filename.endswith("batchnorm.py"):
                        _refuse_in_training("batch_norm")
                    raise _error(f"`{name}` changes {owner} in place.", name,
                                 fix="x = x + 1 instead of x += 1, or work on u.clone()")  # fmt: skip


def _refuse_in_training(name: str) -> None:
    raise _error(f"`{name}` in training mode changes its running statistics at every step of the solver.", name,
                 fix="model.eval(), or use torch.nn.LayerNorm")  # fmt: skip


def _any_wrapped(args: Any) -> bool:
    """Whether torch.func made any of these: it differentiates by torch.autograd.grad itself."""
    return any(isinstance(x, torch.Tensor) and _is_wrapped(x) for x in pytree.tree_leaves(args))


def _training(name: str, args: tuple, kwargs: dict) -> bool:
    if name == "instance_norm":
        return (args[1] if len(args) > 1 else kwargs.get("running_mean")) is not None and bool(
            args[5] if len(args) > 5 else kwargs.get("use_input_stats", True)
        )
    place, default = {"batch_norm": (5, False), "rrelu": (3, False)}.get(name, (2, name in _DROPOUT))
    probability = 1.0 if name in ("batch_norm", "rrelu") else (args[1] if len(args) > 1 else kwargs.get("p", 0.5))
    return bool(args[place] if len(args) > place else kwargs.get("training", default)) and probability != 0.0


def _frames_of_f(frame: FrameType | None) -> Iterator[CodeType]:
    """The code of every frame from `frame` up to where f was called."""
    while frame is not None and not (frame.f_code.co_name == "apply" and frame.f_code.co_filename.startswith(_OURS)):
        yield frame.f_code
        frame = frame.f_back


def _is_custom(code: CodeType) -> bool:
    """Whether it is the `forward` of a torch.autograd.Function."""
    return (
        code.co_name == "forward" and code.co_varnames[:1] != ("self",) and code in _forwards(torch.autograd.Function)
    )


def _forwards(base: type) -> set[CodeType]:
    kinds: list[Any] = base.__subclasses__()
    found: list[Any] = [getattr(vars(kind).get("forward"), "__func__", None) for kind in kinds]
    codes = {f.__code__ for f in found if hasattr(f, "__code__")}
    return codes.union(*map(_forwards, kinds))


def _error(what: str, op: str, **parts: Any) -> TraceError:
    location, source = user_location()
    return TraceError(what, op=op, location=location, source=source, **parts)


def user_location(traceback: TracebackType | None = None) -> tuple[str | None, str | None]:
    """`file:line` and the text of the innermost line of f that is neither torch's nor ours; nothing outside of f."""
    frames = reversed(list(walk_tb(traceback))) if traceback else walk_stack(sys._getframe(1))
    for frame, line in frames:
        path = frame.f_code.co_filename
        if path.startswith(_OURS) and frame.f_code.co_name in ("apply", "trace_calls"):
            break
        if not path.startswith((_TORCH, _OURS, "<frozen")):
            return _line(path, line)
    return None, None


def definition(f: Callable) -> tuple[str | None, str | None]:
    """`file:line` and the text of where f is defined."""
    while isinstance(f, functools.partial):
        f = f.func
    function = inspect.unwrap(type(f).forward if isinstance(f, torch.nn.Module) else f)
    code = getattr(function, "__code__", None) or getattr(getattr(type(f), "__call__", None), "__code__", None)  # noqa: B004 - its code, not whether
    return (None, None) if code is None else _line(code.co_filename, code.co_firstlineno)


def located(error: TraceError, where: tuple[str | None, str | None]) -> TraceError:
    """The same error with a place in the user's code, unless it has one."""
    if error.location is not None:
        return error
    return TraceError(error.what, op=error.op, location=where[0], source=where[1], got=error.got,
                      expected=error.expected, fix=error.fix)  # fmt: skip


def _line(path: str, line: int) -> tuple[str, str | None]:
    return f"{path}:{line}", linecache.getline(path, line).strip() or None
