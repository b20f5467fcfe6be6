"""What pysciml asks of an executor."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import Protocol

Task = Callable[[bytes, bytes], bytes]
DEATHS = 2  # in a row, and one more is too many: a share may kill whoever takes it up


class Executor(Protocol):
    """Runs tasks in other processes. Tasks keep no state, so one whose worker was killed is run again."""

    name: str

    @property
    def workers(self) -> int:
        """How many tasks it runs at a time."""

    def run(self, task: Task, job: bytes, shares: list[bytes]) -> Generator[tuple[int, bytes], None, None]:
        """`task(job, share)` for each share: its number and its result, as they are done.

        Closing the iterator calls off what has not begun.

        Raises:
            WorkerError: workers cannot be started, or die again and again.
        """

    def stop(self) -> None:
        """Ends what is running, without waiting for it."""


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
