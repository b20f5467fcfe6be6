"""Finding the tensors a right-hand side captured, for the routes that do not trace it.

A gradient with respect to a tensor that nobody knew of is zero without a word. So f is run twice and watched: every
tensor that requires grad and reaches its result is a parameter, whether it sits in a module, a closure, a global or a
custom autograd Function.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree


class Substitute(TorchFunctionMode):
    """Puts other tensors in the place of captured ones."""

    def __init__(self, replaced: dict[int, torch.Tensor]):
        super().__init__()
        self._replaced = replaced

    def __torch_function__(self, func, types, args=(), kwargs=None):
        args = tuple(map(self._put, args))
        return func(*args, **{name: self._put(x) for name, x in kwargs.items()}) if kwargs else func(*args)

    def _put(self, x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            return self._replaced.get(id(x), x)
        if type(x) in (tuple, list):  # pytrees take ten times as long, at every call
            return type(x)(map(self._put, x))
        if isinstance(x, (tuple, list, dict)):
            return pytree.tree_map_only(torch.Tensor, self._put, x)
        return x


class Held:
    """The tensors that the modules f uses hold now, put back into them while f runs later.

    `torch.func.functional_call` lends a module other parameters, and takes them back before a backward solve.
    """

    def __init__(self, f: Any):
        tables: list[dict[str, Any]] = [
            table for module in modules_of(f) for table in (module._parameters, module._buffers)
        ]
        self._held = [(table, name, x) for table in tables for name, x in table.items()]
        self._others: list[list[tuple[dict, str, Any]]] = []  # of each entry, which may be inside of another

    def __enter__(self) -> None:
        others = [(table, name, table[name]) for table, name, x in self._held if name in table and table[name] is not x]
        self._others.append(others)
        if others:
            for table, name, x in self._held:
                table[name] = x

    def __exit__(self, *error: object) -> None:
        for table, name, x in self._others.pop():
            table[name] = x


def modules_of(f: Any) -> list[torch.nn.Module]:
    """The modules that f is, holds itself, or has in its closure or by the names of its globals."""
    while isinstance(f, (functools.partial, Substituted)):
        f = f.func if isinstance(f, functools.partial) else f.f
    if isinstance(f, torch.nn.Module):
        return list(f.modules())
    inner = getattr(f, "inner_functions", ())  # those that a right-hand side of pysciml's own is made of
    if inner:
        return list(dict.fromkeys(module for g in inner for module in modules_of(g)))
    code, cells = getattr(f, "__code__", None), getattr(f, "__closure__", None) or ()
    near = [getattr(f, "__self__", None), *getattr(f, "__dict__", {}).values(), *(content(cell) for cell in cells)]
    near += [x for name, x in getattr(f, "__globals__", {}).items() if code is not None and name in code.co_names]
    return list(dict.fromkeys(m for x in near if isinstance(x, torch.nn.Module) for m in x.modules()))


def content(cell: Any, of_empty: Any = None) -> Any:
    """What a variable of a closure stands for."""
    try:
        return cell.cell_contents
    except ValueError:  # it has no value yet, or none any more
        return of_empty


class Substituted:
    """f, with others in the place of the tensors that it captured."""

    def __init__(self, f: Callable, captured: Sequence[torch.Tensor], others: Sequence[torch.Tensor]):
        self.f = f
        self._held = Held(f)
        self._replaced = dict(zip(map(id, captured), others, strict=True))

    def __call__(self, *args: Any) -> Any:
        with self._held, Substitute(self._replaced):
            out = self.f(*args)
        return pytree.tree_map_only(torch.Tensor, lambda x: self._replaced.get(id(x), x), out)


class _Spy(TorchFunctionMode):
    """Keeps every tensor of a kind that is handed to torch."""

    def __init__(self, wanted: Callable[[torch.Tensor], bool]):
        super().__init__()
        self._wanted = wanted
        self.seen: dict[int, torch.Tensor] = {}

    def look(self, tree: Any) -> None:
        for x in pytree.tree_leaves(tree):
            if isinstance(x, torch.Tensor) and self._wanted(x):
                self.seen.setdefault(id(x), x)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.look((args, kwargs))
        return func(*args, **(kwargs or {}))


def met_twice(call: Callable[[], Any], wanted: Callable[[torch.Tensor], bool]) -> list[torch.Tensor]:
    """The tensors of a kind that two runs of `call` both meet: what is made inside differs from run to run."""
    first, second = (_Spy(wanted) for _ in range(2))
    for spy in (first, second):
        with spy:
            out = call()
        spy.look(out)
    return [x for i, x in first.seen.items() if i in second.seen]


def captured(call: Callable[[], Any]) -> list[torch.Tensor]:
    """The tensors that require grad and that `call` reaches for: leaves and results of earlier computations.

    Args:
        call: runs f at inputs that do not require grad; run twice.

    Returns:
        Each once. What is made inside f differs from run to run and is left out. Leaves beneath a captured result are
        left out too: their gradient comes through it.
    """
    runs = []
    for _ in range(2):
        spy = _Spy(lambda x: x.requires_grad)
        with torch.enable_grad(), spy:
            out = call()
        runs.append((spy.seen, [x for x in pytree.tree_leaves(out) if isinstance(x, torch.Tensor)]))
    (first, out), (second, again) = runs
    found = {i: x for i, x in first.items() if i in second}
    results = [x for x in found.values() if not x.is_leaf]
    # The graph also shows leaves that only a custom Function, TorchScript or C++ has seen.
    beneath, others = ({id(x): x for y in ys for x in leaves_of(y, stop=results)} for ys in (out, again))
    return list((found | {i: x for i, x in beneath.items() if i in others}).values())


def leaves_of(out: torch.Tensor, stop: Sequence[torch.Tensor] = ()) -> list[torch.Tensor]:
    """The leaves that `out` was computed from by autograd, not looking past the tensors in `stop`."""
    ends = {x.grad_fn for x in stop if x.grad_fn is not None}
    barred = {id(x) for x in stop}
    if not out.requires_grad:
        return []
    if out.grad_fn is None:
        return [] if id(out) in barred else [out]
    found, seen, todo = [], set(ends), [out.grad_fn]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        x = getattr(node, "variable", None)
        if x is not None and id(x) not in barred:
            found.append(x)
        todo += [n for n, _ in node.next_functions if n is not None]
    return found


def parameters_of(f: Any, call: Callable[[], Any]) -> list[torch.Tensor]:
    """The tensors that require grad and that f may depend on: a module's parameters, used or not, and captured ones."""
    owned = f.parameters() if isinstance(f, torch.nn.Module) else ()
    return list({id(x): x for x in [*owned, *captured(call)] if x.requires_grad}.values())


def stand_ins(tensors: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], dict[int, torch.Tensor]]:
    """Leaves to differentiate with respect to instead: a result is replaced, a leaf stays.

    With both a tensor and something computed from it among the parameters, torch would count the path between them
    inside the solve and again outside.
    """
    replaced = {id(x): x.detach().requires_grad_() for x in tensors if not x.is_leaf}
    return [replaced.get(id(x), x) for x in tensors], replaced
