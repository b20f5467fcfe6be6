"""Who solves the shares of an ensemble: one file an executor, each a thin layer over a library's own engine."""

from __future__ import annotations

import concurrent.futures
import functools
import sys
from collections.abc import Callable
from typing import Any

from pysciml.ensemble.executors.base import Executor as Executor
from pysciml.ensemble.executors.dask import Dask
from pysciml.ensemble.executors.futures import Futures
from pysciml.ensemble.executors.processes import Processes
from pysciml.ensemble.executors.ray import Ray
from pysciml.errors import InvalidInputError

_NAMED: dict[str, Callable[[], Executor]] = {"processes": functools.cache(Processes), "dask": Dask, "ray": Ray}
_EXPECTED = "serial, threads, processes, dask, ray, a concurrent.futures.Executor or a dask.distributed.Client"


def executor_of(what: Any) -> Executor:
    """The executor of that name, or the one around a pool or a client.

    Raises:
        InvalidInputError: there is none. MissingExtraError: its library is not installed.
    """
    if isinstance(what, str) and what in _NAMED:
        return _NAMED[what]()
    if isinstance(what, concurrent.futures.Executor):
        return Futures(what)
    distributed = sys.modules.get("distributed")  # whoever has a client has imported it
    if distributed is not None and isinstance(what, distributed.Client):
        return Dask(what)
    raise InvalidInputError(f"there is no executor {what!r}.", got=f"executor={what!r:.80}", expected=_EXPECTED,
                            fix='executor="processes"')  # fmt: skip
