"""What a right-hand side can read besides its arguments, found in its code: while that is the same, so is the program.

To run f once more (`replay.py`) shows whether it still does what it did, at microseconds an operation. Most functions
can be told by their looks: their code names what it reads, and if each of these is the very object that it was, nothing
can have changed. That holds for the few kinds of objects that are listed here. Whatever else f can reach, or code that
could read what it does not name, leaves f to be run again.
"""

from __future__ import annotations

import builtins
import dis
import math
import types
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import is_
from typing import Any

import torch
from torch.nn.modules import module as torch_module

from pysciml.rhs.captured import content
from pysciml.rhs.notes import Notes, owner_of, without_notes

_MISSING = object()
_FROZEN = (int, float, complex, bool, str, bytes, type(None), type(...), range, torch.dtype, torch.device, torch.layout,
           torch.memory_format, torch.Size)  # fmt: skip
_BUILTINS = frozenset("abs all any bool complex dict enumerate float int isinstance len list map max min pow range "
                      "reversed round slice sorted sum tuple zip".split())  # fmt: skip
_TYPES = (*(getattr(builtins, name) for name in _BUILTINS if isinstance(getattr(builtins, name), type)), torch.Tensor)
# Of the instructions that fetch and store, those whose object is on the stack, a local, or named.
_FETCH = ("LOAD_CONST", "LOAD_FAST", "LOAD_DEREF", "LOAD_CLOSURE", "LOAD_GLOBAL", "LOAD_ATTR", "LOAD_METHOD",
          "LOAD_SMALL_INT", "LOAD_ASSERTION_ERROR", "LOAD_COMMON_CONSTANT")  # fmt: skip
_STORE = ("STORE_FAST", "STORE_SUBSCR", "STORE_SLICE", "STORE_DEREF", "DELETE_FAST", "DELETE_SUBSCR", "MAKE_CELL")
_NEVER = ("IMPORT", "WITH", "ASYNC", "AWAIT", "YIELD_FROM", "SEND", "MATCH_CLASS", "BUILD_CLASS")
_CHANGING = frozenset({"grad", "_grad", "grad_fn", "_version", "data"})  # of a tensor that is the same
_OF_THE_STATE = ("is_", "get_", "are_")  # how torch names functions that tell what is switched on
_MOST = 1000  # things in a list or dict, which are looked at one by one
# What a module keeps for itself: what must be empty, or it does more than its `forward`, and what no call looks at.
_HOOKS = ("_backward_pre_hooks", "_backward_hooks", "_forward_hooks", "_forward_hooks_with_kwargs",
          "_forward_hooks_always_called", "_forward_pre_hooks", "_forward_pre_hooks_with_kwargs")  # fmt: skip
_ASIDE = ("_non_persistent_buffers_set", "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
          "_load_state_dict_post_hooks", "_compiled_call_impl", "_is_full_backward_hook")  # fmt: skip
_GLOBAL_HOOKS = [x for name, x in vars(torch_module).items() if name.startswith("_global_") and isinstance(x, dict)]
_BY_PYTHON = 1 << 9  # a type's flag: it was made by a class statement
# Methods by these names run only when an object is made, shown or copied.
_ASLEEP = frozenset("__init__ __new__ __post_init__ __init_subclass__ __repr__ __str__ __format__ __hash__ __reduce__ "
                    "__reduce_ex__ __getstate__ __setstate__ __copy__ __deepcopy__ __replace__ __setattr__ __delattr__ "
                    "__del__ __class_getitem__ __annotate__ __annotate_func__ __eq__".split())  # fmt: skip
_OF_VALUES = (torch.Tensor, float, list, tuple, dict, str, torch.Size)  # what f's arguments and results are


class _UnknownError(Exception):
    """f can reach what is not known to stay as it is."""


class Form:
    """What a program is compiled for of its tensors: all but the values of captured ones, and constants' values."""

    def __init__(self, captured: Sequence[torch.Tensor], constants: Sequence[torch.Tensor]) -> None:
        self._captured, self._facts = captured, _facts(captured)
        self._constants, self._values = constants, [x.detach().clone() for x in constants]

    def holds(self) -> bool:
        """Whether it is still so."""
        return self._facts == _facts(self._captured) and all(map(torch.equal, self._constants, self._values))


def _facts(tensors: Sequence[torch.Tensor]) -> list[tuple]:
    return [(x.shape, x.dtype, x.device, x.requires_grad) for x in tensors]


class Reads:
    """All that a callable can read, as it is now. `of` finds it, `unchanged` says whether it is still so.

    It holds what it found. What belongs to the owner of f, which keeps it (`Notes`), is asked of the owner each time:
    else an owner that is no longer used would stay until the garbage collector comes.
    """

    def __init__(self, form: Form, owner: Any) -> None:
        self.form = form
        self.kind, self.made_of = type(owner), _made_of(owner)
        self.own: tuple[list, list] | None = None  # the keys and values of the owner's `__dict__`, if all of it counts
        self.functions: list[tuple] = []  # each with what it is made of
        self.cells: list[tuple[Any, Any]] = []
        self.entries: list[tuple[Mapping | None, str, Any]] = []  # a name in a namespace (None: the owner's)
        self.tables: list[tuple[dict, list, list]] = []  # dicts with all their keys and values
        self.lists: list[tuple[list, list]] = []
        self.objects: list[Any] = []
        self.classes: list[type] = []  # of these objects
        self.empty: dict[int, dict] = {}  # by their ids
        self.dtype = torch.get_default_dtype()

    @classmethod
    def of(
        cls, f: Callable, arguments: Sequence[Any] = (), captured: Sequence[torch.Tensor] = (),
        constants: Sequence[torch.Tensor] = (), beside: Sequence[types.MethodType] = (),
    ) -> Reads | None:  # fmt: skip
        """Those of f, or None where they cannot be told.

        Args:
            beside: other methods of the object whose method f is, whose reads are to be among these.
            arguments: what f is called with, such as the state and p: containers of Python's that hold tensors.
            captured, constants: tensors that f is known to use, and those whose values count.
        """
        if not all(map(_is_plain, arguments)) or torch._C._len_torch_function_stack():
            return None
        owner = owner_of(f)
        search = _Search(Reads(Form(captured, constants), owner), owner)
        try:
            search.run(f, *beside)
        except _UnknownError:
            return None
        return search.found

    def unchanged(self, f: Callable) -> bool:
        """Whether f, called now, reads what it would have read then. Tensors count as the same with other values.

        Args:
            f: the callable that it is of; of a method any object with the same owner and function.
        """
        owner = owner_of(f)
        own = owner.__dict__
        if type(owner) is not self.kind or not _same_parts(_made_of(owner), self.made_of):
            return False
        if self.own is not None and not _same_table(*without_notes(own), *self.own):
            return False
        for g, made_of in self.functions:
            if not _same_parts(_made_of(g), made_of):
                return False
        for space, name, value in self.entries:
            if (own if space is None else space).get(name, _MISSING) is not value:
                return False
        for table, keys, values in self.tables:
            if len(table) != len(keys) or list(table) != keys or not all(map(is_, table.values(), values)):
                return False
        return (
            all(map(is_, map(type, self.objects), self.classes))
            and not any(self.empty.values())
            and all(content(cell, _MISSING) is value for cell, value in self.cells)
            and all(len(x) == len(then) and all(map(is_, x, then)) for x, then in self.lists)
            and self.form.holds()
            and torch.get_default_dtype() is self.dtype
            and not torch._C._len_torch_function_stack()
        )


def _is_plain(tree: Any) -> bool:
    if type(tree) in (list, tuple):
        return all(map(_is_plain, tree))
    if type(tree) in (dict, OrderedDict):
        return all(map(_is_plain, tree.values()))
    return tree is None or isinstance(tree, torch.Tensor)


def _made_of(f: Any) -> tuple:
    return (f.__code__, f.__defaults__, f.__kwdefaults__) if isinstance(f, types.FunctionType) else ()


def _same_parts(a: tuple, b: tuple) -> bool:
    return len(a) == len(b) and all(map(is_, a, b))


def _same_table(keys: list, values: list, then_keys: list, then_values: list) -> bool:
    return keys == then_keys and all(map(is_, values, then_values))


class _Search:
    """Follows code and objects from one to the next until there is nothing new."""

    def __init__(self, found: Reads, owner: Any) -> None:
        self.found, self._owner = found, owner
        self._own = getattr(owner, "__dict__", None)
        self._seen: dict[int, Any] = {}
        self._names: dict[str, bool] = {}  # the attributes that any code asks for, and whether it is known of what
        self._named: list[Any] = []  # objects that have attributes by name
        self._entries: set[tuple[int, str]] = set()
        self._spaces: dict[type, Mapping] = {}  # of classes, whose `__dict__` is another object each time
        self._compares = self._has_equality = False

    def run(self, *functions: Callable) -> None:
        for f in functions:
            if not isinstance(f, (types.FunctionType, types.MethodType, torch.nn.Module)):
                raise _UnknownError
            self.reach(f)
        done: set[tuple[int, str]] = set()
        while new := [(x, n) for x in self._named for n in self._names if (id(x), n) not in done]:
            for x, name in new:
                done.add((id(x), name))
                self.attribute(x, name)
        if (self._compares and self._has_equality) or not all(self._names.values()):
            raise _UnknownError

    def reach(self, x: Any) -> None:
        kind = type(x)
        if kind in _FROZEN or kind is Notes or id(x) in self._seen:
            return
        self._seen[id(x)] = x
        if kind is torch.Tensor or kind is torch.nn.Parameter:
            self.has_nothing(x.__dict__)
        else:
            next((follow for known, follow in _FOLLOW if isinstance(x, known)), _Search.plain_object)(self, x)

    def function(self, f: types.FunctionType) -> None:
        inside = f.__globals__.get("__name__", "")
        if _is_torchs(inside) and not f.__closure__ and not f.__dict__:
            return  # torch's own, with nothing of the user's in it
        if f is not self._owner:
            self.found.functions.append((f, _made_of(f)))
        self.sequence(f.__defaults__ or ())
        if f.__kwdefaults__:
            self.table(f.__kwdefaults__)
        self.table(f.__dict__)
        for cell in f.__closure__ or ():
            value = content(cell, _MISSING)
            self.found.cells.append((cell, value))
            if value is not _MISSING:
                self.reach(value)
        self.code(f.__code__, f.__globals__)

    def method(self, method: types.MethodType) -> None:
        self.reach(method.__self__)
        self.reach(method.__func__)

    def code(self, code: types.CodeType, space: dict[str, Any]) -> None:
        for step in dis.get_instructions(code):
            self.instruction(step.opname, step.argval, code, space)
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self.code(constant, space)

    def instruction(self, name: str, value: Any, code: types.CodeType, space: dict[str, Any]) -> None:
        if name.startswith("LOAD_") and not name.startswith(_FETCH):
            raise _UnknownError
        if name.startswith(("STORE_", "DELETE_")) and not name.startswith(_STORE):
            raise _UnknownError
        if any(word in name for word in _NEVER) or (name == "STORE_DEREF" and value in code.co_freevars):
            raise _UnknownError
        if name.startswith(("COMPARE_OP", "CONTAINS_OP")):
            self._compares = True
        if name == "LOAD_GLOBAL":
            if not self.entry(space, value) and value not in _BUILTINS:
                raise _UnknownError
        elif name in ("LOAD_ATTR", "LOAD_METHOD"):
            if value in _CHANGING or value.startswith("__"):
                raise _UnknownError
            self._names.setdefault(value, any(hasattr(kind, value) for kind in _OF_VALUES))

    def entry(self, space: Mapping, name: str, get: Callable[[Any], Any] = lambda x: x) -> bool:
        """Follows what a name stands for in a namespace; whether it is there."""
        value = space.get(name, _MISSING)
        if (id(space), name) not in self._entries:
            self._entries.add((id(space), name))
            self.found.entries.append((None if space is self._own else space, name, value))
        if value is _MISSING:
            return False
        self.reach(get(value))
        return True

    def of_classes(self, classes: Iterable[type], name: str) -> bool:
        """`entry` for each of them; whether it is in one."""
        spaces = [self._spaces.setdefault(cls, cls.__dict__) for cls in classes]
        there = [self.entry(space, name, _function_of) for space in spaces]
        return any(there)

    def has_nothing(self, x: dict) -> None:
        if x:
            raise _UnknownError
        self.found.empty[id(x)] = x

    def library(self, module: types.ModuleType) -> None:
        if type(module) is not types.ModuleType:
            raise _UnknownError
        if not _is_torchs(module.__name__) and "__getattr__" in module.__dict__:
            raise _UnknownError
        self._named.append(module)

    def builtin(self, f: Any) -> None:
        owner, name = getattr(f, "__self__", None), f.__name__
        home = owner.__name__ if isinstance(owner, types.ModuleType) else None
        if f is getattr(torch, name, None) or f is getattr(math, name, None) or (home and _is_torchs(home)):
            return
        if home == "builtins" and name in _BUILTINS:
            return
        raise _UnknownError

    def kind(self, cls: type) -> None:
        if cls not in _TYPES:
            raise _UnknownError

    def sequence(self, x: list | tuple) -> None:
        if type(x) not in (list, tuple) or len(x) > _MOST:
            raise _UnknownError
        if type(x) is list:
            self.found.lists.append((x, list(x)))
        for item in x:
            self.reach(item)

    def table(self, x: dict, aside: Sequence[str] = ()) -> None:
        """A dict with all that is in it, but for what belongs to names that are put aside."""
        if type(x) not in (dict, OrderedDict) or len(x) > _MOST or not all(type(key) in _FROZEN for key in x):
            raise _UnknownError
        if x is self._own:
            self.found.own = without_notes(x)
        elif not x:
            self.has_nothing(x)
        else:
            self.found.tables.append((x, list(x), list(x.values())))
        for key, value in x.items():
            if key not in aside:
                self.reach(value)

    def module(self, module: torch.nn.Module) -> None:
        """Calls of a module run code that is not looked at, so all that it holds counts."""
        self.of_class(module, torch.nn.Module)
        held = module.__dict__
        if held.get("_compiled_call_impl") is not None:
            raise _UnknownError
        if type(module).__module__.startswith(_LAYERS) and not all(map(_is_inert, held.values())):
            raise _UnknownError
        self.table(held, (*_HOOKS, *_ASIDE))
        for hooks in (*(held[name] for name in _HOOKS), *_GLOBAL_HOOKS):
            self.has_nothing(hooks)
        self._names["forward"] = True

    def plain_object(self, x: Any) -> None:
        """An object with attributes and methods, and nothing in its class that makes them up."""
        if type(type(x)) is not type or not isinstance(getattr(x, "__dict__", None), dict):
            raise _UnknownError
        self.of_class(x, object)

    def of_class(self, x: Any, base: type) -> None:
        """An object whose classes, `base` and what that comes from apart, are written in Python."""
        cls = type(x)
        if x is not self._owner:
            self.found.objects.append(x)
            self.found.classes.append(cls)
        for owner in _own_classes(cls, base):
            made_up = {"__getattr__", "__getattribute__", "__slots__"} & owner.__dict__.keys()
            if not owner.__flags__ & _BY_PYTHON or made_up or (base is not object and "__call__" in owner.__dict__):
                raise _UnknownError
            self._has_equality |= "__eq__" in owner.__dict__
            for name, value in list(owner.__dict__.items()):
                if name.startswith("__"):
                    asked = name not in _ASLEEP and callable(value)
                else:  # the code of torch's layers, which is not looked at, may ask for it
                    asked = base is not object and (_is_layer(cls) or hasattr(base, name))
                if asked:
                    self.of_classes([owner], name)
        self._named.append(x)

    def attribute(self, x: Any, name: str) -> None:
        """Follows what a name stands for, if it is one of the object's."""
        if isinstance(x, types.ModuleType):
            there = self.entry(x.__dict__, name)
            of_state = name.startswith(_OF_THE_STATE) and not hasattr(torch.Tensor, name)
            if there and of_state and _is_torchs(x.__name__):
                raise _UnknownError
        elif isinstance(x, torch.nn.Module):  # all that it holds is followed anyway
            there = hasattr(x, name)
            self.of_classes(_own_classes(type(x), torch.nn.Module), name)
        else:
            there = self.entry(x.__dict__, name) | self.of_classes(_own_classes(type(x), object), name)
        self._names[name] |= there


_FOLLOW: tuple[tuple[Any, Callable[[_Search, Any], None]], ...] = (
    (types.FunctionType, _Search.function),
    (types.MethodType, _Search.method),
    (types.ModuleType, _Search.library),
    ((types.BuiltinFunctionType, types.MethodDescriptorType), _Search.builtin),
    (torch.nn.Module, _Search.module),
    ((list, tuple), _Search.sequence),
    (dict, _Search.table),
    (type, _Search.kind),
)
_LAYERS = "torch.nn.modules."  # where torch has its own modules


def _own_classes(cls: type, base: type) -> Iterator[type]:
    """The user's classes that a class comes from; torch's own are as torch has them."""
    return (c for c in cls.__mro__ if c not in base.__mro__ and not c.__module__.startswith(_LAYERS))


def _is_layer(cls: type) -> bool:
    return any(c.__module__.startswith(_LAYERS) and c is not torch.nn.Module for c in cls.__mro__)


def _is_inert(x: Any) -> bool:
    """Whether code of torch's that has x asks for no attributes of it that are the user's."""
    if type(x) in (list, tuple):
        return all(map(_is_inert, x))
    known = (dict, set, torch.Tensor, torch.nn.Module, types.FunctionType, types.BuiltinFunctionType, Notes)
    return type(x) in _FROZEN or isinstance(x, known)


def _function_of(value: Any) -> Any:
    if isinstance(value, property):
        return value.fget
    return value.__func__ if isinstance(value, (staticmethod, classmethod)) else value


def _is_torchs(name: str) -> bool:
    return name == "torch" or name.startswith("torch.")
