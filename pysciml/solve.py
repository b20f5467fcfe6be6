"""solve(): from a problem of any kind to its solution."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.algorithms import Algorithm
from pysciml.callbacks import Callback, CallbackSet
from pysciml.control import SaveAt, check_taken
from pysciml.errors import InvalidInputError
from pysciml.problems import (
    BVProblem,
    DDEProblem,
    JumpProblem,
    ODEProblem,
    RODEProblem,
    SDDEProblem,
    SDEProblem,
    SteadyStateProblem,
)
from pysciml.sensitivity import SensitivityAlgorithm
from pysciml.solve_ode import solve_ode
from pysciml.under_compile import graph_break


@graph_break
def solve(
    prob: Any,
    alg: Algorithm | str | None = None,
    *,
    saveat: SaveAt = None,
    reltol: float | None = None,
    abstol: Any = None,
    callback: Callback | CallbackSet | Sequence[Callback] | None = None,
    sensealg: SensitivityAlgorithm | None = None,
    engine: str | None = None,
    route: str | None = None,
    dt: float | None = None,
    dtmax: float | None = None,
    maxiters: int | None = None,
    tstops: Any = (),
    d_discontinuities: Any = (),
    save_everystep: bool = False,
    save_idxs: Any = None,
    progress: bool = False,
    adaptive: bool | None = None,
    seed: int | None = None,
    noise: Any = None,
) -> Any:
    """Solves a problem; the result is differentiable in u0, p, module parameters, captured tensors and times.

    It can be differentiated again (`create_graph=True`), and transformed by torch.func: `grad`, `vjp`, `jvp`, `vmap`,
    `jacrev`, `jacfwd`, `hessian`, in any nesting. `vmap` solves each member with steps of its own.

    Args:
        prob: the problem. Not every kind takes every argument below; its docstring says which, and others raise.
        alg: an algorithm or its name. None, with Julia: `DefaultODEAlgorithm`, which chooses as SciML does and
            switches when f turns stiff; embedded: `CVODE_BDF` (`IDA` with a mass matrix), right for stiff and
            non-stiff alike, and `DP5` where f cannot be compiled or lives on a GPU. A network over a batch (64 states
            or more) is taken as not stiff: `Tsit5` or `Vern7`; `DP5` embedded, and with engine "auto" where large
            products of matrices are all that it costs. `sol.stats` says who solved it.
        saveat: times to save at, strictly monotone from t0 towards t1, a list or a tensor (which may require grad); or
            a number, the spacing from t0 on; None saves both ends of the span.
        reltol, abstol: local error tolerances, positive; either may be one per state, in u0's structure (`reltol` with
            explicit solvers). Defaults 1e-6 and 1e-8 in float64, 1e-4 and 1e-6 in float32.
        callback: events, one or several: `ContinuousCallback`, `VectorContinuousCallback`, `DiscreteCallback`,
            `PresetTimeCallback`. At the time of an event the state before it is saved; `sol.events` has both. A solve
            that an event terminates ends with its time and the state after it.
        sensealg: how gradients are computed. None: `GaussAdjoint` compiled, `DirectAdjoint` eager, `CollocationAdjoint`
            with delays; that one is the fastest in Julia for a stiff f of few states, `DirectAdjoint` with `Tsit5`.
        engine: "julia", "embedded", or "auto": julia where it is set up; None takes `pysciml.config.engine`.
        route: "compiled" or "callback" (f stays Python); None compiles f where that is possible, and says where not.
        dt: first step, or the step of a fixed-step method. dtmax: largest step. maxiters: most steps.
        tstops: times inside the span that the solver shall step on, as where a short pulse would be stepped over.
        d_discontinuities: times where f jumps. The solve ends just before each and starts anew just after, forwards
            and backwards, so that solution and gradients have the accuracy that they have without the jump.
        save_everystep: saves the solver's own steps instead of `saveat`; gradients are those of the states at these
            times, taken as fixed. One solve in Julia, two in eager torch, not in embedded SUNDIALS.
        save_idxs: which states come back in `sol.u` and `sol(t)`: a place in the flat state, a list of them (then one
            tensor, time first), or a list of names of leaves (then a dict).
        adaptive: of an SDE, False keeps to the step dt.
        seed: of what is random in the problem; None draws one, which `sol.seed` tells. noise: the path of an SDE.
        progress: shows a bar of the time reached, once the solve has taken half a second. Not in embedded SUNDIALS.

    Raises:
        InvalidInputError: an argument that cannot mean anything. UnsupportedError: this engine cannot do it; says what
            can. TraceError: f cannot be compiled. SolveError: the solver did not reach the end; says where it stopped.

    Example:
        >>> import torch, pysciml as ps
        >>> f = lambda t, u: torch.stack([u[1], -u[0]])
        >>> prob = ps.ODEProblem(f, torch.tensor([1.0, 0.0], dtype=torch.float64), (0.0, 3.0))
        >>> sol = ps.solve(prob, ps.CVODE_Adams(), saveat=0.5, reltol=1e-10, abstol=1e-10)
        >>> torch.allclose(sol.u[:, 0], torch.cos(sol.t), atol=1e-8)
        True

        A force that is switched on at t = 1, the second state alone, and the solver's own steps:

        >>> f = lambda t, u: torch.stack([u[1], torch.where(t < 1, 0.0, 1.0).to(u) - u[0]])
        >>> prob = ps.ODEProblem(f, torch.zeros(2, dtype=torch.float64), (0.0, 2.0))
        >>> sol = ps.solve(prob, ps.CVODE_BDF(), saveat=[2.0], d_discontinuities=[1.0], save_idxs=[1])
        >>> sol.u.shape, abs(sol.u.item() - torch.sin(torch.tensor(1.0)).item()) < 1e-5
        (torch.Size([1, 1]), True)
        >>> sol = ps.solve(prob, ps.DP5(), d_discontinuities=[1.0], save_everystep=True, engine="embedded")
        >>> bool((sol.t == 1.0).any())
        True
    """
    given, solver = _given(locals()), solver_of(prob)
    check_taken(prob, solver, given)
    if torch.is_inference_mode_enabled():
        return _in_inference(solver, prob, alg, given)
    return solver(prob, alg, **given)


def _in_inference(solver: Callable[..., Any], prob: Any, alg: Any, given: dict[str, Any]) -> Any:
    """A solve inside of torch.inference_mode, whose tensors lack the records that a trace needs: of copies."""

    def copied(tree: Any) -> Any:
        return pytree.tree_map_only(torch.Tensor, lambda x: x.clone() if x.is_inference() else x, tree)

    with torch.inference_mode(False), torch.no_grad():
        trees = {f.name: getattr(prob, f.name) for f in dataclasses.fields(prob) if f.init}
        held = {n: x for n, x in trees.items() if any(map(_is_inference, pytree.tree_leaves(x)))}
        prob = dataclasses.replace(prob, **copied(held)) if held else prob
        return solver(prob, alg, **copied(given))


def _is_inference(x: Any) -> bool:
    return isinstance(x, torch.Tensor) and x.is_inference()


def solver_of(prob: Any) -> Callable[..., Any]:
    """What solves a problem of its kind, of the problem, the algorithm and options; loaded when there is one to solve.

    Raises:
        InvalidInputError: it is no problem.
    """
    if isinstance(prob, ODEProblem):
        return solve_ode
    if isinstance(prob, SDEProblem):
        from pysciml.stochastic.solve import solve_sde

        return solve_sde
    if isinstance(prob, RODEProblem):
        from pysciml.stochastic.random import solve_rode

        return solve_rode
    if isinstance(prob, JumpProblem):
        from pysciml.jumps.solve import solve_jump

        return solve_jump
    if isinstance(prob, DDEProblem):
        from pysciml.delay.solve import solve_delay

        return solve_delay
    if isinstance(prob, SDDEProblem):
        from pysciml.delay.stochastic import solve_sdde

        return solve_sdde
    if isinstance(prob, SteadyStateProblem):
        from pysciml.steady.solve import solve_steady

        return solve_steady
    if isinstance(prob, BVProblem):
        from pysciml.boundary.solve import solve_boundary

        return solve_boundary
    raise InvalidInputError("solve needs a problem.", got=type(prob).__name__,
                            fix="pysciml.solve(pysciml.ODEProblem(f, u0, tspan))")  # fmt: skip


def _given(arguments: dict[str, Any]) -> dict[str, Any]:
    """The options that have another value than their default."""
    return {name: arguments[name] for name, default in _DEFAULTS.items() if arguments[name] is not default}


_DEFAULTS: dict[str, Any] = dict(solve.__wrapped__.__kwdefaults__)  # type: ignore[attr-defined]
