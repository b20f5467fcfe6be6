"""Any executor with the interface of concurrent.futures: a pool of one's own, loky, mpi4py, an IPython cluster's."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import BrokenExecutor, Future, as_completed
from concurrent.futures import Executor as Pool

from pysciml.ensemble.executors.base import Task, cores
from pysciml.errors import WorkerError


class Futures:
    """The user's own pool, which stays the user's to start and to close."""

    def __init__(self, pool: Pool):
        self.name = type(pool).__name__
        self._pool = pool
        self._futures: dict[Future, int] = {}

    @property
    def workers(self) -> int:
        return getattr(self._pool, "_max_workers", None) or cores()

    def run(self, task: Task, job: bytes, shares: list[bytes]) -> Generator[tuple[int, bytes], None, None]:
        try:
            self._futures = {self._pool.submit(task, job, share): i for i, share in enumerate(shares)}
            for future in as_completed(self._futures):
                yield self._futures[future], future.result()
        except BrokenExecutor as error:
            raise WorkerError(
                f"the {self.name} is broken: a worker died, and it takes no more tasks.", got=str(error),
                expected="an executor that starts workers anew",
                fix='pysciml.solve_ensemble(ensemble, executor="processes")',
            ) from error  # fmt: skip
        finally:
            self.stop()

    def stop(self) -> None:
        for future in self._futures:
            future.cancel()
