"""The quick way to know that a right-hand side still does what it did: run it again without computing anything.

A recorded run keeps its calls with their arguments and results. To check f, it is run on the same stand-in tensors,
each torch call is compared with the recorded one, and the recorded result is handed back. If every call agrees, f is
the same program, at a few microseconds a call. At the first difference the run is dropped and f is recorded anew.

Where all that f can read is known (`reads.py`), it need not even be run: that is looked for after the first run that
agreed, since a function made anew for each solve is not worth it.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import is_
from types import MethodType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from pysciml.rhs.base import CompiledRHS
from pysciml.rhs.notes import note, noted
from pysciml.rhs.reads import Form, Reads

_EXACT = (float, int, bool, str, type(None), torch.dtype, torch.device)


@dataclass(eq=False)
class Recording:
    """One recorded run, held per callable and form of its arguments. It must not hold the callable, or keep it alive.

    Attributes:
        program: the Program with f left out. rhs: its compiled form. calls: (function, args, kwargs, result) each, and
            whether no argument is of a kind that can change while it stays the same object.
        out: what f returned. form: of the tensors that it captured and of the constants that it used.
        searches: how often what f reads may still be looked for: what changes each time is not worth it.
    """

    program: Any
    rhs: CompiledRHS
    calls: list[tuple[Any, tuple, dict | None, Any, bool]]
    out: Any
    form: Form
    searches: int = 3


_MOST = 8  # recordings of one callable, for batches of different sizes
_Recordings = weakref.WeakKeyDictionary[Any, list[Recording]]
_recordings: _Recordings = weakref.WeakKeyDictionary()
_of_methods: weakref.WeakKeyDictionary[Any, _Recordings] = weakref.WeakKeyDictionary()


def _kept(f: Callable) -> tuple[_Recordings, Any]:
    """Where the recordings of f are, and their key there. A method is another object each time it is asked for.

    Raises:
        TypeError: what cannot be hashed, or referred to weakly.
    """
    if not isinstance(f, MethodType):
        return _recordings, f
    return _of_methods.setdefault(f.__self__, weakref.WeakKeyDictionary()), f.__func__


class _Differs(BaseException):
    """f does something else now. Not an Exception, so that a handler in f does not catch it."""


class _Replay(TorchFunctionMode):
    """Gives a run of f the recorded results, without gradients as they were recorded, until f does something else."""

    def __init__(self, calls: list):
        super().__init__()
        self.differs, self._calls = False, iter(calls)

    def __enter__(self):  # of two context managers in one, at half the price
        self._gradients = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        torch._C._set_grad_enabled(self._gradients)

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        for then, then_args, then_kwargs, result, fixed in self._calls:
            # Most arguments are the very tensors of the recorded run; a call knows where that is enough.
            same = fixed and len(args) == len(then_args) and all(map(is_, args, then_args))
            if (
                (func is then or func == then)
                and (same or _same_all(args, then_args))
                and (_same(kwargs, then_kwargs) if kwargs else then_kwargs is None)
            ):
                return result
            break
        self.differs = True
        raise _Differs

    @property
    def over(self) -> bool:
        """Whether all recorded calls were made again."""
        return not self.differs and next(self._calls, None) is None


def _same_all(a: tuple, b: tuple) -> bool:
    if len(a) != len(b):
        return False
    for x, y in zip(a, b, strict=True):
        # Objects that are no tensors can have been changed since, in place.
        if (x is not y or not isinstance(x, torch.Tensor)) and not _same(x, y):
            return False
    return True


def _same(a: Any, b: Any) -> bool:
    kind = type(a)
    if kind is not type(b):
        return False
    if a is b and (isinstance(a, torch.Tensor) or callable(a)):
        return True
    if kind in _EXACT:
        return a == b and (kind is not float or a != 0 or math.copysign(1, a) == math.copysign(1, b))
    if kind is tuple or kind is list:
        return _same_all(a, b)
    if kind is dict:
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if kind is slice:
        return _same((a.start, a.stop, a.step), (b.start, b.stop, b.step))
    return False


def remember(f: Callable, program: Any, rhs: CompiledRHS, calls: list, out: Any) -> None:
    """Keeps a recorded run of f, unless it holds arguments that later runs could not be compared with."""
    copies = [(func, _frozen(args), _frozen(kwargs or None), result, all(map(_is_fixed, args)))
              for func, args, kwargs, result in calls]  # fmt: skip
    recording = Recording(program.of(None), rhs, copies, out, Form(program.captured, program.constants))
    try:
        recordings, key = _kept(f)
        others = [x for x in recordings.get(key, ()) if x.program.inputs != program.inputs]
        recordings[key] = [recording, *others[: _MOST - 1]]
    except TypeError:  # not hashable, or no weak references: such an f is recorded before every solve
        return


def recall(f: Callable, shapes: Sequence[tuple]) -> tuple[Any, CompiledRHS] | None:
    """The program and compiled form of f if it still does what it did when it was remembered, else None.

    Args:
        shapes: what the inputs look like, to compare with the remembered ones (`describe`).
    """
    recording = recording_of(f, shapes)
    if recording is None:
        return None
    program = recording.program.of(f)
    if not reads_the_same(f, recording):
        if not runs_the_same(program, recording):
            return None
        _look(f, recording)
    return program, recording.rhs


def recording_of(f: Callable, shapes: Sequence[tuple]) -> Recording | None:
    """The recorded run of f on such inputs, as it was."""
    try:
        recordings, key = _kept(f)
    except TypeError:
        return None
    return next((x for x in recordings.get(key, ()) if x.program.inputs == shapes), None)


def reads_the_same(f: Callable, recording: Recording) -> bool:
    """Whether f is known to do what it did by all that it reads."""
    reads: Reads | None = noted(f, recording)
    return reads is not None and reads.unchanged(f)


def runs_the_same(program: Any, recording: Recording) -> bool:
    """Whether a run of f makes the calls that were recorded, and returns their result."""
    replay = _Replay(recording.calls)
    try:
        with replay:
            out = program.apply(program.t, program.u, program.p)
    except _Differs:
        return False
    return replay.over and _same_tree(out, recording.out) and recording.form.holds()


def _look(f: Callable, recording: Recording) -> None:
    """Notes what f reads, if that can be told and was not looked for too often."""
    if not recording.searches:
        return
    recording.searches -= 1
    program = recording.program
    p = None if program.p_layout is None else program.p_layout.build(program.p)
    reads = Reads.of(f, (program.u_layout.build(program.u), p), program.captured, program.constants)
    if reads is not None:
        note(f, recording, reads)


def _same_tree(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a is b
    (a, a_spec), (b, b_spec) = pytree.tree_flatten(a), pytree.tree_flatten(b)
    return a_spec == b_spec and all(x is y for x, y in zip(a, b, strict=True))


def _is_fixed(x: Any) -> bool:
    return isinstance(x, torch.Tensor) or type(x) in _EXACT


def _frozen(x: Any) -> Any:
    """A copy of the containers of an argument, so that a list changed later is seen as changed."""
    if isinstance(x, list):
        return [_frozen(y) for y in x]
    if isinstance(x, dict):
        return {k: _frozen(v) for k, v in x.items()}
    return tuple(map(_frozen, x)) if type(x) is tuple else x
