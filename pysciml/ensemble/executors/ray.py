"""Ray: the cluster this process is connected to, or one on this machine. Ray runs a killed worker's tasks again."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pysciml.ensemble.executors.base import DEATHS, Task, cores
from pysciml.errors import MissingExtraError, WorkerError


class Ray:
    """Ray's tasks, one core each."""

    name = "ray"

    def __init__(self) -> None:
        try:
            import ray
        except ImportError as error:
            raise MissingExtraError("ray", "ray", 'executor="ray"') from error
        self._ray = ray
        self._waiting: dict[Any, int] = {}
        if not ray.is_initialized():
            ray.init(num_cpus=cores(), include_dashboard=False)

    @property
    def workers(self) -> int:
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def run(self, task: Task, job: bytes, shares: list[bytes]) -> Generator[tuple[int, bytes], None, None]:
        ray = self._ray
        remote, held = ray.remote(num_cpus=1, max_retries=DEATHS)(task), ray.put(job)
        self._waiting = {remote.remote(held, share): i for i, share in enumerate(shares)}
        try:
            while self._waiting:
                (done, *_), _ = ray.wait(list(self._waiting), num_returns=1)
                answer = ray.get(done)
                yield self._waiting.pop(done), answer
        except _deaths(ray.exceptions) as error:
            raise WorkerError(
                "Ray's workers died again and again.", got=str(error).strip().splitlines()[0],
                expected="workers with enough memory, and an f that does not end its process",
                fix='look at the workers\' logs; find the trajectory with executor="serial"',
            ) from error  # fmt: skip
        finally:
            self.stop()

    def stop(self) -> None:
        """Ends the workers that run a share; others take their place at the next task."""
        for reference in self._waiting:
            self._ray.cancel(reference, force=True)
        self._waiting = {}


def _deaths(exceptions: Any) -> tuple[type[BaseException], ...]:
    """What Ray raises when a task's last retry has lost its worker too."""
    return exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.OutOfMemoryError
