"""One thread that never ends and runs what other threads hand it."""

from __future__ import annotations

import contextvars
import threading
from _thread import allocate_lock
from collections.abc import Callable
from typing import Any


class Service:
    """A daemon thread, started at its first job. Jobs come one at a time: the caller holds a lock of its own."""

    def __init__(self, name: str):
        self.name = name
        self.ident: int | None = None
        self._go, self._done = allocate_lock(), allocate_lock()
        self._go.acquire()
        self._done.acquire()
        self._job: tuple = ()
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self, function: Callable, args: tuple) -> Any:
        """`function(*args)` on the thread, in the caller's context; waits for it. What it raises is raised here."""
        if self.ident is None:
            thread = threading.Thread(target=self._loop, name=self.name, daemon=True)
            thread.start()
            self.ident = thread.ident
        self._job = (contextvars.copy_context(), function, args)
        self._go.release()
        self._done.acquire()
        result, error = self._result, self._error
        self._result = self._error = None
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # which knows this frame

    def _loop(self) -> None:
        while True:
            self._go.acquire()
            context, function, args = self._job
            try:
                self._result = context.run(function, *args)
            except BaseException as error:
                self._error = error
            self._job = ()
            del context, function, args  # nothing of the job's may die here later than it would there
            self._done.release()
