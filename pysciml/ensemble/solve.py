"""solve_ensemble(): many trajectories as one call, by an executor of one's choice."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from pysciml.algorithms import Algorithm, by_name
from pysciml.callbacks import Callback, CallbackSet, as_set
from pysciml.control import SaveAt, check_taken
from pysciml.ensemble.here import HERE, solve_here
from pysciml.ensemble.progress import progress as how_to_show
from pysciml.errors import InvalidInputError, PySciMLWarning, UnsupportedError
from pysciml.problems import EnsembleProblem, JumpProblem, RODEProblem, SDDEProblem, SDEProblem
from pysciml.sensitivity import SensitivityAlgorithm
from pysciml.solution.ensemble import EnsembleSolution
from pysciml.solve import solver_of
from pysciml.solve_ode import check_options
from pysciml.under_compile import graph_break


@graph_break
def solve_ensemble(
    ensemble: EnsembleProblem,
    alg: Algorithm | str | None = None,
    *,
    executor: Any = None,
    saveat: SaveAt = None,
    reltol: float | None = None,
    abstol: Any = None,
    sensealg: SensitivityAlgorithm | None = None,
    engine: str | None = None,
    route: str | None = None,
    dt: float | None = None,
    dtmax: float | None = None,
    maxiters: int | None = None,
    progress: str | bool | None = None,
    callback: Callback | CallbackSet | Sequence[Callback] | None = None,
    adaptive: bool | None = None,
    seed: int | None = None,
    noise: Any = None,
) -> EnsembleSolution:
    """Solves every member of an ensemble, each with steps of its own; differentiable like `solve`.

    The numbers are the same from every executor:

    - "serial": one after the other, in this process.
    - "threads": all in one call on Julia's threads, where Julia has compiled f; takes no gradients in times.
    - "processes": processes of this machine, one a core. The first call starts them, which takes seconds.
    - "dask", "ray": the cluster this process is connected to (its Dask client, `ray.init(address=...)`), or else one on
      this machine. Extras `pysciml[dask]` and `pysciml[ray]`.
    - a `concurrent.futures.Executor`, or a `dask.distributed.Client`.

    The last three send the problem to workers, who solve shares of it; Dask on this machine needs a script to have
    `if __name__ == "__main__":`. A worker that is killed loses nothing: its share is run again. Gradients are computed
    there too, and solve each share again. Ctrl-C stops all of them.

    Args:
        ensemble: the problems. executor: as above; None takes threads where they can, else serial.
        alg, saveat, reltol, abstol, sensealg, engine, route, dt, dtmax, maxiters: as of `solve`, for every member.
        progress: "auto", "on" or "off", or a boolean; None is `pysciml.config.progress`.
        callback: events, as of `solve`, but none that terminates; by the serial executor, which None then takes.
        adaptive, seed, noise: of problems with noise, as of `solve`; they are solved on threads, or all together in
            eager torch, by no other executor.

    Returns:
        The trajectories. One that fails leaves the others: its states are NaN, `failures` tells which, when and why,
        and so does a warning. A loss over `sol.u[sol.successful]` has the gradients of the others.

    Raises:
        InvalidInputError, UnsupportedError, TraceError: as `solve` does; no such executor; f or what it holds cannot be
            sent to workers. MissingExtraError: the executor's library is not installed. WorkerError: workers cannot be
            started, or die again and again.

    Example:
        >>> import torch, pysciml as ps
        >>> k = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        >>> prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(1, dtype=torch.float64), (0.0, 1.0))
        >>> many = ps.EnsembleProblem(prob, u0=torch.tensor([[1.0], [2.0]], dtype=torch.float64))
        >>> sol = ps.solve_ensemble(many, ps.CVODE_BDF(), saveat=[0.5, 1.0], executor="processes")
        >>> sol.u.shape
        torch.Size([2, 2, 1])
        >>> sol.u[:, -1].sum().backward()
        >>> round(k.grad.item(), 3)
        -1.104
    """
    if not isinstance(ensemble, EnsembleProblem):
        raise InvalidInputError("solve_ensemble needs an ensemble.", got=type(ensemble).__name__,
                                fix="pysciml.EnsembleProblem(prob, u0=torch.stack(states))")  # fmt: skip
    given = {"saveat": saveat, "reltol": reltol, "abstol": abstol, "sensealg": sensealg, "engine": engine,
             "route": route, "dt": dt, "dtmax": dtmax, "maxiters": maxiters, "adaptive": adaptive, "seed": seed,
             "noise": noise}  # fmt: skip
    solver = _solver_of_paths(ensemble.prob)
    if solver is not None:
        given = {name: value for name, value in given.items() if value is not None}
        check_taken(ensemble.prob, solver_of(ensemble.prob), given)
        return _of_noise(ensemble, alg, solver, given, executor=executor, callback=callback)
    if noise is not None or seed is not None or adaptive is not None:
        raise UnsupportedError("there is no noise in this problem.", got="seed, noise or adaptive",
                               expected="an ensemble of an SDEProblem", fix="leave them out")  # fmt: skip
    alg, steps = by_name(alg) if isinstance(alg, str) else alg, {"dt": dt, "dtmax": dtmax, "maxiters": maxiters}
    check_options(alg, route, **steps)
    options = {"saveat": saveat, "reltol": reltol, "abstol": abstol, "sensealg": sensealg, "engine": engine,
               "route": route, **steps}  # fmt: skip
    if callback is not None:
        executor, options["callback"] = "serial", _in_serial(as_set(callback), executor)
    here = executor is None or (isinstance(executor, str) and executor in HERE)
    run = functools.partial(solve_here, way=executor) if here else _sender(executor)
    with closing(how_to_show(progress, len(ensemble))) as show:
        sol = run(ensemble, alg, show=show, **options)
    if sol.failures:
        _warn(sol)
    return sol


def _of_noise(
    ensemble: EnsembleProblem, alg: Any, solver: Callable[..., Any], options: dict[str, Any], **others: Any
) -> EnsembleSolution:
    """The paths of a problem with noise."""
    if others["executor"] not in (None, "threads") or others["callback"] is not None:
        raise UnsupportedError("the paths of a random problem are solved on threads, without events.",
                               got=", ".join(f"{k}={v!r:.40}" for k, v in others.items() if v is not None),
                               expected='executor=None or "threads"', fix="leave them out")  # fmt: skip
    sol = solver(ensemble, alg, **options)
    if sol.failures:
        _warn(sol)
    return sol


def _in_serial(callbacks: CallbackSet, executor: Any) -> CallbackSet:
    """The events of an ensemble, which one executor can meet."""
    if executor not in (None, "serial"):
        raise UnsupportedError("the events of an ensemble are met by the serial executor alone.",
                               got=f"callback and executor={executor!r:.60}", fix='executor="serial"')  # fmt: skip
    if any(c.terminate for c in callbacks.callbacks):  # type: ignore[attr-defined]
        raise UnsupportedError(
            "an ensemble saves all of its times of each member, so no event can end one.", got="terminate=True",
            expected="callbacks that go on", fix="[pysciml.solve(ensemble.member(i), callback=callback) for i in ...]",
        )  # fmt: skip
    return callbacks


def _sender(executor: Any) -> Callable[..., EnsembleSolution]:
    # With what it takes to send problems to workers: only when there is one to send.
    from pysciml.ensemble.elsewhere import elsewhere
    from pysciml.ensemble.executors import executor_of

    return functools.partial(elsewhere, by=executor_of(executor))


def _warn(sol: EnsembleSolution) -> None:
    first = sol.failures[0]
    warnings.warn(
        f"{len(sol.failures)} of {len(sol)} trajectories failed; number {first.index} stopped at t = {first.t:.6g}: "
        f"{first.retcode.name}, {first.retcode.cause}. Their states are NaN; sol.successful says which to use, and "
        "sol.failures why.", PySciMLWarning, stacklevel=3,
    )  # fmt: skip


def _solver_of_paths(prob: Any) -> Callable[..., Any] | None:
    """Who solves many of a kind whose members differ in what is random; its options are those of `solver_of` it."""
    if isinstance(prob, SDEProblem):
        from pysciml.stochastic.solve import solve_paths

        return solve_paths
    if isinstance(prob, RODEProblem):
        from pysciml.stochastic.random import solve_rodes

        return solve_rodes
    if isinstance(prob, SDDEProblem):
        from pysciml.delay.stochastic import solve_sddes

        return solve_sddes
    if isinstance(prob, JumpProblem):
        from pysciml.jumps.solve import solve_jumps

        return solve_jumps
    return None
