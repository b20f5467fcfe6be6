"""Trajectories on Julia's threads: one call into Julia for all, which calls nothing of Python's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.algorithms import by_name, takes_apart
from pysciml.control import save_times, tolerances
from pysciml.engines import select
from pysciml.engines.base import Request
from pysciml.ensemble.progress import Silence
from pysciml.errors import TraceError, UnsupportedError
from pysciml.first_order import first_order_only
from pysciml.flat import request_maker
from pysciml.problems import EnsembleProblem, kind
from pysciml.rhs import functorch
from pysciml.rhs.julia_source import JuliaFunction
from pysciml.rhs.parameters import to_numpy
from pysciml.solution.ensemble import EnsembleSolution, FailedTrajectory
from pysciml.solve_ode import check_options, prepare_rhs

_STEPS = ("dt", "dtmax", "maxiters")


def can_thread(ensemble: EnsembleProblem, alg: Any, **options: Any) -> bool:
    """Whether Julia's threads can solve an ensemble: the julia engine compiles f, and no time needs a gradient."""
    if _hindrance(ensemble, alg, options) or _times_need_gradients(ensemble, options["saveat"]):
        return False
    alg = by_name(alg) if isinstance(alg, str) else alg
    if alg is not None and kind(ensemble.prob.f) == "split" and takes_apart(alg):
        return False  # the parts are taken apart one by one
    try:
        prepare_rhs(ensemble.member(0), "compiled")
    except TraceError:
        return False
    return True


def on_threads(ensemble: EnsembleProblem, alg: Any, show: Silence, **options: Any) -> EnsembleSolution:
    """Solves all members in one call. Args: show: what is seen meanwhile. options: as of `solve`.

    Raises:
        UnsupportedError: this is not for Julia's threads.
    """
    alg = by_name(alg) if isinstance(alg, str) else alg
    steps = {name: options[name] for name in _STEPS}
    check_options(alg, options["route"], **steps)
    hindrance = _hindrance(ensemble, alg, options)
    if hindrance:
        raise UnsupportedError("threads solve right-hand sides that Julia has compiled.", got=hindrance,
                               expected='engine="julia" and an f that can be compiled, on the CPU',
                               fix='pysciml.solve_ensemble(ensemble, executor="serial")')  # fmt: skip
    prob, ts = ensemble.prob, save_times(ensemble.prob, options["saveat"])
    reltol, abstol = tolerances(prob, options["reltol"], options["abstol"])
    if _times_need_gradients(ensemble, options["saveat"]):
        raise UnsupportedError("an ensemble on threads has no gradients in times.", got="saveat or tspan requires grad",
                               fix='executor="serial"')  # fmt: skip
    # The first member's own values: f may not be defined at those of `prob`.
    program, rhs = prepare_rhs(ensemble.member(0), "compiled")
    request = request_maker(prob, select.engine("julia"), alg, program, rhs, reltol, abstol, options["sensealg"],
                            **steps)  # fmt: skip
    return _solve_compiled(ensemble, program, request, ts, show)


def _hindrance(ensemble: EnsembleProblem, alg: Any, options: dict[str, Any]) -> str | None:
    """What keeps threads from it, as far as that can be said without tracing f."""
    alg = by_name(alg) if isinstance(alg, str) else alg
    on_cpu, in_julia = ensemble.prob.inputs.u[0].device.type == "cpu", isinstance(ensemble.prob.f, JuliaFunction)
    name = select.choose(options["engine"], alg, options["sensealg"], on_cpu, in_julia)
    found = {
        f"the {name} engine": name != "julia", "a JuliaFunction": in_julia, "a GPU": not on_cpu,
        "route='callback'": options["route"] == "callback",
        "a transform of torch.func": functorch.transforming(),
    }  # fmt: skip
    return next((what for what, hinders in found.items() if hinders), None)


def _times_need_gradients(ensemble: EnsembleProblem, saveat: Any) -> bool:
    times = (saveat, *ensemble.prob.tspan)
    return torch.is_grad_enabled() and any(isinstance(t, torch.Tensor) and t.requires_grad for t in times)


def _solve_compiled(ensemble, program, request, ts: torch.Tensor, show: Silence) -> EnsembleSolution:
    u0 = _rows(ensemble.prob.u0, ensemble.u0)
    captured = [x.reshape(1, -1).double() for x in program.captured]
    p = _rows(ensemble.prob.p, ensemble.p) if ensemble.prob.p is not None else u0.new_zeros((1, 0))
    p = torch.cat([p, *(x.expand(p.shape[0], -1) for x in captured)], dim=1)
    call = Call(request, ensemble.prob.span[0], to_numpy(ts).copy(), show,
                keep=torch.is_grad_enabled() and (u0.requires_grad or p.requires_grad))  # fmt: skip
    u = SolveMany.apply(call, u0, p).to(pytree.tree_leaves(ensemble.prob.u0)[0].dtype)
    failures = [FailedTrajectory.of(i, error) for i, error in sorted(call.result.errors.items())]
    return EnsembleSolution(ts, program.u_layout.unflatten(u), ensemble, failures, call.result.stats)


def _rows(one: Any, many: Any) -> torch.Tensor:
    """(N, size) values of each member as float64, or (1, size) where all have the same."""
    if many is None:
        return torch.cat([x.reshape(1, -1) for x in pytree.tree_leaves(one)], dim=1).double()
    return torch.cat([x.reshape(x.shape[0], -1) for x in pytree.tree_leaves(many)], dim=1).double()


@dataclass(eq=False)
class Call:
    """One solve of an ensemble on its way through autograd. `result` is set by the forward solve.

    Attributes:
        request: makes the Request of a member from u0, p, t0 and ts. show: what is seen meanwhile.
        keep: whether a gradient may be asked for.
    """

    request: Callable[..., Request]
    t0: float
    ts: np.ndarray
    show: Silence
    keep: bool
    result: Any = field(default=None)


class SolveMany(torch.autograd.Function):
    """(N or 1, n) initial states and (N or 1, m) parameters, float64, to the (N, k, n) saved states."""

    @staticmethod
    def forward(ctx: Any, call: Call, u0: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        from pysciml.engines.julia.ensembles import solve_many  # loads the julia engine: only when it solves

        states, parameters = np.ascontiguousarray(to_numpy(u0)), np.ascontiguousarray(to_numpy(p))
        request = call.request(u0=states[0].copy(), p=parameters[0].copy(), t0=call.t0, ts=call.ts)
        show = None if type(call.show) is Silence else call.show.update
        call.result = solve_many(request, states, parameters, call.keep, show)
        ctx.call, ctx.request, ctx.like = call, request, (u0, p)
        return torch.from_numpy(call.result.u)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple:
        from pysciml.engines.julia.ensembles import adjoint_many

        du0, dp, stats = adjoint_many(ctx.request, ctx.call.result, np.ascontiguousarray(to_numpy(grad)))
        ctx.call.result.stats.backward = stats
        found = [_of_one(x, like) for x, like in zip((du0, dp), ctx.like, strict=True)]
        name = f"{ctx.request.alg.name} with {ctx.request.sensealg.name}"
        return None, *first_order_only(name, ctx.like, found)


def _of_one(rows: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """The gradient in what all members share is the sum of theirs."""
    return torch.from_numpy(rows if like.shape[0] == rows.shape[0] else rows.sum(axis=0, keepdims=True))
