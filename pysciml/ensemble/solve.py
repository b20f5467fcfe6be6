"""solve_ensemble(): many trajectories as one call, by an executor of one's choice."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.algorithms import Algorithm, by_name
from pysciml.engines import select
from pysciml.ensemble.solution import EnsembleSolution
from pysciml.errors import InvalidInputError, PySciMLWarning, SolveError, UnsupportedError
from pysciml.problems import EnsembleProblem, ODEProblem
from pysciml.rhs import functorch
from pysciml.rhs.base import CompiledRHS
from pysciml.sensitivity import SensitivityAlgorithm
from pysciml.solution import ReturnCode, Solution, Stats
from pysciml.solve import SaveAt, check_options, prepare_rhs, request_maker, save_times, solve, tolerances
from pysciml.under_compile import graph_break

_EXECUTORS = ("serial", "threads")


@graph_break
def solve_ensemble(
    ensemble: EnsembleProblem,
    alg: Algorithm | str | None = None,
    *,
    executor: str = "serial",
    saveat: SaveAt = None,
    reltol: float | None = None,
    abstol: Any = None,
    sensealg: SensitivityAlgorithm | None = None,
    engine: str | None = None,
    route: str | None = None,
    dt: float | None = None,
    dtmax: float | None = None,
    maxiters: int | None = None,
) -> EnsembleSolution:
    """Solves every member of an ensemble, each with steps of its own; differentiable like `solve`.

    Args:
        ensemble: the problems. executor: "serial", one after the other on any engine; "threads", all in one call on
            Julia's threads, for a right-hand side that can be compiled, with the same numbers.
        alg, saveat, reltol, abstol, sensealg, engine, route, dt, dtmax, maxiters: as of `solve`, for every member.
            "threads" takes no gradients in times.

    Returns:
        The trajectories. One that fails leaves the others: its states are NaN, `failed` and `retcodes` name it, and a
        warning says so. A loss over `sol.u[sol.successful]` has the gradients of the others.

    Raises:
        InvalidInputError, UnsupportedError, TraceError: as `solve` does; no such executor.

    Example:
        >>> import torch, pysciml as ps
        >>> prob = ps.ODEProblem(lambda t, u: -u, torch.ones(1, dtype=torch.float64), (0.0, 1.0))
        >>> many = ps.EnsembleProblem(prob, u0=torch.tensor([[1.0], [2.0]], dtype=torch.float64))
        >>> ps.solve_ensemble(many, saveat=[0.5, 1.0]).u.shape
        torch.Size([2, 2, 1])
    """
    if not isinstance(ensemble, EnsembleProblem):
        raise InvalidInputError("solve_ensemble needs an ensemble.", got=type(ensemble).__name__,
                                fix="pysciml.EnsembleProblem(prob, u0=torch.stack(states))")  # fmt: skip
    if executor not in _EXECUTORS:
        raise InvalidInputError(f"there is no executor {executor!r}.", got=f"executor={executor!r}",
                                expected=", ".join(_EXECUTORS), fix='executor="threads"')  # fmt: skip
    run = _on_threads if executor == "threads" else _one_by_one
    sol = run(ensemble, alg, saveat=saveat, reltol=reltol, abstol=abstol, sensealg=sensealg, engine=engine, route=route,
              dt=dt, dtmax=dtmax, maxiters=maxiters)  # fmt: skip
    if sol.failed:
        first = sol.failed[0]
        warnings.warn(
            f"{len(sol.failed)} of {len(sol)} trajectories failed; number {first} stopped at t = "
            f"{sol.stopped[first]:.6g}: {sol.retcodes[first].name}, {sol.retcodes[first].cause}. Their states are NaN; "
            "sol.successful says which to use.", PySciMLWarning, stacklevel=2,
        )  # fmt: skip
    return sol


def _one_by_one(ensemble: EnsembleProblem, alg: Any, **options: Any) -> EnsembleSolution:
    found = [_attempt(ensemble.member(i), alg, options) for i in range(len(ensemble))]
    ts = save_times(ensemble.prob, options["saveat"])
    nothing = pytree.tree_map(lambda x: x.new_full((len(ts), *x.shape), torch.nan), ensemble.prob.u0)
    members = [nothing if isinstance(x, SolveError) else x.u for x in found]
    u = pytree.tree_map(lambda *xs: torch.stack(xs), *members)
    failures = [x if isinstance(x, SolveError) else None for x in found]
    codes = [ReturnCode.Success if x is None else x.retcode for x in failures]
    stopped = torch.tensor([np.nan if x is None else x.t for x in failures], dtype=torch.float64)
    stats = _together([x.stats for x in found if isinstance(x, Solution)])
    return EnsembleSolution(ts, u, ensemble, codes, stopped, stats)


def _attempt(prob: ODEProblem, alg: Any, options: dict[str, Any]) -> Solution | SolveError:
    try:
        return solve(prob, alg, **options)
    except SolveError as error:
        return error


def _together(each: Sequence[Stats]) -> Stats:
    if not each:
        return Stats()
    counts = {name: None if any(getattr(s, name) is None for s in each) else sum(getattr(s, name) for s in each)
              for name in ("nf", "njacs", "naccept", "nreject")}  # fmt: skip
    return Stats(**counts, wall_time=sum(s.wall_time for s in each), engine=each[0].engine, alg=each[0].alg)


def _on_threads(ensemble, alg, *, saveat, reltol, abstol, sensealg, engine, route, **steps) -> EnsembleSolution:
    prob = ensemble.prob
    alg = by_name(alg) if isinstance(alg, str) else alg
    check_options(alg, route, **steps)
    on_cpu = pytree.tree_leaves(prob.u0)[0].device.type == "cpu"
    name = select.choose(engine, alg, sensealg, on_cpu)
    if functorch.transforming():
        raise _not_here("a transform of torch.func")
    if name != "julia" or not on_cpu or route == "callback":
        raise _not_here(f"the {name} engine" if name != "julia" else "route='callback'" if on_cpu else "a GPU")
    reltol, abstol = tolerances(prob, reltol, abstol)
    ts = save_times(prob, saveat)
    if ts.requires_grad:
        raise UnsupportedError("an ensemble on threads has no gradients in times.", got="saveat or tspan requires grad",
                               fix='executor="serial"')  # fmt: skip
    # The first member's own values: f may not be defined at those of `prob`.
    program, rhs = prepare_rhs(ensemble.member(0), "compiled")
    if not isinstance(rhs, CompiledRHS):
        raise _not_here("a JuliaFunction")
    request = request_maker(prob, select.engine(name), alg, program, rhs, reltol, abstol, sensealg, **steps)
    return _solve_compiled(ensemble, program, request, ts)


def _solve_compiled(ensemble: EnsembleProblem, program: Any, request: Callable, ts: torch.Tensor) -> EnsembleSolution:
    from pysciml.ensemble.threads import Call, SolveMany  # imports the julia engine: only when it solves

    u0 = _rows(ensemble.prob.u0, ensemble.u0)
    captured = [x.reshape(1, -1).double() for x in program.captured]
    p = _rows(ensemble.prob.p, ensemble.p) if ensemble.prob.p is not None else u0.new_zeros((1, 0))
    p = torch.cat([p, *(x.expand(p.shape[0], -1) for x in captured)], dim=1)
    call = Call(request, ensemble.prob.span[0], ts.numpy().copy(),
                keep=torch.is_grad_enabled() and (u0.requires_grad or p.requires_grad))  # fmt: skip
    u = SolveMany.apply(call, u0, p).to(pytree.tree_leaves(ensemble.prob.u0)[0].dtype)
    found = call.result
    return EnsembleSolution(ts, program.u_layout.unflatten(u), ensemble, found.retcodes,
                            torch.from_numpy(found.stopped), found.stats)  # fmt: skip


def _rows(one: Any, many: Any) -> torch.Tensor:
    """(N, size) values of each member as float64, or (1, size) where all have the same."""
    if many is None:
        return torch.cat([x.reshape(1, -1) for x in pytree.tree_leaves(one)], dim=1).double()
    return torch.cat([x.reshape(x.shape[0], -1) for x in pytree.tree_leaves(many)], dim=1).double()


def _not_here(got: str) -> UnsupportedError:
    return UnsupportedError("threads solve right-hand sides that Julia has compiled.", got=got,
                            expected='engine="julia" and an f that can be compiled, on the CPU',
                            fix='pysciml.solve_ensemble(ensemble, executor="serial")')  # fmt: skip
