"""Dask: a cluster of one's own, anywhere, or one on this machine. Dask runs a killed worker's tasks again."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pysciml.ensemble.executors.base import Task, cores
from pysciml.errors import MissingExtraError, WorkerError


class Dask:
    """A client's cluster; without a client the current one, or else one with a worker a core on this machine."""

    name = "dask"
    _own: Any = None

    def __init__(self, client: Any = None):
        self._given = client
        self._futures: list = []

    @property
    def workers(self) -> int:
        return max(1, sum(self._client().nthreads().values()))

    def run(self, task: Task, job: bytes, shares: list[bytes]) -> Generator[tuple[int, bytes], None, None]:
        from distributed import KilledWorker, as_completed

        client = self._client()
        # The job is a task's result and no data of a worker's: if that worker is killed, it is made again.
        held = client.submit(bytes, job, pure=False)
        self._futures = client.map(task, [held] * len(shares), shares, pure=False)
        places = {future.key: i for i, future in enumerate(self._futures)}
        try:
            for future in as_completed(self._futures, loop=client.loop):
                yield places[future.key], future.result()
        except KilledWorker as error:
            raise WorkerError(
                "Dask's workers died again and again.", got=str(error),
                expected="workers with enough memory, and an f that does not end its process",
                fix='look at the workers\' logs; find the trajectory with executor="serial"',
            ) from error  # fmt: skip
        finally:
            client.cancel(self._futures)

    def stop(self) -> None:
        """Calls off what runs. A task that has begun ends by itself, or with the cluster if that is ours."""
        if self._given is None and Dask._own is not None:
            own, Dask._own = Dask._own, None
            own.close()
            own.cluster.close()

    def _client(self) -> Any:
        if self._given is None:
            self._given = _current()
        return self._given if self._given is not None else self._started()

    @staticmethod
    def _started() -> Any:
        if Dask._own is None or Dask._own.status != "running":
            from distributed import Client, LocalCluster

            cluster = LocalCluster(n_workers=cores(), threads_per_worker=1, dashboard_address=None)
            Dask._own = Client(cluster, set_as_default=False)
        return Dask._own


def _current() -> Any:
    try:
        from distributed import get_client
    except ImportError as error:
        raise MissingExtraError("distributed", "dask", 'executor="dask"') from error
    try:
        return get_client()
    except ValueError:  # there is none
        return None
