"""From event to event: each stretch is a solve of its own, and torch joins them.

A stretch ends at t* where a condition g(t, u) is zero. With u(t*) from a differentiable solve to the number t*, the
event time that depends on everything is, to first order,

    t_e = t* - g(t*, u(t*)) / (dg/dt + dg/du f),        u_e = u(t*) + f (t_e - t*),

whose values are t* and u(t*) and whose derivatives are those of the implicit function theorem. The affect is torch, and
the next stretch is a problem with u0 and t0 that require grad. So the gradient is right on every engine and route whose
plain solves have one.

Reference: Chen, Amos and Nickel, "Learning neural event functions for ordinary differential equations", ICLR 2021;
for jumps: Corner, Sandu and Sandu, "Adjoint sensitivity analysis of hybrid multibody dynamical systems", Multibody
System Dynamics 49 (2020).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.callbacks import Callback, CallbackSet, PresetTimeCallback, VectorContinuousCallback
from pysciml.engines.base import AT_STEPS, Met, Watch
from pysciml.errors import InvalidInputError, SolveError
from pysciml.events.conditions import Conditions, along
from pysciml.first_order import first_derivative_only
from pysciml.problems import ODEProblem
from pysciml.rhs.parameters import leaf_names
from pysciml.solution import Event, ReturnCode, Solution
from pysciml.solution.stats import total

MAX_EVENTS = 10_000


@dataclass(eq=False)
class Machine:
    """How a stretch is solved.

    Attributes:
        run: `run(prob, ts, met)`, the solution at `ts`; `met` is what `search` found there, if it was asked.
        search: `search(prob, watch)`, the first event of the problem's span.
        slope: `slope(prob, t, u)`, du/dt on the solution, in the structure of u.
        compiles: whether `search` wants the conditions compiled.
    """

    run: Callable[[ODEProblem, torch.Tensor, Met | None], Solution]
    search: Callable[[ODEProblem, Watch], Met]
    slope: Callable[[ODEProblem, float, Any], Any]
    compiles: bool = True


def solve(prob: ODEProblem, callbacks: CallbackSet, ts: torch.Tensor, machine: Machine) -> Solution:
    """The solution at `ts` of a problem with events; where one terminates it, up to there, that time and state last.

    Raises:
        SolveError: more than 10 000 events. InvalidInputError: an affect that returns another structure than u0's.
    """
    return _Path(prob, callbacks, ts, machine).walk()


@dataclass(eq=False)
class _Stretch:
    stop: float
    solution: Solution


@dataclass(eq=False)
class _Due:
    """A preset time to come: `t` as the user gave it."""

    at: float
    t: torch.Tensor
    callback: Callback


@dataclass(eq=False)
class _Path:
    prob: ODEProblem
    callbacks: CallbackSet
    ts: torch.Tensor
    machine: Machine
    rows: list[Any] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    stretches: list[_Stretch] = field(default_factory=list)

    def __post_init__(self):
        self.t0, self.t1 = self.prob.span
        self.ahead = 1.0 if self.t1 > self.t0 else -1.0
        self.times = self.ts.detach().cpu().double().numpy()
        self.saved = 0
        self.t, self.u = self.prob.tspan[0], self.prob.u0
        self.args = () if self.prob.p is None else (self.prob.p,)
        self.conditions = Conditions(self.callbacks, self.prob.inputs)
        self.largest = np.zeros(len(self.conditions))
        self.bands = np.zeros(len(self.conditions))  # of the conditions of the last event
        self.prepared = self.conditions.prepare(self.t0, self.prob.p, self.machine.compiles)
        self.due = self._preset()

    def walk(self) -> Solution:
        start = [due for due in self.due if due.at == self.t0]
        if start:
            self._save_start()
        if start or len(self.conditions):
            self.u = self._consistent(self.u, self.prob.tspan[0])
        over = self._happen(self.prob, self.t0, (), start)
        while not over and _number(self.t) != self.t1:
            over = self._stretch()
            if len(self.events) > MAX_EVENTS:
                raise self._too_many()
        return self._solution(over)

    def _preset(self) -> list[_Due]:
        found = [_Due(float(t.detach()), t, c) for c in self.callbacks.callbacks if isinstance(c, PresetTimeCallback)
                 for t in c.times]  # fmt: skip
        inside = [due for due in found if self.ahead * self.t0 <= self.ahead * due.at <= self.ahead * self.t1]
        return sorted(inside, key=lambda due: self.ahead * due.at)

    # One stretch.

    def _stretch(self) -> bool:
        """Solves to the next event or the end, and lets the event happen. Returns whether it ended the solve."""
        start = _number(self.t)
        due = next((due for due in self.due if self.ahead * due.at > self.ahead * start), None)
        end = self.t1 if due is None else due.at
        here = self.prob.remake(u0=self.u, tspan=(self.t, end))
        met = self._search(here)
        stop, fired = (end, ()) if met is None else (self._settled(met.t, end), met.fired)
        if stop == start:
            raise self._too_many()
        together = [d for d in self.due if d.at == stop]
        preset = together[0].t.to(self.ts) if together else None
        self.u = self._run(here, stop, met, preset)
        self.t = stop if preset is None or not preset.requires_grad else preset
        if met is not None:
            self.largest, self.bands = met.largest, self._bands(stop, fired)
        return self._happen(here, stop, fired, together)

    def _settled(self, t: float, end: float) -> float:
        """The time of an event; one that is another's or a saved one's to rounding is that one."""
        places = np.append(self.times, end)
        nearest = float(places[np.argmin(np.abs(places - t))])
        return nearest if abs(nearest - t) <= 4 * np.spacing(max(abs(t), abs(self.t1 - self.t0))) else t

    def _search(self, here: ODEProblem) -> Met | None:
        if not len(self.conditions):
            return None
        with torch.no_grad():
            watch = self.conditions.watch(self.prepared, here.inputs.p, self._sides(here), self.bands)
            return self.machine.search(here, watch)

    def _sides(self, here: ODEProblem) -> np.ndarray:
        """The sign each condition starts with; of one that is zero, because it was just met, the sign it will have."""
        t, u = _number(self.t), pytree.tree_map(torch.Tensor.detach, here.u0)
        values = self._values(t, u)
        sides = np.sign(values).astype(np.int64)
        self.bands[np.abs(values) > self.bands] = 0  # the affect has taken it away from zero
        zero = np.flatnonzero(((self.bands > 0) | (values == 0)) & (self.conditions.kinds != AT_STEPS))
        if zero.size:
            slope = self.machine.slope(here, t, u)
            for k in zero.tolist():
                rate = along(lambda t, u, k=k: self.conditions.values(t, u, *self.args)[k], t, u, slope)
                sides[k] = int(self.ahead * torch.sign(rate).item())
        return sides

    def _bands(self, stop: float, fired: tuple[int, ...]) -> np.ndarray:
        """What counts as zero of the conditions that were met: they are so to the accuracy of the solve."""
        bands = np.zeros(len(self.conditions))
        if fired:
            found = np.abs(self._values(stop, pytree.tree_map(torch.Tensor.detach, self.u)))
            bands[list(fired)] = np.maximum(1e-9 * self.largest, 10 * found)[list(fired)]
        return bands

    def _values(self, t: float, u: Any) -> np.ndarray:
        return self.conditions.values(self._time(t), u, *self.args).detach().cpu().double().numpy()

    def _run(self, here: ODEProblem, stop: float, met: Met | None, preset: torch.Tensor | None) -> Any:
        """Saves what is to be saved up to `stop`, and returns the state there."""
        until = self._saved_until(stop)
        count, times = until - self.saved, self.ts[self.saved : until]
        there = count > 0 and self.times[until - 1] == stop
        if not there:
            end = self._stop_time(stop) if preset is None else preset
            times = torch.cat([times, end.reshape(1)])
        solution = self.machine.run(here.remake(tspan=(self.t, stop)), times, met)
        if count:
            self.rows.append(pytree.tree_map(lambda x: x[:count], solution.u))
        self.saved = until
        self.stretches.append(_Stretch(stop, solution))
        if there and preset is not None and preset.requires_grad:
            return solution(preset)
        return pytree.tree_map(lambda x: x[-1], solution.u)

    def _saved_until(self, stop: float) -> int:
        return int(np.searchsorted(self.ahead * self.times, self.ahead * stop, side="right"))

    def _save_start(self) -> None:
        """The state at t0, before what happens there."""
        if self.times[0] != self.t0:
            return
        row, moved = self.u, self.ts[0] - self.prob.tspan[0]
        if isinstance(moved, torch.Tensor) and moved.requires_grad:
            slope = self.machine.slope(self.prob, self.t0, pytree.tree_map(torch.Tensor.detach, self.u))
            row = pytree.tree_map(lambda x, f: x + f * moved.to(x), row, slope)
        self.rows.append(pytree.tree_map(lambda x: x[None], row))
        self.saved = 1

    # What happens at its end.

    def _happen(self, here: ODEProblem, stop: float, fired: tuple[int, ...], due: list[_Due]) -> bool:
        """The affects of all that comes at one time, in the order given. Returns whether one of them ends the solve."""
        row, over = self.u, False
        coming = [(d.callback, getattr(d.callback, "affect", None), 0, d.t.to(self.ts)) for d in due]
        if fired:
            t, self.u = self._event(here, stop, row, fired[0])
            self.t = t if t.requires_grad else self.t
            coming += [(*self._of_condition(here, stop, row, k), t) for k in fired]
        given = list(map(id, self.callbacks.callbacks))
        for callback, affect, index, t in sorted(coming, key=lambda c: given.index(id(c[0]))):
            after = self._affected(callback, affect, t, self.u, index)
            self.events.append(Event(t, self.u, after, callback, index))
            self.u, over = after, over or callback.terminate  # type: ignore[attr-defined]
        return over

    def _of_condition(self, here: ODEProblem, stop: float, row: Any, k: int) -> tuple[Callback, Callable | None, int]:
        callback, index = self.conditions.owners[k]
        return callback, _affect(callback, self._rises(here, stop, row, k)), index

    def _rises(self, here: ODEProblem, stop: float, row: Any, k: int) -> bool:
        """Whether condition k crosses zero from negative to positive at a state, along the solve."""
        if self.conditions.kinds[k] != 0:
            return bool(self.conditions.kinds[k] > 0)
        u = pytree.tree_map(torch.Tensor.detach, row)
        rate = along(
            lambda t, u: self.conditions.values(t, u, *self.args)[k], stop, u, self.machine.slope(here, stop, u)
        )
        return bool(self.ahead * rate > 0)

    def _event(self, here: ODEProblem, stop: float, row: Any, k: int) -> tuple[torch.Tensor, Any]:
        """Time and state of an event with their derivatives."""
        end = self._stop_time(stop)
        if self.conditions.kinds[k] == AT_STEPS or not torch.is_grad_enabled():
            return end, row
        value = self.conditions.values(self._time(stop), row, *self.args)[k]
        if not value.requires_grad:
            return end, row
        still = pytree.tree_map(torch.Tensor.detach, row)
        slope = self.machine.slope(here, stop, still)
        rate = along(lambda t, u: self.conditions.values(t, u, *self.args)[k], stop, still, slope)
        span = abs(self.t1 - self.t0)
        if not abs(float(rate)) * span > 1e-10 * max(float(self.largest[k]), 1e-300):
            moved = _Grazing.apply(stop, value).to(end)
        else:
            moved = ((value.detach() - value) / rate).to(end)
        moved = first_derivative_only("an event", moved)
        return end + moved, pytree.tree_map(lambda x, f: x + f * moved.to(x), row, slope)

    def _affected(self, callback: Callback, affect: Callable | None, t: torch.Tensor, u: Any, index: int) -> Any:
        if affect is None:
            return u
        which = (index,) if isinstance(callback, VectorContinuousCallback) else ()
        leaf = pytree.tree_leaves(u)[0]
        after = affect(t.to(leaf), u, *self.args, *which)
        self._check_structure(callback, after)
        return self._consistent(after, t)

    def _consistent(self, u: Any, t: Any) -> Any:
        """A state of a DAE with the algebraic variables that go with the others, as a solve from it starts."""
        mass = self.prob.mass_matrix
        if mass is None or all(bool((m != 0).all()) for m in pytree.tree_leaves(mass)):
            return u
        end = _number(t) + 1e-6 * (self.t1 - self.t0)
        ends = [torch.as_tensor(x, dtype=self.ts.dtype, device=self.ts.device).reshape(1) for x in (t, end)]
        short = self.machine.run(self.prob.remake(u0=u, tspan=(t, end)), torch.cat(ends), None)
        return pytree.tree_map(lambda x: x[0], short.u)

    def _too_many(self) -> SolveError:
        t = _number(self.t)
        return SolveError(
            f"too many events: {len(self.events)} up to t = {t:.6g}, of the span ({self.t0:g}, {self.t1:g}).\n"
            "Likely cause: "
            "events that come ever faster, as of a ball at rest, or a condition that is met at every step.",
            retcode=ReturnCode.MaxIters, t=t, got=f"the last two {self._last_gap():.3g} apart",
            fix="an affect that makes the condition leave zero, or terminate=True once there is little left to happen",
        )  # fmt: skip

    def _last_gap(self) -> float:
        times = [float(e.t.detach()) for e in self.events[-2:]]
        return abs(times[-1] - times[0]) if times else 0.0

    def _check_structure(self, callback: Callback, after: Any) -> None:
        leaves, spec = pytree.tree_flatten(after)
        known, known_spec = pytree.tree_flatten(self.prob.u0)
        same = spec == known_spec and all(isinstance(x, torch.Tensor) for x in leaves)
        if same and all(x.shape == y.shape and x.dtype == y.dtype for x, y in zip(leaves, known, strict=True)):
            return
        got = ", ".join(
            f"{list(x.shape)} {x.dtype}" if isinstance(x, torch.Tensor) else type(x).__name__ for x in leaves
        )
        names = zip(leaf_names(self.prob.u0, "u0"), known, strict=True)
        raise InvalidInputError(
            f"the affect of a {type(callback).__name__} must return the state after the event, as u0 is.",
            got=got or "no tensor", expected=", ".join(f"{n}: {list(x.shape)} {x.dtype}" for n, x in names),
            fix="affect=lambda t, u: torch.stack([u[0], -0.9 * u[1]])",
        )  # fmt: skip

    # Together.

    def _solution(self, over: bool) -> Solution:
        ts = self.ts[: self.saved]
        if over:
            ts = torch.cat([ts, self.events[-1].t.to(ts).reshape(1)])
            self.rows.append(pytree.tree_map(lambda x: x[None], self.u))
        u = pytree.tree_map(lambda *xs: torch.cat(xs), *self.rows)
        prob = self.prob.remake(tspan=(self.prob.tspan[0], _number(self.t))) if over and self.stretches else self.prob
        code = ReturnCode.Terminated if over else ReturnCode.Success
        return Solution(ts, u, prob, code, total([s.solution.stats for s in self.stretches]), self._dense, self.events)

    def _dense(self, times: torch.Tensor) -> Any:
        """Left of an event at its time, as what is saved."""
        if not self.stretches:
            raise InvalidInputError("sol(t) needs a solve that has gone on from its start.",
                                    got=f"an event that ended it at t0 = {self.t0:g}", fix="sol.u[-1]")  # fmt: skip
        ends = self.ahead * np.array([s.stop for s in self.stretches[:-1]])
        which = torch.from_numpy(np.searchsorted(ends, self.ahead * times.detach().cpu().numpy(), side="left"))
        parts, places = [], []
        for k in which.unique().tolist():
            place = torch.nonzero(which == k).reshape(-1)
            parts.append(self.stretches[k].solution(times[place.to(times.device)]))
            places.append(place)
        order = torch.argsort(torch.cat(places)).to(times.device)
        return pytree.tree_map(lambda *xs: torch.cat(xs)[order], *parts)

    def _time(self, t: float) -> torch.Tensor:
        leaf = self.prob.inputs.u[0]
        return torch.tensor(t, dtype=leaf.dtype, device=leaf.device)

    def _stop_time(self, t: float) -> torch.Tensor:
        return torch.tensor(t, dtype=self.ts.dtype, device=self.ts.device)


class _Grazing(torch.autograd.Function):
    """Zero, for an event time that has no derivative."""

    @staticmethod
    def forward(ctx, t: float, value: torch.Tensor) -> torch.Tensor:
        ctx.t = t
        return torch.zeros_like(value)

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        raise SolveError(
            f"the event at t = {ctx.t:.6g} has no derivative: its condition only touches zero there.",
            retcode=ReturnCode.Success, t=ctx.t, direction="backward", got="a condition that does not change along f",
            fix="a condition that crosses zero at an angle, or event.t.detach()",
        )  # fmt: skip


def _affect(callback: Callback, up: bool) -> Callable | None:
    other = getattr(callback, "affect_neg", None)
    return callback.affect if up or other is None else other  # type: ignore[attr-defined]


def _number(t: Any) -> float:
    return float(t.detach()) if isinstance(t, torch.Tensor) else float(t)
