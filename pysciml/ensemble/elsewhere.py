"""An ensemble in other processes: shares of it go out as bytes, and their states and gradients come back.

To autograd all of it is one Function of the members' u0 and p and of every tensor that crossed to the workers and
requires grad: parameters of modules, what closures hold, times.
"""

from __future__ import annotations

import itertools
import pickle
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.algorithms import by_name
from pysciml.config import config
from pysciml.control import save_times
from pysciml.engines import select
from pysciml.ensemble import tasks
from pysciml.ensemble.executors.base import Executor
from pysciml.ensemble.parcel import pack
from pysciml.ensemble.progress import Silence
from pysciml.ensemble.serial import together
from pysciml.ensemble.tasks import Job, Share, Solved
from pysciml.ensemble.threads import can_thread
from pysciml.errors import TraceError, UnsupportedError
from pysciml.first_order import first_order_only
from pysciml.flat import parameter_names
from pysciml.problems import EnsembleProblem, ODEProblem
from pysciml.rhs import functorch
from pysciml.rhs.callback import prepare_callback
from pysciml.rhs.julia_source import JuliaFunction
from pysciml.rhs.trace import record
from pysciml.solution.ensemble import EnsembleSolution

_SHARES = 8  # a worker: enough for an even load and a bar that moves, few enough to cost nothing
_FOLLOW = ("single_precision", "memory_limit")  # options that a worker takes over wherever they were set


def elsewhere(ensemble: EnsembleProblem, alg: Any, by: Executor, show: Silence, **options: Any) -> EnsembleSolution:
    """Solves shares of an ensemble. Args: by: who does. show: what is seen meanwhile. options: as of `solve`.

    Raises:
        UnsupportedError: the problem cannot be sent. WorkerError: workers cannot be started, or die again and again.
    """
    if functorch.transforming():
        raise UnsupportedError("workers are out of reach of torch.func.", got="a transform around solve_ensemble",
                               fix='pysciml.solve_ensemble(ensemble, executor="serial")')  # fmt: skip
    ts = save_times(ensemble.prob, options["saveat"])  # what is wrong with it is told here
    job, tensors = _packed(ensemble, alg, options)
    rows = [*_leaves(ensemble.u0), *_leaves(ensemble.p)]
    call = Call(by, show, job, _cuts(len(ensemble), by.workers), len(_leaves(ensemble.u0)), len(rows))
    found = _Elsewhere.apply(call, *rows, *(x for x in tensors if x.requires_grad))
    for category, text in dict.fromkeys(w for share in call.solved for w in share.warned):
        warnings.warn(text, category, stacklevel=3)
    u = pytree.tree_unflatten(list(found), pytree.tree_structure(ensemble.prob.u0))
    failures = [replace(failure, index=start + failure.index)
                for (start, _), x in zip(call.cuts, call.solved, strict=True) for failure in x.failures]  # fmt: skip
    return EnsembleSolution(ts, u, ensemble, failures, together([share.stats for share in call.solved]))


def _packed(ensemble: EnsembleProblem, alg: Any, options: dict[str, Any]) -> tuple[bytes, list[torch.Tensor]]:
    # The first member's own values: f may not be defined at those of `prob`.
    prob = ensemble.member(0)
    alg = by_name(alg) if isinstance(alg, str) else alg
    in_julia, on_cpu = isinstance(prob.f, JuliaFunction), prob.inputs.u[0].device.type == "cpu"
    way = "threads" if can_thread(ensemble, alg, **options) else "serial"
    options = options | {"engine": select.choose(options["engine"], alg, options["sensealg"], on_cpu, in_julia)}
    problem = type(prob), {f.name: getattr(prob, f.name) for f in fields(prob)}
    job = Job(problem, alg, options, way, None if in_julia else tasks.slope(prob), _settings())
    parcel, tensors = pack(job, prob.f)
    if not in_julia:
        _check_all_cross(prob, tensors)
    return parcel, tensors


def _settings() -> dict[str, Any]:
    """The options a worker takes over: those set in code here. It has one thread, as there are other workers."""
    own = {s.option.name: s.value for s in config.table() if s.source == "code" or s.option.name in _FOLLOW}
    return own | {"julia_threads": 1, "progress": "off"}


def _check_all_cross(prob: ODEProblem, crossing: Sequence[torch.Tensor]) -> None:
    """Raises if f uses a tensor that workers would find in a module of their own: another value, and no gradient."""
    there = {id(x) for x in crossing}
    try:
        program = record(prob.f, prob.tspan[0], prob.u0, prob.p)
        used = [*program.captured, *program.constants]
    except TraceError:
        used = prepare_callback(prob)[0].captured
    left = [x for x in used if id(x) not in there]
    if left:
        raise UnsupportedError(
            "f uses a tensor that does not cross to the workers: they would find it in a module that they import.",
            got=f"`{parameter_names(replace(prob, p=None), left)[0]}`, shape {list(left[0].shape)}",
            expected="tensors in f's closure, in its module's attributes or in p",
            fix="pass it in p; or stay in this process: pysciml.solve_ensemble(ensemble, executor=\"serial\")",
        )  # fmt: skip


def _leaves(tree: Any) -> list[torch.Tensor]:
    return [] if tree is None else pytree.tree_leaves(tree)


def _cuts(count: int, workers: int) -> list[tuple[int, int]]:
    """Where shares begin and end."""
    shares = min(count, _SHARES * workers)
    edges = [count * i // shares for i in range(shares + 1)]
    return list(itertools.pairwise(edges))


@dataclass(eq=False)
class Call:
    """One solve of an ensemble on its way through autograd. `solved` is set by the forward solve, a `Solved` a share.

    Attributes:
        job: a `Job` as bytes. cuts: where shares begin and end.
        n_u0, n_rows: of the Function's tensors the first are u0's leaves, up to the second p's; workers get the rows of
            their share. The others are everyone's, and inside of the job.
    """

    executor: Executor
    show: Silence
    job: bytes
    cuts: list[tuple[int, int]]
    n_u0: int
    n_rows: int
    solved: list[Solved] = field(default_factory=list)

    def share(self, tensors: Sequence[torch.Tensor], cut: tuple[int, int], grads: Sequence[torch.Tensor] = ()) -> bytes:
        """A `Share` as bytes."""
        start, stop = cut
        mine = [x[start:stop].detach().clone() for x in tensors[: self.n_rows]]
        u0, p = mine[: self.n_u0] or None, mine[self.n_u0 :] or None
        return pickle.dumps(Share(u0, p, [g[start:stop].detach().clone() for g in grads]))

    def run(self, task: Callable, shares: list[bytes], done: Callable[[int, Any], None]) -> None:
        """Runs a task on all shares; `done` gets the number and the result of each as they come."""
        with closing(self.executor.run(task, self.job, shares)) as answers:
            try:
                for i, answer in answers:
                    done(i, tasks.result(answer))
            except KeyboardInterrupt:
                self.executor.stop()
                raise


class _Elsewhere(torch.autograd.Function):
    """Rows of u0 and p, and what all members share, to the leaves of the states, each (N, k, *shape)."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found: dict[int, Solved] = {}

        def done(i: int, share: Solved) -> None:
            found[i] = share
            solved = sum(stop - start for j, (start, stop) in enumerate(call.cuts) if j in found)
            call.show.update(solved, sum(len(x.failures) for x in found.values()))

        call.run(tasks.forward, [call.share(tensors, cut) for cut in call.cuts], done)
        call.solved = [found[i] for i in range(len(call.cuts))]
        ctx.call = call
        ctx.tensors = tensors
        # What an optimizer changes before backward() does not matter: the job and the rows are those of this solve.
        ctx.rows = [x.detach().clone() for x in tensors[: call.n_rows]]
        return tuple(torch.cat(xs).to(tensors[0].device) for xs in zip(*(x.u for x in call.solved), strict=True))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple:
        call, tensors = ctx.call, ctx.tensors
        asked = [cut for cut in call.cuts if any(g[slice(*cut)].count_nonzero() for g in grads)]
        found: dict[int, list] = {}
        call.run(tasks.backward, [call.share(ctx.rows, cut, grads) for cut in asked], found.__setitem__)
        pieces = {cut: found[i] for i, cut in enumerate(asked)}
        total = [_gathered(k < call.n_rows, x, pieces, k) for k, x in enumerate(tensors)]
        name = f'executor="{call.executor.name}"'
        return None, *first_order_only(name, tensors, total)


def _gathered(of_rows: bool, like: torch.Tensor, pieces: dict[tuple[int, int], list], k: int) -> torch.Tensor | None:
    """The gradient in the k-th tensor: each share's in its rows, or the sum of all in what they have in common."""
    there = {cut: found[k] for cut, found in sorted(pieces.items()) if found[k] is not None}
    if not there or not like.requires_grad:
        return None
    total = torch.zeros_like(like)
    for (start, stop), grad in there.items():
        where = total[start:stop] if of_rows else total
        where += grad.to(like)
    return total
