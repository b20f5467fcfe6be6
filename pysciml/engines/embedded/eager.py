"""torchdiffeq as the solver for right-hand sides that stay in eager torch, on any device.

What this adds to torchdiffeq: pytrees of states; steps, tolerances and limits under SciML's names; errors that say
where a solve stopped and why; and gradients that are complete. `DirectAdjoint`, the default, backpropagates through
the steps. `BacksolveAdjoint` is torchdiffeq's adjoint behind an autograd Function of our own, because torchdiffeq's
returns wrong second derivatives without a word, and nothing at all for parameters it was not told of. Here f runs
twice before the solve to find them (`captured.py`). A tensor that f takes up only later, in a branch not taken at t0,
is not found that way; the backward solve looks again at every evaluation, and raises when it meets one.

Reference: Chen et al., "Neural ordinary differential equations", NeurIPS 2018, and the torchdiffeq package.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.algorithms import Algorithm
from pysciml.engines.embedded.torchdiffeq_methods import (
    WELL_INTERPOLATED,
    Stops,
    call,
    kind,
    method_of,
    methods,
    solver_options,
    steps,
    stop_at,
)
from pysciml.errors import InvalidInputError, SolveError, UnsupportedError
from pysciml.first_order import first_order_only
from pysciml.rhs.captured import Held, Substitute, leaves_of, parameters_of, stand_ins
from pysciml.rhs.parameters import Layout, flatten
from pysciml.rhs.trace import _check_derivative, _derivative
from pysciml.sensitivity import BacksolveAdjoint, DirectAdjoint, SensitivityAlgorithm
from pysciml.solution import ReturnCode, Stats

MAXITERS = 100_000
_CALLBACKS = ("callback_step", "callback_accept_step", "callback_reject_step")
_LAST_WORDS = {
    "underflow in dt": ReturnCode.DtLessThanMin,
    "non-finite values in state": ReturnCode.Unstable,
    "max_num_steps exceeded": ReturnCode.MaxIters,
    "invalid interpolation": ReturnCode.Unstable,
    "Reached maximum number of iterations": ReturnCode.MaxIters,  # of a fixed-step method on its way to an event
}


def solve(prob, alg: Algorithm, ts: torch.Tensor, *, reltol: Any, abstol: Any, sensealg: SensitivityAlgorithm,
          dt=None, dtmax=None, maxiters=None, tstops=None, jumps=(),
          watch=lambda reached: contextlib.nullcontext()) -> tuple[Any, Stats, torch.Tensor]:  # fmt: skip
    """The states at `ts` in the structure of u0, time first, what was counted, and the times that were stepped on.

    Arguments as of `pysciml.solve`.

    Args:
        ts: (k,) times from t0 towards t1. abstol: a number, or (n,) in leaf order.
        dt: first step of an adaptive method, the step of a fixed-step one. tstops, jumps: times to step on, and where
            f jumps. watch: a context that is told how to ask for the time reached.

    Raises:
        UnsupportedError: another sensitivity algorithm, or an option this method has no use for.
        InvalidInputError: a fixed-step method without `dt`; f returns another structure or changes u in place.
        SolveError: the solver did not reach the end.
    """
    _check_sensealg(alg, sensealg)
    leaves, layout = flatten(prob.u0)
    u0 = torch.cat([x.reshape(-1) for x in leaves])
    t0, t1 = (torch.as_tensor(t, dtype=ts.dtype, device=ts.device) for t in prob.tspan)
    reltol, abstol = (x.to(ts.device) if isinstance(x, torch.Tensor) else x for x in (reltol, abstol))
    progress = Progress(alg.name, float(t0.detach()), float(t1.detach()), maxiters or MAXITERS)
    stops = Stops.of(() if tstops is None else tstops, jumps, ts)
    job = _Job(Field(prob, layout, progress), alg, sensealg, reltol, abstol, dt, dtmax, stops)
    start, run = time.perf_counter(), _direct if isinstance(sensealg, DirectAdjoint) else _backsolve
    with watch(progress.now):
        u = run(job, t0, t1, ts, u0)
    _check_finite(u, ts, progress)
    return layout.unflatten(u), progress.finish(job.stats, start), progress.stepped_on(ts)


def _check_sensealg(alg: Algorithm, sensealg: SensitivityAlgorithm) -> None:
    fix = f"pysciml.solve(prob, pysciml.{call(alg)}, sensealg=pysciml.DirectAdjoint())"
    if not isinstance(sensealg, (DirectAdjoint, BacksolveAdjoint)):
        raise UnsupportedError(
            f"`{sensealg.name}` is not available for {alg.name} in the embedded engine.",
            got=f"sensealg={sensealg.name}()", expected="DirectAdjoint or BacksolveAdjoint", fix=fix,
        )  # fmt: skip
    if isinstance(sensealg, DirectAdjoint) and (sensealg.reltol or sensealg.abstol or sensealg.alg):
        raise UnsupportedError(
            "`DirectAdjoint` has no backward solve to set reltol, abstol or alg for.", got=repr(sensealg),
            expected="DirectAdjoint(), or BacksolveAdjoint with these", fix=fix,
        )  # fmt: skip


@dataclass(eq=False)
class Progress:
    """How far one solve has come, and how it may end badly.

    Attributes:
        alg: name for messages. t0, t1: the span. maxiters: most steps. direction: "forward" or "backward".
        sign: -1.0 where torchdiffeq reports negated times. t: start of the current step. value: f's last result.
        raised: what f itself raised, which must arrive unchanged.
    """

    alg: str
    t0: float
    t1: float
    maxiters: int
    direction: str = "forward"
    sign: float = 1.0
    nf: int = 0
    steps: int | None = None
    nreject: int | None = None
    t: Any = None
    value: torch.Tensor | None = None
    raised: BaseException | None = None
    ends: list[float] = field(default_factory=list)

    def now(self) -> float:
        """The time reached, for whoever looks on."""
        return math.nan if self.t is None else self.sign * float(self.t.detach())

    def stepped_on(self, ts: torch.Tensor) -> torch.Tensor:
        """The start, and the ends of the steps that were not taken back; the dtype of `ts`."""
        inside = [t for t in self.ends if abs(t - self.t1) > 1e-12 * abs(self.t1 - self.t0)]
        return torch.tensor([self.t0, *inside, self.t1], dtype=ts.dtype, device=ts.device)

    def begin_step(self, t: torch.Tensor, dt: torch.Tensor) -> None:
        self.t, self.steps = t.detach(), (self.steps or 0) + 1
        if self.steps > self.maxiters:
            raise self.stopped(ReturnCode.MaxIters, f"maxiters={self.maxiters}")

    def accept_step(self, t: torch.Tensor, dt: torch.Tensor) -> None:
        self.ends.append(self.sign * float((t + dt).detach()))

    def begin_only_step(self, t: torch.Tensor, dt: torch.Tensor) -> None:
        """A step of a fixed size, which nobody rejects."""
        self.begin_step(t, dt)
        self.accept_step(t, dt)

    def reject_step(self, t: torch.Tensor, dt: torch.Tensor) -> None:
        self.nreject = (self.nreject or 0) + 1

    def stopped(self, retcode: ReturnCode, detail: str, t: float | None = None) -> SolveError:
        """The error of a solve that ended at `t`, or else where the current step began."""
        t = self.sign * float(self.t) if t is None and self.t is not None else float("nan") if t is None else t
        where = f" at t = {t:.6g}" if t == t else ""
        return SolveError(
            f"the {self.direction} solve by {self.alg} stopped{where}, of the span ({self.t0:g}, {self.t1:g}): "
            f"{retcode.name}.\nLikely cause: {retcode.cause}.", retcode=retcode, t=t, direction=self.direction,
            stats=self.finish(Stats(), time.perf_counter()), got=detail, fix=retcode.remedy,
        )  # fmt: skip

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turns the ways torchdiffeq gives up into a SolveError; what f raises passes."""
        try:
            yield
        except (AssertionError, RuntimeError) as error:
            retcode = next((code for text, code in _LAST_WORDS.items() if str(error).startswith(text)), None)
            if error is self.raised or retcode is None:
                raise
            if self.value is not None and not torch.isfinite(self.value).all():
                retcode = ReturnCode.Unstable  # torchdiffeq shrinks the step on NaN until it underflows
            raise self.stopped(retcode, str(error).split(":")[0][:80]) from error

    def finish(self, stats: Stats, start: float) -> Stats:
        rejected = self.nreject or 0
        stats.nf, stats.naccept, stats.nreject = self.nf, self.steps and self.steps - rejected, self.steps and rejected
        stats.wall_time, stats.engine, stats.alg = time.perf_counter() - start, "embedded", self.alg
        return stats


class Field:
    """The user's f on the flat state, as torchdiffeq calls it: (), (n,) -> (n,).

    Attributes:
        progress: whom to tell. p_leaves: the parameters f is given, None of them where it takes none.
        replaced: tensors to put in the place of captured ones, by id.
        known: leaves whose gradient is accounted for; None does not look.
    """

    def __init__(self, prob: Any, layout: Layout, progress: Progress):
        self.f, self.layout, self.progress = prob.f, layout, progress
        self.p_leaves: list[torch.Tensor] = []
        self.p_layout: Layout | None = None
        if prob.p is not None:
            self.p_leaves, self.p_layout = flatten(prob.p)
        self._held = Held(prob.f)
        self.replaced: dict[int, torch.Tensor] = {}
        self.known: set[int] | None = None
        self._strangers: weakref.WeakValueDictionary[int, torch.Tensor] = weakref.WeakValueDictionary()

    def __call__(self, t: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
        self.progress.nf += 1
        if not torch.is_grad_enabled():
            flat = flat.detach()  # a view of it would claim to require grad, but not be connected
        version = flat._version
        try:
            with Substitute(self.replaced) if self.replaced else contextlib.nullcontext():
                du = self._apply(t, flat)
        except BaseException as error:
            self.progress.raised = error
            raise
        if flat._version != version:
            raise InvalidInputError("f changes its state in place.", got="u was written to",
                                    fix="x = x + 1 instead of x += 1, or work on u.clone()")  # fmt: skip
        if self.known is not None and du.requires_grad:
            self._look_for_strangers(t, flat, du)
        self.progress.value = du.detach()
        return du

    def _apply(self, t: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
        u = self.layout.unflatten(flat)
        p = () if self.p_layout is None else (pytree.tree_unflatten(self.p_leaves, self.p_layout.spec),)
        with self._held:
            leaves = _derivative(self.f(t, u, *p), self.layout)
        _check_derivative(leaves, pytree.tree_leaves(u))
        return leaves[0].reshape(-1) if len(leaves) == 1 else torch.cat([x.reshape(-1) for x in leaves])

    def _look_for_strangers(self, t: torch.Tensor, flat: torch.Tensor, du: torch.Tensor) -> None:
        """A leaf met twice that was not there at t0 has a gradient which would be lost; one met once was made in f."""
        for x in leaves_of(du, stop=(t, flat)):
            if id(x) in (self.known or ()):
                continue
            if self._strangers.get(id(x)) is x:
                raise UnsupportedError(
                    "f uses a tensor that requires grad, but did not at the start of the solve: BacksolveAdjoint would "
                    "lose its gradient.", got=f"a tensor of shape {list(x.shape)}", expected="DirectAdjoint",
                    fix="sensealg=pysciml.DirectAdjoint(), or torch.where instead of `if`",
                )  # fmt: skip
            self._strangers[id(x)] = x

    def listen(self, method: str, suffix: str = "") -> None:
        """Lets torchdiffeq tell `progress` of its steps, and the user's own callbacks on f as before."""
        choosy = "callback_accept_step" in methods()[method].valid_callbacks()
        told = {"callback_step": Progress.begin_step if choosy else Progress.begin_only_step,
                "callback_accept_step": Progress.accept_step, "callback_reject_step": Progress.reject_step}  # fmt: skip
        for name in _CALLBACKS:
            ours, theirs = told.get(name), getattr(self.f, name + suffix, None)
            if theirs is not None or (ours is not None and name in methods()[method].valid_callbacks()):
                setattr(self, name + suffix, partial(self._tell, ours, theirs, not suffix))

    def _tell(self, ours: Any, theirs: Any, flat: bool, t0: torch.Tensor, y0: Any, dt: torch.Tensor) -> None:
        if ours is not None:
            ours(self.progress, t0, dt)
        if theirs is not None:
            theirs(t0, self.layout.unflatten(y0) if flat else y0, dt)


@dataclass(eq=False)
class _Job:
    """One solve: f, the algorithm and everything it is to be done with."""

    f: Field
    alg: Algorithm
    sensealg: SensitivityAlgorithm
    reltol: float
    abstol: Any
    dt: float | None
    dtmax: float | None
    stops: Stops
    stats: Stats = field(default_factory=Stats)

    def arguments(self, t1: torch.Tensor, ts: torch.Tensor) -> dict[str, Any]:
        options = solver_options(self.alg, self.dt, self.dtmax)
        method = method_of(self.alg)
        # Never past the end of the span, where f may not be defined; torchdiffeq would step over and interpolate.
        self.stops.put_into(options, self.alg)
        stop_at(method, options, t1.reshape(1) if method in WELL_INTERPOLATED else torch.cat([ts, t1.reshape(1)]))
        return {"rtol": self.reltol, "atol": self.abstol, "method": method, "options": options}

    def backward_arguments(self, times: torch.Tensor) -> dict[str, Any]:
        sense = self.sensealg
        alg: Any = sense.alg or self.alg
        if not isinstance(alg, Algorithm) or alg.embedded != "torchdiffeq":
            raise UnsupportedError(
                "BacksolveAdjoint solves backwards with an eager algorithm.", got=f"alg={sense.alg!r}",
                expected="Tsit5, DP5, BS3, Heun, Euler or TorchDiffEq", fix="BacksolveAdjoint()",
            )  # fmt: skip
        # One number: abstol per state says nothing of the adjoint and the parameters in the backward solve's state.
        abstol = sense.abstol or float(torch.as_tensor(self.abstol).min())
        reltol = sense.reltol or float(torch.as_tensor(self.reltol).min())
        options = solver_options(alg, self.dt, self.dtmax)
        # A solve backwards in time is one forwards in negated time to torchdiffeq, and its adjoint knows only that.
        sign = -1.0 if self.f.progress.t1 < self.f.progress.t0 else 1.0
        self.stops.put_into(options, alg, sign)
        stop_at(method_of(alg), options, sign * times)
        return {"adjoint_rtol": reltol, "adjoint_atol": abstol, "adjoint_method": method_of(alg),
                "adjoint_options": options}  # fmt: skip

    def grid(self, t0: torch.Tensor, t1: torch.Tensor, ts: torch.Tensor) -> tuple[torch.Tensor, slice]:
        """The times torchdiffeq solves for, and which of them are those after the start asked for."""
        inner = ts[1:] if starts_at(t0, ts) else ts
        times = torch.cat([t0.reshape(1), inner])
        if kind(method_of(self.alg)) == "fixed" and inner.numel():
            times = torch.cat([times, self._end(t0, t1, inner[-1])])
        return times, slice(1, 1 + inner.numel())

    def _end(self, t0: torch.Tensor, t1: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """The end of the fixed step that `last` lies in, so that saving fewer times does not move the steps."""
        dt = self.dt or getattr(self.alg, "options", {}).get("step_size")
        span = float(last.detach() - t0.detach())
        if dt is None:
            return last.new_empty(0)
        count = steps(span, float(dt))
        end = t0 + math.copysign(count * float(dt), span)
        end = t1 if (float(end.detach()) - float(t1.detach())) * span > 0 else end
        return end.reshape(1) if abs(float(end.detach() - t0.detach())) > abs(span) * (1 + 1e-12) else last.new_empty(0)


def starts_at(t0: torch.Tensor, ts: torch.Tensor) -> bool:
    """Whether the first save time is the start, but for rounding."""
    a, b = float(t0.detach()), float(ts[0].detach())
    return abs(a - b) <= 1e-12 * max(abs(a), abs(b), abs(float(ts[-1].detach()) - a))


def moved(f: Callable, t: torch.Tensor, u: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """u a time `by` later, where `by` is zero: the value is u's, the first two derivatives in all arguments are right.

    (One midpoint step has a local error of third order.)
    """
    by = by.to(u.dtype)
    t = t.to(u.dtype)
    return u + by * f(t + 0.5 * by, u + 0.5 * by * f(t, u))


def _direct(job: _Job, t0: torch.Tensor, t1: torch.Tensor, ts: torch.Tensor, u0: torch.Tensor) -> torch.Tensor:
    method = method_of(job.alg)
    if kind(method) == "scipy" and torch.is_grad_enabled():
        _refuse_gradient_of_scipy(job, ts, u0)
    u = _run(job, "odeint", job.grid(t0, t1, ts), u0, **job.arguments(t1, ts))
    if not starts_at(t0, ts):
        return u
    by = ts[0] - t0
    first = moved(job.f, t0, u0, by) if by.requires_grad else u0
    return torch.cat([first[None], u])


def _run(job: _Job, name: str, grid: tuple[torch.Tensor, slice], u0: torch.Tensor, **arguments: Any) -> torch.Tensor:
    """The states at the times of the grid that were asked for."""
    times, asked = grid
    if len(times) == 1:
        return u0.new_empty(0, u0.numel())
    job.f.listen(arguments["method"])
    with job.f.progress.watched():
        u = getattr(importlib.import_module("torchdiffeq"), name)(job.f, u0, times, **arguments)
    if len(u) != len(times):  # SciPy's solvers return what they had
        t = float(times[max(len(u) - 1, 0)].detach())
        raise job.f.progress.stopped(ReturnCode.Failure, f"{len(u)} of {len(times)} times", t=t)
    return u[asked]


def _refuse_gradient_of_scipy(job: _Job, ts: torch.Tensor, u0: torch.Tensor) -> None:
    if any(x.requires_grad for x in [u0, ts, *job.f.p_leaves, *_captured(job, ts, u0)]):
        raise UnsupportedError(
            "SciPy's solvers cannot be backpropagated through.", got="scipy_solver with DirectAdjoint()",
            expected="BacksolveAdjoint, or torch.no_grad() for the solution alone",
            fix="sensealg=pysciml.BacksolveAdjoint()",
        )  # fmt: skip


def _captured(job: _Job, ts: torch.Tensor, u0: torch.Tensor) -> list[torch.Tensor]:
    """What f depends on besides its arguments."""
    given = job.f.p_leaves
    job.f.p_leaves = [x.detach() for x in given]
    try:
        t, u = ts[0].detach().to(u0.dtype), u0.detach()
        return parameters_of(job.f.f, lambda: job.f(t, u))
    finally:
        job.f.p_leaves = given


def _check_finite(u: torch.Tensor, ts: torch.Tensor, progress: Progress) -> None:
    finite = torch.isfinite(u.detach()).all(dim=1)
    if not finite.all():
        t = float(ts[int((~finite).nonzero()[0])].detach())
        raise progress.stopped(ReturnCode.Unstable, "NaN or infinity in the result", t=t)


def _backsolve(job: _Job, t0: torch.Tensor, t1: torch.Tensor, ts: torch.Tensor, u0: torch.Tensor) -> torch.Tensor:
    grid = job.grid(t0.detach(), t1.detach(), ts.detach())
    backward = job.backward_arguments(grid[0])
    found = _captured(job, ts, u0) if torch.is_grad_enabled() else []
    if any(x.is_complex() for x in found):
        raise UnsupportedError(
            "torchdiffeq's adjoint knows no complex parameters.", got="a captured complex tensor, BacksolveAdjoint()",
            expected="DirectAdjoint; or the tensor as p, with f(t, u, p)", fix="sensealg=pysciml.DirectAdjoint()",
        )  # fmt: skip
    given = [*job.f.p_leaves, *found]
    job.f.p_leaves = [x.detach().requires_grad_(x.requires_grad) for x in job.f.p_leaves]
    stands, job.f.replaced = stand_ins(found)
    inner = [*job.f.p_leaves, *stands]
    job.f.listen(backward["adjoint_method"], "_adjoint")

    def run(u0: torch.Tensor) -> torch.Tensor:
        wanted = tuple(x for x in inner if x.requires_grad)
        arguments = job.arguments(t1, ts) | backward
        return _run(job, "odeint_adjoint", grid, u0, adjoint_params=wanted, **arguments)

    return _Backsolve.apply(job, run, inner, t0, ts, u0, *given)


class _Backsolve(torch.autograd.Function):
    """(t0, ts (k,), u0 (n,), parameters) -> states (k, n), by torchdiffeq's adjoint; once differentiable."""

    @staticmethod
    def forward(ctx, job: _Job, run: Callable, inner: list[torch.Tensor], t0, ts, u0, *given) -> torch.Tensor:
        start = u0.detach().requires_grad_()
        with torch.enable_grad():
            solved = run(start)
            if starts_at(t0, ts):
                solved = torch.cat([start[None], solved])
        ctx.job, ctx.solved, ctx.inner = job, solved, [start, *inner]
        ctx.given = (t0, ts, u0, *given)
        return solved.detach()

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        with torch.no_grad():
            grads = _pull_back(ctx, grad)
        return None, None, None, *first_order_only("BacksolveAdjoint", ctx.given, grads)


def _pull_back(ctx: Any, grad: torch.Tensor) -> list[torch.Tensor | None]:
    job, progress = ctx.job, ctx.job.f.progress
    sign = -1.0 if progress.t1 < progress.t0 else 1.0
    job.f.progress = back = Progress(progress.alg, progress.t0, progress.t1, progress.maxiters, "backward", sign)
    job.f.known = {id(x) for x in ctx.inner}
    start = time.perf_counter()
    try:
        with back.watched():
            wanted = [x for x in ctx.inner if x.requires_grad]
            found = iter(torch.autograd.grad(ctx.solved, wanted, grad, retain_graph=True, allow_unused=True))
    finally:
        job.f.known = None
    du0, dp = next(found), [next(found) if x.requires_grad else None for x in ctx.inner[1:]]
    if not all(torch.isfinite(x).all() for x in (du0, *dp) if x is not None):
        raise back.stopped(ReturnCode.Unstable, "NaN or infinity in the gradient", t=float("nan"))
    dt0, dts = _times(ctx, grad, du0)
    job.stats.backward = back.finish(Stats(), start)
    return [dt0, dts, du0, *dp]


def _times(ctx: Any, grad: torch.Tensor, du0: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Exact: a saved state moves along du/dt, and a later start is a shift of u0 against it."""
    t0, ts, u0 = ctx.given[:3]
    f = ctx.job.f
    dt0 = dts = None
    if t0.requires_grad:
        dt0 = -(du0 @ f(t0.to(u0.dtype), u0)).to(t0.dtype)
    if ts.requires_grad:
        slopes = torch.stack([f(t.to(u0.dtype), u) for t, u in zip(ts, ctx.solved.detach(), strict=True)])
        dts = (grad * slopes).sum(dim=1).to(ts.dtype)
    return dt0, dts
