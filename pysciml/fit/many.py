"""Many fits from many starts, here or in other processes."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pysciml.errors import InvalidInputError
from pysciml.fit.errors import FitError
from pysciml.fit.fit import fit
from pysciml.fit.result import FitResult
from pysciml.progress import bar, form
from pysciml.solve import solve

_OWN = ("checkpoint", "checkpoint_every", "resume", "callback", "progress")


@dataclass(frozen=True, eq=False)
class FitEnsemble:
    """What many fits found, the best first.

    Attributes:
        results: a FitResult of each that ended, by validation loss where there is one, else by training loss; each has
            tensors of its own. seeds: from which each began. failures: the error of each that did not end, by seed.
    """

    results: list[FitResult]
    seeds: list[int]
    failures: dict[int, FitError]

    @property
    def best(self) -> FitResult:
        return self.results[0]

    @property
    def losses(self) -> torch.Tensor:
        """(N,) of the results."""
        return torch.tensor([_rank(result) for result in self.results], dtype=torch.float64)

    def within(self, factor: float) -> FitEnsemble:
        """Those whose loss is at most so many times the best one's."""
        kept = [i for i, loss in enumerate(self.losses.tolist()) if loss <= factor * self.losses[0]]
        return FitEnsemble([self.results[i] for i in kept], [self.seeds[i] for i in kept], self.failures)

    def predict(self, t: Any) -> torch.Tensor:
        """(N, len(t), n) states of each at times t, flat: of problems with one state tensor (n,)."""
        with torch.no_grad():
            return torch.stack([solve(r.prob, saveat=t, **r.options).u for r in self.results])

    def __len__(self) -> int:
        return len(self.results)

    def __repr__(self) -> str:
        rows = [f"  seed {seed:<5} loss {_rank(result):<12.6g} {result.stopped}, {result.epochs} epochs"
                for seed, result in zip(self.seeds[:10], self.results, strict=False)]  # fmt: skip
        more = [f"  and {len(self) - 10} more"] if len(self) > 10 else []
        failed = [f"  failed: seeds {', '.join(map(str, sorted(self.failures)))}"] if self.failures else []
        return "\n".join([f"FitEnsemble of {len(self)} fits", *rows, *more, *failed])


def fit_many(
    make: Callable[[int], dict[str, Any]], seeds: int | Iterable[int] = 8, *, executor: Any = "serial",
    progress: str | bool | None = None, **options: Any,
) -> FitEnsemble:  # fmt: skip
    """Fits from many starts: what all agree on the data determine, and the best of many is less often a bad one.

    Args:
        make: `make(seed)` gives the arguments of one `fit` in a dict, `{"prob": prob, "data": data, "t": t}`, with
            tensors of its own: torch's random numbers are seeded with `seed` before. It may draw the data anew too, as
            a bootstrap does.
        seeds: how many, from 0 on, or which.
        executor: "serial", or as of `solve_ensemble`: "processes", "dask", "ray", a pool or a client. The numbers are
            the same by each.
        progress: a bar of the fits; as of `fit`. options: further arguments of `fit`, of all.

    Raises:
        InvalidInputError: what is no function, options that each fit has to itself. FitError: every one of them failed.
        UnsupportedError: `make` cannot be sent to other processes.

    Example:
        >>> import torch, pysciml as ps
        >>> t = torch.linspace(0, 2, 9, dtype=torch.float64)
        >>> def make(seed):
        ...     k = (3 * torch.rand((), dtype=torch.float64)).requires_grad_()
        ...     prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(1, dtype=torch.float64), (0.0, 2.0))
        ...     return {"prob": prob, "data": torch.exp(-t)[:, None], "t": t}
        >>> fits = ps.fit_many(make, 3, stages=("LBFGS", 30), progress="off")
        >>> len(fits), [round(r.parameters["k"].item(), 3) for r in fits.results]
        (3, [1.0, 1.0, 1.0])
    """
    chosen = _check(make, seeds, options)
    show = bar(len(chosen), desc="fits") if form(progress) == "bar" else None
    try:
        ended = (
            _here(make, chosen, options, show)
            if executor == "serial"
            else _elsewhere(make, chosen, options, executor, show)
        )
    finally:
        if show is not None:
            show.close()
    failures = {seed: x for seed, x in ended.items() if isinstance(x, FitError)}
    found = sorted(
        ((seed, x) for seed, x in ended.items() if isinstance(x, FitResult)), key=lambda pair: _rank(pair[1])
    )
    if not found:
        raise next(iter(failures.values()))
    return FitEnsemble([x for _, x in found], [seed for seed, _ in found], failures)


def _here(make: Callable, seeds: list[int], options: dict[str, Any], show: Any) -> dict[int, Any]:
    ended = {}
    for seed in seeds:
        ended[seed] = _fitted(make, seed, options)
        if show is not None:
            show.update(1)
    return ended


def _fitted(make: Callable, seed: int, options: dict[str, Any]) -> FitResult | FitError:
    try:
        return fit(**_made(make, seed), **options, progress="off")
    except FitError as error:
        return error


def _elsewhere(make: Callable, seeds: list[int], options: dict[str, Any], executor: Any, show: Any) -> dict[int, Any]:
    """Workers send back where a fit ended, as a checkpoint; here it is taken up again, with nothing left to do."""
    from pysciml.ensemble import tasks  # here: what sends to processes is loaded when something is sent
    from pysciml.ensemble.executors import executor_of
    from pysciml.ensemble.parcel import pack

    by = executor_of(executor)
    job, _ = pack((make, options), make)
    ended: dict[int, Any] = {}
    with closing(by.run(_task, job, [pickle.dumps(seed) for seed in seeds])) as answers:
        for i, answer in answers:
            found = tasks.result(answer)
            ended[seeds[i]] = found if isinstance(found, FitError) else _resumed(make, seeds[i], options, found)
            if show is not None:
                show.update(1)
    return {seed: ended[seed] for seed in seeds}


def _task(job: bytes, share: bytes) -> bytes:
    """One fit in a worker: its last checkpoint as bytes, or its error."""
    from pysciml.ensemble import tasks

    return tasks.told(_checkpointed, job, share)


def _checkpointed(job: bytes, share: bytes) -> bytes | FitError:
    from pysciml.ensemble.parcel import unpack

    (make, options), _ = unpack(job)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fit.pt"
        try:
            fit(**_made(make, pickle.loads(share)), **options, progress="off", checkpoint=path)  # noqa: S301 - our own
        except FitError as error:
            error.result = None  # which holds functions that cannot cross
            return error
        return path.read_bytes()


def _resumed(make: Callable, seed: int, options: dict[str, Any], content: bytes) -> FitResult | FitError:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fit.pt"
        path.write_bytes(content)
        return fit(**_made(make, seed), **options, progress="off", checkpoint=path, resume=True)


def _made(make: Callable, seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    made = make(seed)
    if not isinstance(made, dict):
        raise InvalidInputError("make must return the arguments of a fit in a dict.", got=type(made).__name__,
                                fix='return {"prob": prob, "data": data, "t": t}')  # fmt: skip
    return made


def _check(make: Any, seeds: Any, options: dict[str, Any]) -> list[int]:
    if not callable(make):
        raise InvalidInputError("make must be a function of a seed.", got=type(make).__name__,
                                fix="pysciml.fit_many(make, 8)")  # fmt: skip
    own = [name for name in _OWN if name in options]
    if own:
        raise InvalidInputError("each of many fits has these to itself.", got=", ".join(own), fix="leave them out")
    chosen = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    if not chosen:
        raise InvalidInputError("there must be a seed, at least.", got=f"seeds={seeds!r}", fix="seeds=8")
    return chosen


def _rank(result: FitResult) -> float:
    return result.loss if result.val_loss != result.val_loss else result.val_loss
