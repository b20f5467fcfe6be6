"""odeint, odeint_adjoint and odeint_event: torchdiffeq's calls, so that code written for it moves with one import.

torchdiffeq's own methods go to torchdiffeq, with its numerics to the last digit; SciML's names beside them, and the
compiled algorithms (`CVODE_BDF`, `CVODE_Adams`) through `pysciml.solve`. Where torchdiffeq would leave a gradient out
or get it wrong without a word, it is right here, or refused:

- the adjoint finds the parameters by itself, in modules, closures and globals, and refuses second derivatives;
- with `step_size`, save times that fall on a step have their gradients;
- an event time has its gradient, in the parameters of the event function too;
- SciPy's solvers raise on `backward()`.

A solver that gives up raises `SolveError` with the time reached, where torchdiffeq fails an assertion.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from pysciml import first_order
from pysciml.algorithms import Algorithm, by_name
from pysciml.callbacks import VectorContinuousCallback
from pysciml.engines.embedded import torchdiffeq_methods as native
from pysciml.engines.embedded.eager import Progress, moved
from pysciml.errors import InvalidInputError, SolveError, UnsupportedError
from pysciml.problems import ODEProblem
from pysciml.rhs import captured
from pysciml.sensitivity import GaussAdjoint
from pysciml.solution import ReturnCode
from pysciml.solve import solve

State = torch.Tensor | tuple[torch.Tensor, ...]
Tolerance = float | torch.Tensor | Sequence[Any]
Method = str | Algorithm | None
_RTOL, _ATOL = 1e-7, 1e-9
_OPTIONS = {"first_step": "dt", "max_step": "dtmax", "max_num_steps": "maxiters"}
_MAX_STEPS_TO_AN_EVENT = 100_000
_DOUBLINGS = 48  # of the way that is searched for an event


def odeint(
    func: Callable,
    y0: State,
    t: torch.Tensor,
    *,
    rtol: Tolerance = _RTOL,
    atol: Tolerance = _ATOL,
    method: Method = None,
    options: dict[str, Any] | None = None,
    event_fn: Callable | None = None,
) -> Any:
    """Solves dy/dt = func(t, y), y(t[0]) = y0, with torchdiffeq's call.

    Gradients of torchdiffeq's methods come from backpropagation through the steps; those of compiled algorithms from
    the adjoint solve.

    Args:
        func: `func(t, y)` with a scalar tensor t; returns dy/dt as y is: one tensor, or a tuple of them.
        y0: a tensor of any shape, or a tuple of tensors.
        t: (k,) floating, strictly increasing or decreasing, t[0] the start; may require grad.
        rtol, atol: numbers, tensors that broadcast with y0, or for a tuple state one of these for each part.
        method: torchdiffeq's name, SciML's name, or an algorithm. None: `dopri5`.
        options: torchdiffeq's options of the method. Compiled algorithms know `first_step`, `max_step` and
            `max_num_steps`.
        event_fn: `event_fn(t, y)`; the solve ends where it crosses zero, and `t` is (2,): the start, and a time on the
            side to go to. Compiled algorithms look first from 1/64 of that way on, and double it until the event comes.

    Returns:
        (k, *y0.shape), or a tuple of them; with `event_fn`, `(event_t, solution)`, the solution at start and event.
        The solution's gradient is that at a fixed event time, as in torchdiffeq; `odeint_event` has the full one.

    Raises:
        InvalidInputError: an unknown method (did you mean), times out of order, an integer state.
        UnsupportedError: an option or a tolerance the algorithm cannot take. SolveError: it gave up.

    Example:
        >>> import torch, pysciml as ps
        >>> y0, t = torch.ones(2, dtype=torch.float64), torch.linspace(0.0, 1.0, 5, dtype=torch.float64)
        >>> y = ps.odeint(lambda t, y: -y, y0, t, method="CVODE_BDF")
        >>> y.shape, round(y[-1, 0].item(), 5)
        (torch.Size([5, 2]), 0.36788)
    """
    _check(func, y0, t)
    choice = _choose(method, options)
    if isinstance(choice, Algorithm):
        return _compiled(func, y0, t, rtol, atol, choice, options, event_fn, GaussAdjoint())
    call = _Call(func, y0, t, choice.method, choice.options, event_fn)
    out = call.run("odeint", call.func, y0, call.native_times(), rtol=rtol, atol=atol)
    if event_fn is None:
        return call.with_times(call.with_refusal(out))
    event_t, y = out
    return _event_time(func, event_fn, y0, t[0], event_t, y), y


def odeint_adjoint(
    func: Callable,
    y0: State,
    t: torch.Tensor,
    *,
    rtol: Tolerance = _RTOL,
    atol: Tolerance = _ATOL,
    method: Method = None,
    options: dict[str, Any] | None = None,
    event_fn: Callable | None = None,
    adjoint_rtol: Tolerance | None = None,
    adjoint_atol: Tolerance | None = None,
    adjoint_method: Method = None,
    adjoint_options: dict[str, Any] | None = None,
    adjoint_params: Sequence[torch.Tensor] | None = None,
) -> Any:
    """`odeint` with gradients from an adjoint solve backwards in time: memory does not grow with the steps.

    Args:
        func, y0, t, rtol, atol, method, options, event_fn: as of `odeint`.
        adjoint_rtol, adjoint_atol, adjoint_method, adjoint_options: those of the backward solve; None takes the
            forward ones.
        adjoint_params: what to differentiate with respect to beside y0 and t. None finds every tensor that requires
            grad and that func depends on; func need not be a module. Compiled algorithms always find them.

    Returns, raises: as `odeint`. Differentiating twice raises `UnsupportedError`; `odeint` can.

    Example:
        >>> import torch, pysciml as ps
        >>> k = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        >>> t = torch.tensor([0.0, 2.0], dtype=torch.float64)
        >>> ps.odeint_adjoint(lambda t, y: -k * y, torch.ones(1, dtype=torch.float64), t)[-1].sum().backward()
        >>> round(k.grad.item(), 4)
        -0.7358
    """
    _check(func, y0, t)
    choice, back = _choose(method, options), _choose(adjoint_method, adjoint_options)
    if isinstance(choice, Algorithm):
        sensealg = _sensealg(adjoint_rtol, adjoint_atol, adjoint_method, adjoint_options)
        return _compiled(func, y0, t, rtol, atol, choice, options, event_fn, sensealg)
    if isinstance(back, Algorithm):
        raise UnsupportedError(f"{choice.method} cannot be solved backwards by {back.name}.",
                               got=f"adjoint_method={adjoint_method!r}", expected="one of torchdiffeq's methods",
                               fix=f'method="{back.name}", which solves both ways')  # fmt: skip
    backward = {
        "adjoint_rtol": adjoint_rtol, "adjoint_atol": adjoint_atol,
        "adjoint_method": None if adjoint_method is None else back.method,
        "adjoint_options": None if adjoint_options is None else back.options,
    }  # fmt: skip
    call = _Call(func, y0, t, choice.method, choice.options, event_fn)
    event_t, y = _solve_adjoint(call, y0, adjoint_params, backward, rtol=rtol, atol=atol)
    return y if event_fn is None else (_event_time(func, event_fn, y0, t[0], event_t, y), y)


def odeint_event(
    func: Callable,
    y0: State,
    t0: torch.Tensor,
    *,
    event_fn: Callable,
    reverse_time: bool = False,
    odeint_interface: Callable = odeint,
    **kwargs: Any,
) -> tuple[torch.Tensor, Any]:
    """Solves from t0 until `event_fn(t, y)` crosses zero; time and state there are differentiable.

    Args:
        func, y0: as of `odeint`. t0: scalar floating tensor; may require grad.
        event_fn: `event_fn(t, y)`, a tensor; of several values, the first to cross zero ends the solve.
        reverse_time: go backwards from t0. odeint_interface: `odeint` or `odeint_adjoint`. kwargs: passed on to it.

    Returns:
        `(event_t, solution)`: a scalar, and (2, *y0.shape) or a tuple of them, at t0 and at the event. Gradients are
        total ones, those of the event time in tensors that `event_fn` captures included; second derivatives raise.

    Raises:
        As `odeint`; SolveError after 100 000 steps without an event, unless `options` has `max_num_steps`, and with
        compiled algorithms where none has come up to t = 2e12.

    Example:
        >>> import torch, pysciml as ps
        >>> height, v = torch.tensor([2.0, 0.0], dtype=torch.float64)
        >>> fall = lambda t, y: torch.stack([y[1], -9.81 * torch.ones_like(y[1])])
        >>> t0 = torch.zeros((), dtype=torch.float64)
        >>> when, _ = ps.odeint_event(fall, torch.stack([height, v]), t0, event_fn=lambda t, y: y[0])
        >>> round(when.item(), 4)
        0.6386
    """
    if not isinstance(t0, torch.Tensor) or not t0.is_floating_point() or t0.numel() != 1:
        raise InvalidInputError("t0 must be a scalar floating tensor.", got=f"{t0!r:.60}", fix="torch.tensor(0.0)")
    start = t0.reshape(-1)
    towards = start.detach() - 1.0 if reverse_time else start.detach() + 1.0
    event_t, y = odeint_interface(func, y0, torch.cat([start, towards]), event_fn=event_fn, **kwargs)
    when = _event_time(func, event_fn, y0, start[0], event_t, y)
    with torch.no_grad():
        slopes = _parts(func(when.to(_parts(y)[0].real.dtype), _last(y)))
    parts = [torch.cat([x[:-1], (x[-1] + (when - when.detach()).to(x.dtype) * f)[None]])
             for x, f in zip(_parts(y), slopes, strict=True)]  # fmt: skip
    parts = [_once(x) for x in parts]
    return when, parts[0] if isinstance(y, torch.Tensor) else tuple(parts)


def _event_time(func, event_fn, y0, t0: torch.Tensor, event_t: torch.Tensor, y: State) -> torch.Tensor:
    """The event time with its gradient, by one Newton step on c(t, y(t)) = 0 from its root; the value stays."""
    when, state = event_t.detach(), _last(y)
    dtype = _parts(y)[0].real.dtype
    with torch.no_grad():
        sides = [event_fn(t.to(dtype), y).detach() for t, y in ((t0.detach(), y0), (when, state))]
        signs = torch.sign(torch.where(sides[0] == 0, sides[1], sides[0]))  # of one that starts with zero, a later one

    def condition(t: torch.Tensor, y: State) -> torch.Tensor:
        return torch.min(event_fn(t, y) * signs)

    c = condition(when.to(dtype), state)
    if not c.requires_grad:
        return when
    with torch.enable_grad():
        inputs = [x.detach().clone().requires_grad_() for x in (when.to(dtype), *_parts(state))]
        there = inputs[1] if isinstance(state, torch.Tensor) else tuple(inputs[1:])
        dc = torch.autograd.grad(condition(inputs[0], there), inputs, allow_unused=True)
    slopes = [torch.ones_like(when).to(dtype), *_parts(func(inputs[0].detach(), _map(torch.Tensor.detach, there)))]
    rate = sum((d * s.detach()).sum() for d, s in zip(dc, slopes, strict=True) if d is not None)
    return _once((when - (c - c.detach()) / rate).to(event_t.dtype))


def _once(x: torch.Tensor) -> torch.Tensor:
    return first_order.first_derivative_only("an event", x) if x.requires_grad else x


@dataclass
class _Native:
    """A method that torchdiffeq solves, by its name there."""

    method: str
    options: dict[str, Any]


def _choose(method: Method, options: dict[str, Any] | None) -> _Native | Algorithm:
    """Who solves."""
    if method is None or isinstance(method, str):
        name = method or "dopri5"
        if name in native.methods():
            return _Native(name, dict(options or {}))
        method = by_name(name, native.aliases())
    if not isinstance(method, Algorithm):
        raise InvalidInputError("method must be a name or an algorithm.", got=f"{method!r:.60}", fix='method="dopri5"')
    if method.embedded != "torchdiffeq":
        return method
    return _Native(native.method_of(method), getattr(method, "options", {}) | (options or {}))


def _check(func: Any, y0: Any, t: Any) -> None:
    if not callable(func):
        raise InvalidInputError("func must be callable.", got=type(func).__name__, fix="def func(t, y): ...")
    if not isinstance(y0, (torch.Tensor, tuple)) or not all(isinstance(x, torch.Tensor) for x in _parts(y0)):
        raise InvalidInputError("y0 must be a tensor or a tuple of tensors.", got=type(y0).__name__, fix="tuple(y0)")
    if not _parts(y0) or not all(x.is_floating_point() or x.is_complex() for x in _parts(y0)):
        raise InvalidInputError("y0 must hold floating tensors.", got=str([x.dtype for x in _parts(y0)]),
                                fix="y0.double()")  # fmt: skip
    if not isinstance(t, torch.Tensor) or not t.is_floating_point() or t.dim() != 1 or t.numel() == 0:
        got = f"{t.dtype}, shape {list(t.shape)}" if isinstance(t, torch.Tensor) else type(t).__name__
        raise InvalidInputError("t must be a one-dimensional floating tensor.", got=got,
                                fix="torch.linspace(0.0, 1.0, 20)")  # fmt: skip
    steps = t.detach().diff()
    if not ((steps > 0).all() or (steps < 0).all()):
        raise InvalidInputError("t must be strictly increasing or decreasing.", got=f"{t.tolist()!r:.60}",
                                fix="torch.unique(t)")  # fmt: skip


def _parts(y: State) -> tuple[torch.Tensor, ...]:
    return (y,) if isinstance(y, torch.Tensor) else tuple(y)


def _map(f: Callable, y: State) -> State:
    return f(y) if isinstance(y, torch.Tensor) else tuple(map(f, y))


def _last(y: State) -> State:
    return _map(lambda x: x[-1], y)


# ---------------------------------------------------------------------------------------------------------------------
# torchdiffeq's methods


class _Watched:
    """func, as torchdiffeq calls it, noting how far it came; its callbacks and attributes are func's."""

    def __init__(self, func: Callable, progress: Any):
        self.__dict__.update(_func=func, _progress=progress, _replaced={})

    def __call__(self, t: torch.Tensor, y: Any) -> Any:
        self._progress.t, self._progress.nf = t.detach(), self._progress.nf + 1
        try:
            if not self._replaced:
                out = self._func(t, y)
            else:
                with captured.Substitute(self._replaced):
                    out = self._func(t, y)
        except BaseException as error:
            self._progress.raised = error
            raise
        self._progress.value = out.detach() if isinstance(out, torch.Tensor) else None
        return out

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_func"], name)


class _Call:
    """One call of torchdiffeq."""

    def __init__(self, func: Callable, y0: State, t: torch.Tensor, method: str, options: dict[str, Any], event_fn: Any):
        self.kind = native.kind(method)
        if event_fn is not None and self.kind == "adaptive":
            options.setdefault("max_num_steps", _MAX_STEPS_TO_AN_EVENT)
        ends = t.detach()[[0, -1]].tolist()
        self.progress = Progress(method, ends[0], float("inf") if event_fn is not None else ends[1], 0)
        self.func, self.y0, self.t, self.event_fn = _Watched(func, self.progress), y0, t, event_fn
        self.arguments = {"method": method, "options": options, "event_fn": event_fn}

    def run(self, name: str, *args: Any, **kwargs: Any) -> Any:
        with self.progress.watched():
            out = getattr(importlib.import_module("torchdiffeq"), name)(*args, **self.arguments, **kwargs)
        if self.event_fn is None:
            self._check_complete(out)
        return out

    def _check_complete(self, out: State) -> None:
        # torchdiffeq passes on what SciPy returns, and SciPy what it had when it gave up.
        if len(_parts(out)[0]) != len(self.t):
            raise self.progress.stopped(ReturnCode.Failure, f"{len(_parts(out)[0])} of {len(self.t)} times")

    @property
    def loses_times(self) -> bool:
        """Whether torchdiffeq drops the gradient of a save time: its linear interpolation returns the step's end."""
        options = self.arguments["options"]
        stepped = options.get("step_size") is not None or options.get("grid_constructor") is not None
        linear = options.get("interp", "linear") == "linear"
        return self.kind == "fixed" and stepped and linear and self.t.requires_grad and len(self.t) > 2

    def native_times(self) -> torch.Tensor:
        return torch.cat([self.t[:1], self.t[1:-1].detach(), self.t[-1:]]) if self.loses_times else self.t

    def with_times(self, y: State) -> State:
        """The solution with the gradients of its save times, where torchdiffeq leaves them out."""
        if not self.loses_times:
            return y
        rows = [list(x.unbind()) for x in _parts(y)]
        for k in range(1, len(self.t) - 1):
            here = tuple(x[k] for x in rows)
            moved = self._moved(self.t[k].detach(), here, self.t[k] - self.t[k].detach())
            for x, row in zip(rows, moved, strict=True):
                x[k] = row
        parts = tuple(torch.stack(x) for x in rows)
        return parts[0] if isinstance(y, torch.Tensor) else parts

    def _moved(self, t: torch.Tensor, y: tuple, by: torch.Tensor) -> tuple:
        shapes, sizes = [x.shape for x in y], [x.numel() for x in y]

        def split(flat: torch.Tensor) -> tuple:
            return tuple(x.reshape(s) for x, s in zip(flat.split(sizes), shapes, strict=True))

        def f(t: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
            parts = split(flat)
            out = self.func(t, parts if isinstance(self.y0, tuple) else parts[0])
            return torch.cat([x.reshape(-1) for x in _parts(out)])

        return split(moved(f, t, torch.cat([x.reshape(-1) for x in y]), by))

    def with_refusal(self, y: State) -> State:
        if self.kind != "scipy" or not torch.is_grad_enabled():
            return y
        anchors = [x for x in [self.t, *_parts(self.y0), *self.parameters()] if x.requires_grad]
        return _map(lambda x: first_order.without_gradient("scipy_solver", x, anchors), y) if anchors else y

    def parameters(self) -> list[torch.Tensor]:
        start = self.t[0].detach().to(_parts(self.y0)[0].real.dtype)
        y0 = _map(torch.Tensor.detach, self.y0)
        return captured.parameters_of(self.func._func, lambda: self.func(start, y0))


def _solve_adjoint(
    call: _Call, y0: State, params: Any, backward: dict[str, Any], **tolerances: Any
) -> tuple[Any, State]:
    """torchdiffeq's adjoint, behind a Function of our own that refuses second derivatives."""
    found = call.parameters() if params is None else [x for x in params if isinstance(x, torch.Tensor)]
    stands, call.func.__dict__["_replaced"] = captured.stand_ins([x for x in found if x.requires_grad])
    starts, shapes = _parts(y0), [x.shape for x in _parts(y0)]

    def run(t: torch.Tensor, parts: Sequence[torch.Tensor]) -> tuple[torch.Tensor | None, torch.Tensor]:
        y = parts[0] if isinstance(y0, torch.Tensor) else tuple(parts)
        out = call.run("odeint_adjoint", call.func, y, t, adjoint_params=tuple(stands), **tolerances, **backward)
        event_t, y = (None, out) if call.event_fn is None else out
        # One tensor, laid out as torchdiffeq has it, so that there is one node in the graph.
        return event_t, y if isinstance(y, torch.Tensor) else torch.cat([x.reshape(len(x), -1) for x in y], dim=1)

    given = [x for x in found if x.requires_grad]
    event_t, flat = _Adjoint.apply(call.progress, run, stands, len(starts), call.t, *starts, *given)
    if isinstance(y0, torch.Tensor):
        return event_t, flat
    ends = list(accumulate(s.numel() for s in shapes))
    return event_t, tuple(flat[..., b - s.numel() : b].view(len(flat), *s) for s, b in zip(shapes, ends, strict=True))


class _Adjoint(torch.autograd.Function):
    """(t, state leaves, parameters) -> solution (k, ...), once differentiable.

    The node carries torchdiffeq's `adjoint_options`, as its own does.
    """

    @staticmethod
    def forward(ctx, progress: Any, run: Callable, stands: list, count: int, t: torch.Tensor, *tensors: torch.Tensor):
        ctx.inputs = (t, *tensors)
        inner = [x.detach().requires_grad_(x.requires_grad) for x in (t, *tensors[:count])]
        with torch.enable_grad():
            event_t, flat = run(inner[0], inner[1:])
        ctx.progress, ctx.flat, ctx.inner = progress, flat, [*inner, *stands]
        ctx.adjoint_options = _adjoint_options(flat)
        if event_t is None:
            return None, flat.detach()
        event_t = event_t.detach()
        ctx.mark_non_differentiable(event_t)  # its gradient is found from the event's condition
        return event_t, flat.detach()

    @staticmethod
    def backward(ctx, _, grad: torch.Tensor):
        wanted = [x for x in ctx.inner if x.requires_grad]
        ctx.progress.direction = "backward"
        with torch.no_grad(), ctx.progress.watched():
            found = iter(torch.autograd.grad(ctx.flat, wanted, grad, retain_graph=True, allow_unused=True))
        grads = [next(found) if x.requires_grad else None for x in ctx.inner]
        return None, None, None, None, *first_order.first_order_only("odeint_adjoint", ctx.inputs, grads)


def _adjoint_options(flat: torch.Tensor) -> dict[str, Any] | None:
    todo = [] if flat.grad_fn is None else [flat.grad_fn]
    while todo:
        node = todo.pop()
        if hasattr(node, "adjoint_options"):
            return node.adjoint_options
        todo += [n for n, _ in node.next_functions if n is not None]
    return None


# ---------------------------------------------------------------------------------------------------------------------
# Compiled algorithms


def _compiled(func, y0, t, rtol, atol, alg: Algorithm, options, event_fn, sensealg: GaussAdjoint) -> Any:
    if any(x.is_complex() for x in _parts(y0)):
        raise UnsupportedError(f"`{alg.name}` solves real states.", got=str(_parts(y0)[0].dtype),
                               expected="torchdiffeq's methods, or real and imaginary part as two",
                               fix="y0 = torch.view_as_real(y0)")  # fmt: skip
    if len(t) == 1:
        return _map(lambda x: x[None], y0)
    reltol, abstol = _tolerances(y0, rtol, atol)
    steps = _steps(alg, options)
    common: dict[str, Any] = {"reltol": reltol, "abstol": abstol, "sensealg": sensealg, **steps}
    if event_fn is None:
        return solve(ODEProblem(func, y0, (t[0], t[-1])), alg, saveat=t, **common).u
    event_t, y = _until_event(func, y0, t, event_fn, alg, {"maxiters": _MAX_STEPS_TO_AN_EVENT} | common)
    return _event_time(func, event_fn, y0, t[0], event_t, y), y


def _until_event(func: Callable, y0: State, t: torch.Tensor, event_fn: Callable, alg: Algorithm, common: dict) -> Any:
    """The event's time, and the states there and at the start with the gradients that they have at fixed times."""
    start, way = t[0].detach().double(), (t[-1] - t[0]).detach().double()
    with torch.no_grad():
        count = torch.as_tensor(event_fn(t[0].to(_parts(y0)[0].dtype), y0)).numel()
    stop = VectorContinuousCallback(lambda t, y: event_fn(t, y).reshape(-1), None, count, terminate=True)
    for k in range(_DOUBLINGS):
        end = (start + way * 2.0 ** (k - 6)).item()
        sol = solve(ODEProblem(func, y0, (t[0], end)), alg, callback=stop, **common)
        if sol.events:
            when = sol.events[-1].t.detach()
            parts = [torch.stack(pair) for pair in zip(_parts(y0), _parts(sol(when)), strict=True)]
            return when.to(t), parts[0] if isinstance(y0, torch.Tensor) else tuple(parts)
    raise SolveError(
        f"no event came from t = {start.item():g} on, as far as {alg.name} went.", retcode=ReturnCode.MaxIters, t=end,
        got=f"no change of sign up to t = {end:g}", fix="event_fn that crosses zero, or reverse_time=True",
    )  # fmt: skip


def _tolerances(y0: State, rtol: Tolerance, atol: Tolerance) -> tuple[float | None, Any]:
    """As `pysciml.solve` takes them."""
    reltol = _scalar("rtol", rtol)
    if isinstance(atol, float) and (reltol, atol) == (_RTOL, _ATOL) and _parts(y0)[0].dtype is torch.float32:
        return None, None  # the defaults: nobody asked for more than float32 can give
    if isinstance(atol, (list, tuple)):
        return reltol, tuple(_expand(a, x) for a, x in zip(atol, y0, strict=True))
    if isinstance(atol, torch.Tensor) and atol.numel() > 1 and isinstance(y0, torch.Tensor):
        return reltol, _expand(atol, y0)
    return reltol, atol


def _expand(tolerance: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(tolerance, dtype=torch.float64).expand(x.shape)


def _steps(alg: Algorithm, options: dict[str, Any] | None) -> dict[str, Any]:
    for name in options or {}:
        if name not in _OPTIONS:
            raise UnsupportedError(
                f"`{name}` is an option for another algorithm than {alg.name}.", got=f"options[{name!r}]",
                expected=", ".join(_OPTIONS), fix=f"leave {name} out",
            )  # fmt: skip
    return {_OPTIONS[name]: value for name, value in (options or {}).items()}


def _scalar(name: str, value: Tolerance) -> float:
    values = torch.as_tensor(value, dtype=torch.float64).flatten()
    if not (values == values[0]).all():
        raise UnsupportedError(
            f"compiled algorithms take one {name} for all states.", got=f"{name} of {len(values)} values",
            fix=f"{name}=1e-6, and atol per state",
        )  # fmt: skip
    return float(values[0])


def _sensealg(rtol: Any, atol: Any, method: Method, options: dict[str, Any] | None) -> GaussAdjoint:
    if options:
        raise UnsupportedError("compiled algorithms have no adjoint_options.", got=", ".join(options),
                               expected="adjoint_rtol and adjoint_atol", fix="leave adjoint_options out")  # fmt: skip
    scalars = [None if x is None else _scalar(n, x) for n, x in (("adjoint_rtol", rtol), ("adjoint_atol", atol))]
    alg = by_name(method) if isinstance(method, str) else method
    return GaussAdjoint(reltol=scalars[0], abstol=scalars[1], alg=alg)
