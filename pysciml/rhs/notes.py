"""Notes about functions that are kept with them, for as long as they live and no longer.

A table of all functions could not do that: what is known of a function may lead back to it (a module that one of its
parts refers to), and then it would never be freed. So notes lie in the `__dict__` of the function's owner: at worst
that is a circle, as the garbage collector finds them. Copies and pickles of an owner come without notes.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any

_PLACE = "_pysciml_notes"


def owner_of(f: Callable) -> Any:
    """The object that lives as long as f does: f itself, or that whose method it is."""
    return f.__self__ if isinstance(f, MethodType) else f


class Notes:
    """What is known of the functions of one owner, each note by the object that it was written for."""

    def __init__(self, owner: Any) -> None:
        self._owner = weakref.ref(owner)
        self.by: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    @classmethod
    def of(cls, owner: Any) -> Notes | None:
        """Those of an owner. One that was copied may have those of another, which are none."""
        found = getattr(owner, "__dict__", {}).get(_PLACE)
        return found if isinstance(found, Notes) and found._owner() is owner else None

    def __reduce__(self) -> tuple:
        return dict, ()  # whoever reads the pickle need not have pysciml


def noted(f: Callable, reason: Any) -> Any:
    """The note about f that was written for this object, or None."""
    notes = Notes.of(owner_of(f))
    return None if notes is None else notes.by.get(reason)


def note(f: Callable, reason: Any, what: Any) -> None:
    """Keeps a note about f, whose owner has a `__dict__`, for as long as there are f and `reason`."""
    owner = owner_of(f)
    notes = Notes.of(owner)
    if notes is None:
        notes = owner.__dict__[_PLACE] = Notes(owner)
    notes.by[reason] = what


def without_notes(table: dict) -> tuple[list, list]:
    """The keys and the values of an owner's `__dict__`, as they were without notes."""
    keys, values = list(table), list(table.values())
    if _PLACE in table:
        at = keys.index(_PLACE)
        del keys[at], values[at]
    return keys, values
