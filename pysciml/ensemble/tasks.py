"""What a worker does: one share of an ensemble, forward or backward. Bytes come in and bytes go out.

A task keeps nothing for the next one: a gradient solves its share again. So a share that was lost with its worker can
be run anywhere, and gives the same numbers.
"""

from __future__ import annotations

import pickle
import threading
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cloudpickle
import torch
from torch.utils import _pytree as pytree

from pysciml.config import config
from pysciml.ensemble.here import solve_here
from pysciml.ensemble.parcel import unpack
from pysciml.ensemble.progress import Silence
from pysciml.errors import InvalidInputError
from pysciml.problems import EnsembleProblem
from pysciml.solution import Stats
from pysciml.solution.ensemble import EnsembleSolution, FailedTrajectory

PROCESS = uuid.uuid4().hex  # this one, among those of all machines
_NEAR = 1e-6  # of the largest component: two machines need not round alike, in float32 neither
_ONE_AT_A_TIME = threading.Lock()  # workers may run tasks on several threads


@dataclass(eq=False)
class Job:
    """What all shares have in common.

    Attributes:
        problem: the type and the fields of the problem, at the first member's values. alg, options: as of `solve`.
        way: "serial" or "threads": how a worker solves its share.
        slope: f at the first member's values, flat, as it was where the job was made; None for Julia's source.
        settings: options of `pysciml.config` for the worker. dtype: torch's default. process: where the job was made.
    """

    problem: tuple[type, dict[str, Any]]
    alg: Any
    options: dict[str, Any]
    way: str
    slope: torch.Tensor | None
    settings: dict[str, Any]
    dtype: torch.dtype = field(default_factory=torch.get_default_dtype)
    process: str = PROCESS


@dataclass(eq=False)
class Share:
    """Some members of an ensemble: `u0` and `p` of each as lists of leaves, and the cotangents of their states."""

    u0: list[torch.Tensor] | None
    p: list[torch.Tensor] | None
    cotangents: list[torch.Tensor] | None = None


@dataclass(eq=False)
class Solved:
    """The states of a share, by leaves; its failures, numbered within the share; and the warnings on the way."""

    u: list[torch.Tensor]
    failures: list[FailedTrajectory]
    stats: Stats
    warned: list[tuple[type[Warning], str]] = field(default_factory=list)


@dataclass(eq=False)
class Raised:
    """An exception in a worker, and where it came from there."""

    error: bytes
    trace: str


class WorkerTraceback(Exception):  # noqa: N818 - it is no error of its own, but the cause that one names
    """Where an exception was raised in a worker."""

    def __str__(self) -> str:
        return f"in a worker:\n{self.args[0]}"


def forward(job: bytes, share: bytes) -> bytes:
    """Solves a share: a pickled `Solved`, or `Raised`."""
    return told(_forward, job, share)


def backward(job: bytes, share: bytes) -> bytes:
    """The gradients of sum(cotangents * u) in u0, p and every tensor of the job that requires grad, None where zero.

    A pickled list of them, or `Raised`.
    """
    return told(_backward, job, share)


def result(answer: bytes) -> Any:
    """What a task returned; what it raised is raised here."""
    found = pickle.loads(answer)  # noqa: S301 - from our own worker
    if isinstance(found, Raised):
        raise cloudpickle.loads(found.error) from WorkerTraceback(found.trace)
    return found


def told(task: Callable, job: bytes, share: bytes) -> bytes:
    """What a task returns, or what it raises, as bytes; one at a time in a process."""
    with _ONE_AT_A_TIME:
        try:
            return pickle.dumps(task(job, share))
        except Exception as error:
            return pickle.dumps(Raised(_crossing(error), traceback.format_exc()))


def _crossing(error: Exception) -> bytes:
    """An exception as bytes; one that does not come back from them, as its text."""
    try:
        text = cloudpickle.dumps(error)
        cloudpickle.loads(text)
    except Exception:
        text = cloudpickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return text


def _forward(job: bytes, share: bytes) -> Solved:
    here, _, rows = _unpacked(job, share)
    with torch.no_grad(), _heard(here) as seen:
        sol = _solve(here, rows)
    warned = list(dict.fromkeys((w.category, str(w.message)) for w in seen))
    return Solved([x.cpu() for x in pytree.tree_leaves(sol.u)], sol.failures, sol.stats, warned)


@contextmanager
def _heard(job: Job) -> Iterator[list[warnings.WarningMessage]]:
    """What is warned of in a worker, for the process that made the job to tell by its own filters."""
    if not _away(job):
        yield []
        return
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        yield seen


def _backward(job: bytes, share: bytes) -> list[torch.Tensor | None]:
    here, tensors, rows = _unpacked(job, share)
    inputs = [*(rows.u0 or []), *(rows.p or []), *(x for x in tensors if x.requires_grad)]
    for x in inputs:
        x.requires_grad_()
    with torch.enable_grad(), _heard(here):  # the forward solve has told the warnings
        u = pytree.tree_leaves(_solve(here, rows).u)
        pairs = [(x, g.to(x)) for x, g in zip(u, rows.cotangents or [], strict=True) if x.requires_grad]
        if not pairs:
            return [None] * len(inputs)
        states, cotangents = zip(*pairs, strict=True)
        found = torch.autograd.grad(states, inputs, cotangents, allow_unused=True)
    return [None if g is None else g.cpu() for g in found]


def _unpacked(job: bytes, share: bytes) -> tuple[Job, list[torch.Tensor], Share]:
    here, tensors = unpack(job)
    if _away(here):
        for name, value in here.settings.items():
            setattr(config, name, value)
        torch.set_default_dtype(here.dtype)
    return here, tensors, pickle.loads(share)  # noqa: S301 - from our own process


def _away(job: Job) -> bool:
    return job.process != PROCESS


def _solve(job: Job, share: Share) -> EnsembleSolution:
    kind, fields = job.problem
    prob = kind(**fields)
    if job.slope is not None:
        check_slope(slope(prob), job.slope)
    u0, p = (None if rows is None else pytree.tree_unflatten(rows, pytree.tree_structure(like))
             for rows, like in ((share.u0, prob.u0), (share.p, prob.p)))  # fmt: skip
    return solve_here(EnsembleProblem(prob, u0, p), job.alg, job.way, Silence(0), **job.options)


def slope(prob: Any) -> torch.Tensor:
    """f at the start of a problem, flat, in float64."""
    like = pytree.tree_leaves(prob.u0)[0]
    t = torch.as_tensor(prob.tspan[0], dtype=like.dtype, device=like.device).detach()
    u, p = pytree.tree_map(torch.clone, prob.u0), prob.p
    with torch.no_grad():
        du = prob.f(t, u) if p is None else prob.f(t, u, p)
    return torch.cat([x.detach().reshape(-1).cpu().double() for x in pytree.tree_leaves(du)])


def check_slope(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Raises if f is another function in this process than in the one that sent it.

    Raises:
        InvalidInputError: it is.
    """
    near = _NEAR * float(expected.nan_to_num().abs().max())
    if found.shape != expected.shape or not torch.allclose(found, expected, rtol=0, atol=near, equal_nan=True):
        raise InvalidInputError(
            "f is another function in the workers than here: it uses a value that was changed after its module was "
            "imported, or files or a state that workers do not share.",
            got=f"{found.tolist()!r:.80} in a worker, {expected.tolist()!r:.80} here", expected="the same",
            fix="hold the value in f's closure, in its module's attributes or in p",
        )  # fmt: skip
