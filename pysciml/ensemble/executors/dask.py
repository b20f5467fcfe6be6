"""Dask: a cluster of one's own, anywhere, or one on this machine. Dask runs a killed worker's tasks again."""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections.abc import Generator
from typing import Any

from pysciml.ensemble.executors.base import Task, cores
from pysciml.errors import MissingExtraError, UnsupportedError, WorkerError

_LOOK, _PATIENCE = 1.0, 30.0  # seconds between two looks at the workers, and without any
_DYING = {"expected": "workers with enough memory, and an f that does not end its process",
          "fix": 'look at the workers\' logs; find the trajectory with executor="serial"'}  # fmt: skip


class Dask:
    """A client's cluster; without a client the current one, or else one with a worker a core on this machine."""

    name = "dask"
    _own: Any = None

    def __init__(self, client: Any = None):
        if client is not None and client.asynchronous:
            raise UnsupportedError("solve_ensemble waits for its result, which an asynchronous client cannot.",
                                   got="Client(asynchronous=True)", fix="dask.distributed.Client(address)")  # fmt: skip
        self._client = client or _current() or _local()

    @property
    def workers(self) -> int:
        return max(1, sum(self._client.nthreads().values()))

    def run(self, task: Task, job: bytes, shares: list[bytes]) -> Generator[tuple[int, bytes], None, None]:
        from distributed import KilledWorker

        # The job is a task's result and no data of a worker's: if that worker is killed, it is made again.
        held = self._client.submit(bytes, job, pure=False)
        futures = self._client.map(task, [held] * len(shares), shares, pure=False)
        places, done = {future.key: i for i, future in enumerate(futures)}, queue.SimpleQueue[Any]()
        for future in futures:
            future.add_done_callback(done.put)
        try:
            for _ in futures:
                future = self._next(done)
                yield places[future.key], future.result()
        except KilledWorker as error:
            raise WorkerError("Dask's workers died again and again.", got=str(error), **_DYING) from error
        finally:
            self._client.cancel(futures)

    def stop(self) -> None:
        """Ends our own cluster. On another's, a task that has begun runs to its end."""
        if self._client is Dask._own:
            Dask._own = None
            self._client.close()
            self._client.cluster.close()

    def _next(self, done: queue.SimpleQueue) -> Any:
        """The next future that is done."""
        seen = time.monotonic()
        while True:
            try:
                return done.get(timeout=_LOOK)
            except queue.Empty:
                seen = time.monotonic() if self._client.nthreads() else seen
            if time.monotonic() - seen > _PATIENCE and self._for_ever():
                self.stop()
                raise WorkerError("Dask's workers died again and again, and Dask started no others.",
                                  got=f"no worker for {_PATIENCE:g} s", **_DYING)  # fmt: skip

    def _for_ever(self) -> bool:
        """Whether no worker will come: a LocalCluster gives up one that dies as it starts. Others may be in a queue."""
        from distributed import LocalCluster

        return isinstance(self._client.cluster, LocalCluster)


def _current() -> Any:
    try:
        from distributed import get_client
    except ImportError as error:
        raise MissingExtraError("distributed", "dask", 'executor="dask"') from error
    try:
        return get_client()
    except ValueError:  # there is none
        return None


def _local() -> Any:
    """The cluster on this machine, started at its first use."""
    if Dask._own is None or Dask._own.status != "running":
        Dask._own = _started()
    return Dask._own


def _started() -> Any:
    from distributed import Client, LocalCluster

    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise _unguarded("solve_ensemble at its top level")
    try:
        cluster = LocalCluster(n_workers=cores(), threads_per_worker=1, dashboard_address="localhost:0")
    except RuntimeError as error:
        raise _unguarded(f"{type(error).__name__}: {error}") from error
    return Client(cluster, set_as_default=False)


def _unguarded(got: str) -> WorkerError:
    return WorkerError("Dask's workers do not start. They run the script that starts them again.", got=got,
                       fix='put what it does under if __name__ == "__main__":, or executor="processes"')  # fmt: skip
