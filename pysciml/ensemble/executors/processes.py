"""Processes of this machine: the standard library's ProcessPoolExecutor, spawned, and restarted when one is killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import torch

from pysciml.ensemble.executors.base import DEATHS, Task, cores
from pysciml.errors import WorkerError


class Processes:
    """One worker a core, kept for the next solve: a worker's start takes seconds, with Julia more."""

    name = "processes"
    _pool: ProcessPoolExecutor | None = None

    @property
    def workers(self) -> int:
        return cores()

    def run(self, task: Task, job: bytes, shares: list[bytes]) -> Generator[tuple[int, bytes], None, None]:
        waiting, deaths = set(range(len(shares))), 0
        while waiting:
            futures: dict[Future, int] = {}
            try:
                futures = self._submit(task, job, {i: shares[i] for i in sorted(waiting)})
                for future in as_completed(futures):
                    answer = future.result()
                    waiting.discard(futures[future])
                    deaths = 0
                    yield futures[future], answer
            except BrokenProcessPool as error:  # all that it had not finished is lost, and it takes no more
                self.stop()
                deaths += 1
                if deaths > DEATHS:
                    raise _dying(deaths) from error
            finally:
                for future in futures:
                    future.cancel()

    def stop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        for process in list((pool._processes or {}).values()):
            process.kill()
        pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, task: Task, job: bytes, shares: dict[int, bytes]) -> dict[Future, int]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn"), _begin)
        with _no_main():
            return {self._pool.submit(task, job, share): i for i, share in shares.items()}


def _begin() -> None:
    """What a worker does first."""
    torch.set_num_threads(1)  # the workers share the cores among themselves
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal: the first one decides
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose first process was killed would wait for its next task for ever."""
    multiprocessing.parent_process().join()  # type: ignore[union-attr]
    os._exit(1)


@contextlib.contextmanager
def _no_main() -> Iterator[None]:
    """Workers started here do not run the user's script again: what they need of it crosses with the problem.

    So a script needs no `if __name__ == "__main__":`.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _dying(deaths: int) -> WorkerError:
    return WorkerError(
        "worker processes died again and again.", got=f"{deaths} deaths in a row, no share finished in between",
        expected="workers with enough memory, and an f that does not end its process",
        fix='look for "Killed" or a crash above; find the trajectory with executor="serial"',
    )  # fmt: skip
