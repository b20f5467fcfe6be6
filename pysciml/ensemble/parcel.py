"""What crosses to another process, as bytes: anything that cloudpickle takes, with the tensors apart.

cloudpickle writes functions and classes of notebooks and scripts as they are. Their tensors (module parameters, what a
closure or a global holds, u0, times) are taken out on the way and sent beside them, so that this side knows which ones
crossed and the other side can make leaves of those that require grad.
"""

from __future__ import annotations

import contextlib
import functools
import io
import pickle
import sys
import types
from collections.abc import Iterator
from typing import Any

import cloudpickle
import torch

from pysciml.errors import UnsupportedError

_OURS = ("torch", "pysciml", "builtins", "functools", "__main__")  # `__main__` crosses as it is anyway
_DEEPEST = 6


def pack(value: Any, root: Any) -> tuple[bytes, list[torch.Tensor]]:
    """`value` as bytes, and the tensors in it, each once.

    Args:
        root: the right-hand side: what its own modules define crosses as it is here, whether or not they can be
            imported there.

    Raises:
        UnsupportedError: something in it cannot be pickled: says which part, by the name the user gave it.
    """
    with _by_value(root):
        try:
            text, tensors = _written(value)
        except Exception as error:  # a part's own __reduce__ may raise anything
            raise _refusal(value, error) from error
    # Clones, as a view would take all that it looks at along.
    contents = [(x.detach().clone(), x.requires_grad, isinstance(x, torch.nn.Parameter)) for x in tensors]
    return pickle.dumps((contents, text)), tensors


def unpack(parcel: bytes) -> tuple[Any, list[torch.Tensor]]:
    """What `pack` was given, and its tensors, which are leaves now."""
    contents, text = pickle.loads(parcel)  # noqa: S301 - from our own process
    tensors = [torch.nn.Parameter(x, needs) if is_parameter else x.requires_grad_(needs)
               for x, needs, is_parameter in contents]  # fmt: skip
    return _Reader(text, tensors).load(), tensors


class _Writer(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO):
        super().__init__(file)
        self.tensors: list[torch.Tensor] = []
        self._places: dict[int, int] = {}

    def persistent_id(self, x: Any) -> int | None:
        if not isinstance(x, torch.Tensor):
            return None
        if id(x) not in self._places:
            self._places[id(x)] = len(self.tensors)
            self.tensors.append(x)
        return self._places[id(x)]


class _Reader(pickle.Unpickler):
    def __init__(self, text: bytes, tensors: list[torch.Tensor]):
        super().__init__(io.BytesIO(text))
        self._tensors = tensors

    def persistent_load(self, place: int) -> torch.Tensor:
        return self._tensors[place]


def _written(value: Any) -> tuple[bytes, list[torch.Tensor]]:
    file = io.BytesIO()
    writer = _Writer(file)
    writer.dump(value)
    return file.getvalue(), writer.tensors


@contextlib.contextmanager
def _by_value(root: Any) -> Iterator[None]:
    """cloudpickle writes what the modules of `root` define, instead of where it is found."""
    known = cloudpickle.list_registry_pickle_by_value()
    modules = [sys.modules[name] for name in _homes(root) if name in sys.modules and name not in known]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _homes(f: Any) -> set[str]:
    """The modules in which f and the parts of it are defined, those of torch and pysciml left out."""
    parts = [f, *(f.modules() if isinstance(f, torch.nn.Module) else ())]
    if isinstance(f, functools.partial):
        parts.append(f.func)
    parts += [hole.module for hole in getattr(f, "holes", {}).values()]
    names = {getattr(x, "__module__", None) or type(x).__module__ for x in parts}
    return {name for name in names if name.split(".")[0] not in _OURS}


def _refusal(value: Any, error: Exception) -> UnsupportedError:
    name, thing = _culprit(value, "", 0)
    return UnsupportedError(
        f"{name or 'the problem'} cannot be sent to another process: it cannot be pickled.",
        got=f"{type(thing).__name__}; {type(error).__name__}: {error}",
        expected="tensors, modules, functions and plain Python values",
        fix="make it inside f, or give it a __getstate__ that leaves it out; "
        'or stay in this process: pysciml.solve_ensemble(ensemble, executor="serial")',
    )  # fmt: skip


def _culprit(value: Any, name: str, depth: int) -> tuple[str, Any]:
    """The innermost part that cannot be written, by its name."""
    parts = _parts(value) if depth < _DEEPEST else iter(())
    bad = next(((part_name, part) for part_name, part in parts if not _crosses(part)), None)
    if bad is None:
        return name, value
    return _culprit(bad[1], f"{name}, {bad[0]}" if name else bad[0], depth + 1)


def _crosses(value: Any) -> bool:
    try:
        _written(value)
    except Exception:
        return False
    return True


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"`{key}`", x) for key, x in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"item {i}", x) for i, x in enumerate(value))
    elif isinstance(value, types.FunctionType):
        names = [name for name in value.__code__.co_names if name in value.__globals__]
        yield from ((f"the global `{name}`", value.__globals__[name]) for name in names)
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        yield from ((f"the captured variable `{name}`", cell.cell_contents) for name, cell in cells)
    elif isinstance(value, functools.partial):
        yield from (("its function", value.func), ("its arguments", value.args), ("its keywords", value.keywords))
    elif isinstance(value, types.MethodType):
        yield from (("its object", value.__self__), ("its function", value.__func__))
    else:
        yield from ((f"the attribute `{name}`", x) for name, x in getattr(value, "__dict__", {}).items())
