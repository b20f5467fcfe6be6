"""Hearing what CasADi and SUNDIALS print, which is the only place they say where they stopped."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# One solve at a time: CasADi holds the interpreter lock while it solves, so that threads would gain nothing, and the
# two streams can be exchanged for one thread only.
_turn = threading.RLock()


class _Ear:
    """Keeps what this thread writes; what other threads write goes on to the stream behind it."""

    def __init__(self, stream: TextIO, said: list[str]):
        self._stream, self._said, self._thread = stream, said, threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:
            return self._stream.write(text)
        self._said.append(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def listening() -> Iterator[list[str]]:
    """Collects what is printed inside the block, by this thread."""
    with _turn:
        said: list[str] = []
        streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (_Ear(s, said) for s in streams)
        try:
            yield said
        finally:
            sys.stdout, sys.stderr = streams
