"""DynamicSS: the flow of f, followed in longer and longer spans until it stands still."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pysciml.algorithms import DP5, Algorithm, DynamicSS
from pysciml.engines import select
from pysciml.engines.base import Engine
from pysciml.errors import SolveError, UnsupportedError
from pysciml.flat import request_maker
from pysciml.problems import SteadyStateProblem, plain
from pysciml.rhs import functorch
from pysciml.rhs.callback import CallbackRHS
from pysciml.rhs.captured import Substituted
from pysciml.rhs.parameters import pack, restored
from pysciml.sensitivity import DirectAdjoint
from pysciml.solution import ReturnCode, Stats
from pysciml.solution.stats import total

Step = Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, Stats]]
_SPANS = 80  # each twice as long as the one before: more than any rates differ by


def follow(alg: DynamicSS, step: Step, settled: Callable[[np.ndarray], bool], slope: np.ndarray, u: np.ndarray,
           p: np.ndarray) -> tuple[np.ndarray, Stats]:  # fmt: skip
    """Where the flow from u stands still, or came to within the time that it has; and what was counted.

    Args:
        step: from a state and parameters, along a span of time, to the state at its end. settled: whether a state is
            good enough. slope: f at u.
    """
    end = math.inf if alg.tspan is None else alg.tspan
    span, reached, parts = min(_first_span(slope, u), end), 0.0, [Stats()]
    while not settled(u) and reached < end and len(parts) < _SPANS and np.isfinite(u).all():
        try:
            u, stats = step(u, p, span)
        except SolveError as error:
            if error.retcode is not ReturnCode.MaxIters:
                raise
            break  # it goes on and on
        reached += span
        span = min(2 * span, max(end - reached, 0.0))
        parts.append(stats)
    counted = total(parts[1:] or parts)
    return u, Stats(nf=counted.nf, njacs=counted.njacs, naccept=counted.naccept, nreject=counted.nreject,
                    wall_time=counted.wall_time, engine=counted.engine, alg=alg.name)  # fmt: skip


def _first_span(slope: np.ndarray, u: np.ndarray) -> float:
    """The time in which the fastest state changes by a few times its size, to a power of two: integrators are kept."""
    rate = float(np.max(np.abs(slope) / (np.abs(u) + 1e-3 * np.abs(u).max(initial=0.0) + 1e-6), initial=0.0))
    return 2.0 ** round(math.log2(10.0 / rate)) if math.isfinite(rate) and rate > 1e-12 else 1.0


def by_engine(prob: SteadyStateProblem, engine: Engine, alg: Algorithm | None, program: Any, rhs: Any, reltol: Any,
              abstol: Any, maxiters: int | None) -> Step:  # fmt: skip
    """Steps by an engine, which sees flat vectors."""
    make = request_maker(prob.ode, engine, alg, program, rhs, reltol, abstol, None, maxiters=maxiters)

    def step(u: np.ndarray, p: np.ndarray, span: float) -> tuple[np.ndarray, Stats]:
        with functorch.outside():
            found = engine.solve(make(u0=u, p=p, t0=0.0, ts=np.array([span]))._replace(t1=span))
        return found.u[-1].copy(), found.stats

    return step


def in_torch(prob: SteadyStateProblem, alg: Algorithm, program: Any, reltol: Any, abstol: Any,
             maxiters: int | None) -> Step:  # fmt: skip
    """Steps by torchdiffeq, with these values in the place of the state, of p and of what f captured."""
    from pysciml.engines.embedded import eager  # imports torchdiffeq: only when it solves

    outer = plain(prob.ode)
    inputs, own = outer.inputs, len(program.p)

    def step(u: np.ndarray, p: np.ndarray, span: float) -> tuple[np.ndarray, Stats]:
        with functorch.outside(), torch.no_grad():
            ends = np.cumsum([x.numel() for x in program.parameters])[:-1]
            given = [restored(torch.from_numpy(v.copy()), x)
                     for v, x in zip(np.split(p, ends), program.parameters, strict=True)]  # fmt: skip
            here = outer.remake(
                f=Substituted(outer.f, program.captured, given[own:]), tspan=(0.0, span),
                u0=inputs.u_layout.unflatten(torch.from_numpy(u.copy()).to(inputs.u[0])),
                p=inputs.p_layout and inputs.p_layout.build(given[:own]),
            )  # fmt: skip
            ts = torch.tensor([span], dtype=torch.float64, device=inputs.u[0].device)
            states, stats, _ = eager.solve(here, alg, ts, reltol=reltol, abstol=abstol, sensealg=DirectAdjoint(),
                                           maxiters=maxiters)  # fmt: skip
        leaves = [x[-1] for x in torch.utils._pytree.tree_leaves(states)]
        return pack(leaves), stats

    return step


def stepper(prob: SteadyStateProblem, engine: Engine, alg: Algorithm | None, program: Any, rhs: Any, reltol: Any,
            abstol: Any, maxiters: int | None) -> Step:  # fmt: skip
    """Steps by the solver that is asked for, or by the default of the engine.

    Raises:
        UnsupportedError: the engine has no such solver.
    """
    if engine.name == "embedded":
        alg = alg or (DP5() if isinstance(rhs, CallbackRHS) else None)
        if alg is not None:
            select.check_algorithm(alg, "embedded")
            if alg.embedded == "torchdiffeq":
                return in_torch(prob, alg, program, reltol, abstol, maxiters)
            if isinstance(rhs, CallbackRHS):
                raise _needs_compiled(alg)
    return by_engine(prob, engine, alg, program, rhs, reltol, abstol, maxiters)


def _needs_compiled(alg: Algorithm) -> UnsupportedError:
    return UnsupportedError(
        f"`{alg.name}` cannot take the callback route in the embedded engine.", got='route="callback"',
        expected="an f that is compiled; or Tsit5, DP5, BS3, which are eager", fix="pysciml.DynamicSS(pysciml.DP5())",
    )  # fmt: skip
