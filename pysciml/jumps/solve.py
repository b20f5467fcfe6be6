"""From a JumpProblem, or an ensemble of its paths, to solutions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.algorithms import Algorithm, Direct, JumpAlgorithm, SimpleTauLeaping, SortingDirect, by_name
from pysciml.control import SaveAt, in_order, path_seeds, save_times, seed_of
from pysciml.engines import select
from pysciml.engines.jumps import Events, JumpPaths, JumpsRequest
from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.first_order import refusing
from pysciml.jumps.likelihood import log_likelihood, no_events
from pysciml.jumps.network import Network, prepare
from pysciml.jumps.solution import JumpEnsembleSolution, Jumps, JumpSolution
from pysciml.problems import EnsembleProblem, JumpProblem, MassAction
from pysciml.rhs import functorch
from pysciml.rhs.parameters import to_numpy
from pysciml.solution import FailedTrajectory, ReturnCode

_FEW = 20  # channels; from here on JumpProcesses too takes another method than `Direct`
_MOST = 10_000_000  # events
_REFUSAL = {
    "what": "a jump process is piecewise constant: the pathwise derivative of a path is zero almost everywhere and "
            "says nothing of the mean.",
    "got": "backward() through the states of a JumpProblem",
    "expected": "the score function estimator, or finite differences with common random numbers (the same seed)",
    "fix": "((h - h.mean()) * sol.log_likelihood()).mean().backward(), with h of sol.u.detach()",
}  # fmt: skip


def solve_jump(
    prob: JumpProblem,
    alg: Algorithm | str | None = None,
    *,
    saveat: SaveAt = None,
    engine: str | None = None,
    route: str | None = None,
    dt: float | None = None,
    maxiters: int | None = None,
    seed: int | None = None,
) -> JumpSolution:
    """`pysciml.solve` of a `JumpProblem`: one path.

    Args:
        alg: None takes `Direct`, with more than 20 channels `SortingDirect`.
        dt: of `SimpleTauLeaping`, the longest leap. maxiters: most events of a path, or leaps; else 10 million.
    """
    options = _Options(saveat, engine, route, dt, maxiters, seed)
    solved = _solve(prob, alg, options, _Rows.of(prob, None), 1)
    found = solved.paths
    if found.errors:
        raise found.errors[0]

    def dense(times: torch.Tensor) -> Any:
        return in_order(times, False, lambda ts: _at(prob, solved, ts))

    return JumpSolution(solved.ts, solved.u[0], prob, ReturnCode.Success, found.stats, dense, seed=solved.seed,
                        jumps=_jumps(found.events), _likelihood=lambda: _likelihood(prob, solved)[0])  # fmt: skip


def solve_jumps(ensemble: EnsembleProblem, alg: Algorithm | str | None, **options: Any) -> JumpEnsembleSolution:
    """`pysciml.solve_ensemble` of a `JumpProblem`: all paths in one call; options as of `solve_jump`."""
    prob = ensemble.prob
    solved = _solve(prob, alg, _Options(**options), _Rows.of(prob, ensemble), len(ensemble), one=False)
    failures = [FailedTrajectory.of(i, error) for i, error in sorted(solved.paths.errors.items())]
    return JumpEnsembleSolution(solved.ts, solved.u, ensemble, failures, solved.paths.stats, seed=solved.seed,
                                _likelihood=lambda: _likelihood(prob, solved))  # fmt: skip


@dataclass(eq=False)
class _Options:
    """The options of a solve, as of `solve_jump`."""

    saveat: SaveAt = None
    engine: str | None = None
    route: str | None = None
    dt: float | None = None
    maxiters: int | None = None
    seed: int | None = None


class _Rows(NamedTuple):
    """Initial states (N or 1, n), and p, its leaves (N, *shape) where it differs among the paths."""

    u0: torch.Tensor
    p: Any
    p_differs: bool

    @classmethod
    def of(cls, prob: JumpProblem, ensemble: EnsembleProblem | None) -> _Rows:
        u0 = prob.u0[None] if ensemble is None or ensemble.u0 is None else ensemble.u0
        differs = ensemble is not None and ensemble.p is not None
        return cls(u0, ensemble.p if differs else prob.p, differs)  # type: ignore[union-attr]


class _Solved(NamedTuple):
    ts: torch.Tensor
    u: torch.Tensor
    seed: int
    rows: _Rows
    paths: JumpPaths
    anchors: list[torch.Tensor]
    exact: bool


def _solve(prob: JumpProblem, alg: Any, options: _Options, rows: _Rows, count: int, one: bool = True) -> _Solved:
    alg = by_name(alg) if isinstance(alg, str) else alg
    alg = alg or (Direct() if prob.channels <= _FEW else SortingDirect())
    _check(prob, alg, options)
    ts = save_times(prob, options.saveat)
    seed = seed_of(options.seed)
    _required(options.engine)
    network = prepare(prob, options.route)
    _check_time(prob, alg, network)
    parameters = pytree.tree_leaves(rows.p) if rows.p_differs else prob.inputs.p
    anchors = [x for x in (rows.u0, *parameters, *network.captured) if x.requires_grad and torch.is_grad_enabled()]
    if anchors and not prob.u0.is_floating_point():
        raise UnsupportedError(
            "integers carry no gradient, nor the refusal of one, and something here requires grad.",
            got=f"u0 of {prob.u0.dtype}", expected="u0 of floating numbers, or a solve without gradients",
            fix="u0=u0.double(), or: with torch.no_grad(): ...",
        )  # fmt: skip
    from pysciml.engines.julia.jumps import solve_jumps as solve_in_julia  # loads the julia engine: only to solve

    keep = alg.exact and (one or bool(anchors))
    paths = solve_in_julia(_request(prob, alg, options, ts, rows, network, path_seeds(seed, count), keep))
    # Integers have no NaN for paths that failed.
    dtype = torch.float64 if paths.errors and not prob.u0.is_floating_point() else prob.u0.dtype
    u = refusing(torch.from_numpy(paths.u).to(prob.u0.device, dtype), anchors, **_REFUSAL)
    return _Solved(ts, u, seed, rows, paths, anchors, alg.exact)


def _required(engine: str | None) -> None:
    """Raises if there is no engine for this."""
    if select.engine_name(engine) != "julia":
        raise UnsupportedError(
            "the embedded engine has no library for jump processes.", got='engine="embedded"' if engine == "embedded"
            else "no Julia environment", expected='engine="julia", whose JumpProcesses.jl has all of these algorithms',
            fix="python -m pysciml julia install",
        )  # fmt: skip
    select.engine("julia")  # or an error that says how to get it


def _request(prob, alg, options, ts, rows, network, seeds, keep) -> JumpsRequest:
    return JumpsRequest(
        rates=network.rates, reactants=network.reactants, changes=np.ascontiguousarray(prob.changes.numpy()),
        depends=network.depends, u0=np.ascontiguousarray(to_numpy(rows.u0)), p=_parameters(prob, rows, network),
        seeds=seeds, t0=prob.span[0], t1=prob.span[1], ts=to_numpy(ts).copy(), alg=alg,
        dt=options.dt or math.nan, maxiters=options.maxiters or _MOST, keep=keep,
    )  # fmt: skip


def _parameters(prob: JumpProblem, rows: _Rows, network: Network) -> np.ndarray:
    """(N or 1, m): p and what the rates captured; or the constants of mass action."""
    with torch.no_grad():
        if isinstance(prob.rates, MassAction):
            return _constants(prob.rates, prob, rows)
        leaves = pytree.tree_leaves(rows.p) if rows.p_differs else prob.inputs.p
        p = [x.reshape(x.shape[0] if rows.p_differs else 1, -1) for x in leaves]
        count = p[0].shape[0] if p else 1
        every = [x.double().cpu() for x in (*p, *(x.reshape(1, -1).expand(count, -1) for x in network.captured))]
        return np.ascontiguousarray(torch.cat(every, dim=1).numpy()) if every else np.zeros((1, 0))


def _constants(rates: MassAction, prob: JumpProblem, rows: _Rows) -> np.ndarray:
    if not rows.p_differs:
        found = rates.constants_at(*(() if prob.p is None else (rows.p,)))[None]
    else:
        count = pytree.tree_leaves(rows.p)[0].shape[0]
        found = torch.stack([rates.constants_at(pytree.tree_map(lambda x, i=i: x[i], rows.p)) for i in range(count)])
    if not (torch.isfinite(found).all() and (found >= 0).all()):
        raise InvalidInputError("the constants of mass action must be finite and none negative.",
                                got=f"{found.tolist()!r:.60}", fix="torch.exp(log_constants)")  # fmt: skip
    return np.ascontiguousarray(to_numpy(found.detach()))


def _jumps(events: Events | None) -> Jumps | None:
    return None if events is None else Jumps(torch.from_numpy(events.t), torch.from_numpy(events.channel))


def _at(prob: JumpProblem, solved: _Solved, ts: torch.Tensor) -> torch.Tensor:
    """(k, n) the states of one path at any times."""
    events = solved.paths.events
    if events is None:
        raise UnsupportedError("a path by leaps is known at the saved times alone.", got="sol(t)", expected="sol.u",
                               fix="saveat=t")  # fmt: skip
    total = torch.cat([torch.zeros_like(prob.changes[:1]), prob.changes[torch.from_numpy(events.channel)].cumsum(0)])
    done = torch.searchsorted(torch.from_numpy(events.t), ts.detach().cpu(), right=True)
    u = (to_tensor(solved.rows.u0) + total[done]).to(prob.u0)
    return refusing(u, solved.anchors, **_REFUSAL)


def to_tensor(u0: torch.Tensor) -> torch.Tensor:
    """(1, n) float64 on the CPU."""
    return u0.detach().double().cpu()


def _likelihood(prob: JumpProblem, solved: _Solved) -> torch.Tensor:
    """(N,), NaN where a path failed."""
    if not solved.exact:
        raise no_events("a path by leaps, which knows how many events there were, but not when", "pysciml.Direct()")
    if solved.paths.events is None:
        raise no_events("an ensemble in which nothing required grad, whose events were not kept",
                        "p.requires_grad_(), and solve again")  # fmt: skip
    rows = solved.rows
    found = log_likelihood(prob, rows.u0, rows.p, rows.p_differs, solved.paths.events)
    failed = sorted(solved.paths.errors)
    return found if not failed else found.index_fill(0, torch.tensor(failed), math.nan)


def _check(prob: JumpProblem, alg: Any, options: _Options) -> None:
    """What can be said before there is an engine."""
    if functorch.transforming():
        raise UnsupportedError("a jump process is not transformed by torch.func.", got="a solve in a transform",
                               expected="sol.log_likelihood(), which torch can differentiate",
                               fix="torch.autograd.grad(loss, p)")  # fmt: skip
    if not isinstance(alg, JumpAlgorithm):
        if not isinstance(alg, Algorithm):
            raise InvalidInputError("alg must be an algorithm or its name.", got=f"{alg!r:.80}", fix="pysciml.Direct()")
        raise UnsupportedError(f"`{alg.name}` cannot solve a JumpProblem.", got=alg.name,
                               expected="a solver of jump processes: Direct, RSSA, SimpleTauLeaping, ...",
                               fix="pysciml.solve(prob, pysciml.Direct())")  # fmt: skip
    if alg.mass_action and not isinstance(prob.rates, MassAction):
        raise UnsupportedError(
            f"`{alg.name}` needs bounds on rates, or their orders, which a function does not tell.",
            got=f"rates as {type(prob.rates).__name__}", expected="MassAction, or Direct, SimpleTauLeaping",
            fix="pysciml.solve(prob, pysciml.SortingDirect())",
        )  # fmt: skip
    for name in ("dt", "maxiters"):
        value = getattr(options, name)
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
            raise InvalidInputError(f"{name} must be a positive number.", got=f"{name}={value!r}",
                                    fix=f"leave {name} out")  # fmt: skip
    times = (options.saveat, *prob.tspan)
    if torch.is_grad_enabled() and any(isinstance(t, torch.Tensor) and t.requires_grad for t in times):
        raise UnsupportedError("a path of jumps has no derivative in time.", got="saveat or tspan that requires grad",
                               expected="plain times", fix="saveat.detach()")  # fmt: skip
    _check_steps(alg, options)


def _check_steps(alg: JumpAlgorithm, options: _Options) -> None:
    fixed = isinstance(alg, SimpleTauLeaping)
    if options.dt is not None and not fixed:
        raise UnsupportedError(f"`{alg.name}` takes no `dt`.", got=f"dt={options.dt!r}",
                               expected="SimpleTauLeaping, or no dt", fix="leave dt out")  # fmt: skip
    if options.dt is None and fixed:
        raise InvalidInputError(f"`{alg.name}` has no steps of its own and needs dt.", got="dt=None",
                                fix=f"pysciml.solve(prob, pysciml.{alg.name}(), dt=0.01)")  # fmt: skip


def _check_time(prob: JumpProblem, alg: JumpAlgorithm, network: Network) -> None:
    if network.timed and alg.exact:
        raise UnsupportedError(
            f"`{alg.name}` is exact where rates change at events alone, and these depend on t.",
            got="rates(t, u) that use t", expected="SimpleTauLeaping, which takes the rates at the start of each leap",
            fix="pysciml.solve(prob, pysciml.SimpleTauLeaping(), dt=0.01)",
        )  # fmt: skip
