"""From an SDEProblem, or an ensemble of its paths, to solutions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.algorithms import (
    EM,
    SOSRA,
    SOSRI,
    Algorithm,
    EulerHeun,
    LambaEM,
    LambaEulerHeun,
    RKMil,
    StochasticAlgorithm,
    by_name,
)
from pysciml.config import config
from pysciml.control import SaveAt, in_order, path_seeds, save_times, seed_of
from pysciml.engines import select
from pysciml.engines.stochastic import PathsRequest
from pysciml.errors import InvalidInputError, SolveError, UnsupportedError
from pysciml.problems import EnsembleProblem, NoisePath, SDEProblem
from pysciml.rhs import functorch
from pysciml.rhs.parameters import real, to_numpy
from pysciml.sensitivity import DirectAdjoint, SensitivityAlgorithm
from pysciml.solution import EnsembleSolution, FailedTrajectory, ReturnCode, Stats
from pysciml.stochastic.equation import Equation, prepare
from pysciml.stochastic.paths import Call, SolvePaths
from pysciml.stochastic.solution import SDESolution


def solve_sde(
    prob: SDEProblem,
    alg: Algorithm | str | None = None,
    *,
    saveat: SaveAt = None,
    reltol: float | None = None,
    abstol: float | None = None,
    sensealg: SensitivityAlgorithm | None = None,
    engine: str | None = None,
    route: str | None = None,
    dt: float | None = None,
    dtmax: float | None = None,
    maxiters: int | None = None,
    adaptive: bool | None = None,
    seed: int | None = None,
    noise: NoisePath | None = None,
) -> SDESolution:
    """`pysciml.solve` of an `SDEProblem`: one path.

    Args:
        alg: None takes `SOSRI` for Ito equations with diagonal noise, `RKMil` for Stratonovich's, `SOSRA` where the
            diffusion does not depend on the state, and else `LambaEM` or `LambaEulerHeun`; embedded: `EM`, `EulerHeun`.
        reltol, abstol: of solvers with steps of their own. Defaults 1e-2 and 1e-2, as in Julia.
        dt: the step of a solver without steps of its own, or the first one. adaptive: False keeps to dt.
        sensealg: `DirectAdjoint`, the derivative of the steps that were taken, is the one there is.
    """
    options = Options(saveat, reltol, abstol, sensealg, engine, route, dt, dtmax, maxiters, adaptive, seed, noise)
    return as_solution(prob, *_solve(prob, alg, options, count=None))


def solve_paths(ensemble: EnsembleProblem, alg: Algorithm | str | None, **options: Any) -> EnsembleSolution:
    """`pysciml.solve_ensemble` of an `SDEProblem`: all paths in one call; options as of `solve_sde`."""
    solved = _solve(ensemble.prob, alg, Options(**options), count=len(ensemble), ensemble=ensemble)
    return as_ensemble(ensemble, *solved)


def as_solution(prob: Any, ts: torch.Tensor, u: torch.Tensor, found: Found) -> SDESolution:
    """The solution of one path, from its states (1, k, n); raises the error that it ended with."""
    if found.errors:
        raise found.errors[0]

    def dense(times: torch.Tensor) -> Any:
        return in_order(times, False, lambda ts: prob.inputs.u_layout.unflatten(found.at(ts)[0]))

    states = prob.inputs.u_layout.unflatten(u.squeeze(0))
    return SDESolution(ts, states, prob, ReturnCode.Success, found.stats, dense, seed=found.seed, _noise=found.noise)


def as_ensemble(ensemble: EnsembleProblem, ts: torch.Tensor, u: torch.Tensor, found: Found) -> EnsembleSolution:
    """The solution of many paths, from their states (N, k, n)."""
    failures = [FailedTrajectory.of(i, error) for i, error in sorted(found.errors.items())]
    states = ensemble.prob.inputs.u_layout.unflatten(u)
    return EnsembleSolution(ts, states, ensemble, failures, found.stats, seed=found.seed)


@dataclass(eq=False)
class Options:
    """The options of a solve, as of `solve_sde`."""

    saveat: SaveAt = None
    reltol: float | None = None
    abstol: float | None = None
    sensealg: SensitivityAlgorithm | None = None
    engine: str | None = None
    route: str | None = None
    dt: float | None = None
    dtmax: float | None = None
    maxiters: int | None = None
    adaptive: bool | None = None
    seed: int | None = None
    noise: NoisePath | None = None


@dataclass(eq=False)
class Found:
    """What came of a solve besides the states: errors by path, and what gives states at other times, and the noise."""

    errors: dict[int, SolveError]
    stats: Stats
    seed: int
    at: Callable[[torch.Tensor], torch.Tensor]
    noise: Callable[[], NoisePath]


def _solve(prob: SDEProblem, alg: Any, options: Options, count: int | None, ensemble: EnsembleProblem | None = None):
    """The times, the states (N, k, n) in the state's dtype, and what else was found."""
    alg = by_name(alg) if isinstance(alg, str) else alg
    _check(prob, alg, options)
    ts = save_times(prob, options.saveat)
    seed = seed_of(options.seed)
    on_cpu = prob.inputs.u[0].device.type == "cpu"
    known = alg is not None and alg.package == ""
    name = select.engine_name(options.engine)
    if name == "julia" and (options.engine or config.engine) == "auto" and (known or not on_cpu):
        name = "embedded"
    rows = Rows.of(prob, ensemble)
    run = _stepped if name == "julia" else _embedded
    return ts, *run(prob, alg, options, ts, rows, path_seeds(seed, count or 1), seed)


class Rows(NamedTuple):
    """Initial states (N or 1, n) and parameters, leaves that are (N, *shape) or as they are for all."""

    u0: torch.Tensor
    p: list[torch.Tensor]
    p_differs: bool

    @classmethod
    def of(cls, prob: Any, ensemble: EnsembleProblem | None) -> Rows:
        many = None if ensemble is None else ensemble.u0
        if many is None:
            flat = [x.reshape(1, -1) for x in prob.inputs.u]
        else:
            flat = [x.reshape(x.shape[0], -1) for x in pytree.tree_leaves(many)]
        u0 = flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)
        differs = ensemble is not None and ensemble.p is not None
        return cls(u0, pytree.tree_leaves(ensemble.p) if differs else prob.inputs.p, differs)  # type: ignore[union-attr]


def _stepped(prob: SDEProblem, alg: Any, options: Options, ts: torch.Tensor, rows: Rows, seeds: np.ndarray, seed: int):
    select.engine("julia")  # or an error that says how to get it
    _check_sensealg(options.sensealg)
    equation = prepare(prob, options.route)
    alg = alg or default_algorithm(prob, equation.additive)
    check_noise(alg, prob, equation.additive)
    return in_julia(prob, equation, alg, options, stepping(alg, options), ts, rows, seeds, seed)


def stepping(alg: Any, options: Options) -> dict[str, Any]:
    """The options of Julia's solver that are about its steps."""
    steps = {k: getattr(options, k) for k in ("dt", "dtmax", "maxiters", "adaptive") if getattr(options, k) is not None}
    if not alg.adaptive or options.adaptive is False:
        _check_dt(alg, options.dt)
        steps["adaptive"] = False
    return steps


def in_julia(
    prob: Any, equation: Equation, alg: Algorithm, options: Options, steps: dict[str, Any], ts: torch.Tensor,
    rows: Rows, seeds: np.ndarray, seed: int,
) -> tuple[torch.Tensor, Found]:  # fmt: skip
    """The states (N, k, n) of all paths, in the state's dtype, and what else was found; `steps` are Julia's options."""
    select.engine("julia")
    make = functools.partial(request_maker(prob, equation, alg, options, steps, ts, len(seeds)), seeds=seeds)
    u0 = rows.u0.double().cpu()
    leaves = [x if x.is_cpu else x.cpu() for x in (*rows.p, *map(real, equation.captured))]
    call = Call(make, to_numpy(ts).copy(), len(rows.p) if rows.p_differs else 0)
    u = SolvePaths.apply(call, u0, *leaves)

    def at(times: torch.Tensor) -> torch.Tensor:
        again = Call(make, to_numpy(times).copy(), call.differ, call.request, call.paths)
        return SolvePaths.apply(again, u0, *leaves).to(rows.u0)

    def noise() -> NoisePath:
        from pysciml.engines.julia.stochastic import steps

        t, W, Z = steps(call.paths, 0)
        return NoisePath(torch.from_numpy(t), torch.from_numpy(W), torch.from_numpy(Z) if Z.shape[1] else None)

    return u.to(rows.u0), Found(call.paths.errors, call.paths.stats, seed, at, noise)


def request_maker(
    prob: Any, equation: Equation, alg: Algorithm, options: Options, steps: dict[str, Any], ts: torch.Tensor, count: int
) -> functools.partial[PathsRequest]:
    """What makes a request of the values u0, p and seeds, of `count` paths."""
    single = prob.inputs.u[0].dtype is torch.float32 and config.single_precision
    return functools.partial(
        PathsRequest, drift=equation.drift, diffusion=equation.diffusion, blocks=equation.blocks, t0=prob.span[0],
        t1=prob.span[1], ts=to_numpy(ts).copy(), alg=alg, reltol=options.reltol or 1e-2, abstol=options.abstol or 1e-2,
        noise=_given(prob, options.noise, count), options=steps, single=single, delays=equation.delays,
        asked=equation.asked, interpretation=getattr(prob, "interpretation", "ito"),
    )  # fmt: skip


def _embedded(prob: SDEProblem, alg: Any, options: Options, ts: torch.Tensor, rows: Rows, seeds: np.ndarray, seed: int):
    from pysciml.engines.embedded import torchsde_methods as torchsde

    if options.route == "compiled":
        raise UnsupportedError(
            "the embedded engine solves stochastic equations in eager torch.",
            got='route="compiled"',
            expected='engine="julia", or no route',
            fix="leave route out",
        )
    alg = alg or (EM() if prob.interpretation == "ito" else EulerHeun())
    check_noise(alg, prob, additive=prob.noise_type == "additive")
    torchsde.check(alg, options.sensealg, prob.interpretation)
    count = len(seeds)
    for name in ("dtmax", "maxiters"):
        if getattr(options, name) is not None:
            raise UnsupportedError(f"torchsde takes no `{name}`.", got=f"{name}={getattr(options, name)!r}",
                                   expected='engine="julia"', fix=f"leave {name} out")  # fmt: skip
    batch = torchsde.Batch(prob, count, rows.u0, rows.p, rows.p_differs)
    path = options.noise
    _given(prob, path, count)  # checks it
    solve = functools.partial(
        torchsde.solve, batch, alg, seed=seed, noise=path, dt=_check_dt(alg, options.dt),
        adaptive=bool(options.adaptive), reltol=options.reltol or 1e-2, abstol=options.abstol or 1e-2,
    )  # fmt: skip
    u, stats = solve(ts)
    bad = [i for i in range(count) if not bool(torch.isfinite(u[i].detach()).all())]
    errors = {i: _unstable(alg, prob) for i in bad}

    def noise() -> NoisePath:
        if path is not None:
            return path
        raise UnsupportedError(
            "torchsde does not keep the path it drew.",
            got='engine="embedded" without noise',
            expected="the seed, or a path that is given",
            fix="noise=pysciml.NoisePath.sample(t, m)",
        )

    return u, Found(errors, stats, seed, lambda times: solve(times)[0], noise)


def _unstable(alg: StochasticAlgorithm, prob: SDEProblem) -> SolveError:
    code = ReturnCode.Unstable
    return SolveError(
        f"the forward solve by {alg.name} ended in NaN or infinity: {code.name}.\nLikely cause: {code.cause}.",
        retcode=code,
        got="NaN or infinity in the result",
        fix="a smaller dt; or ImplicitEM in the julia engine",
    )


def default_algorithm(prob: SDEProblem, additive: bool) -> StochasticAlgorithm:
    """What SciML takes for this kind of noise."""
    if additive:
        return SOSRA()
    if prob.noise_type == "diagonal":
        return SOSRI() if prob.interpretation == "ito" else RKMil()
    return LambaEM() if prob.interpretation == "ito" else LambaEulerHeun()


def _given(prob: Any, noise: NoisePath | None, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    if noise is None:
        return None
    if not isinstance(noise, NoisePath):
        raise InvalidInputError("noise must be a path.", got=f"{noise!r:.60}", expected="a NoisePath, or None",
                                fix=f"pysciml.NoisePath.sample(t, {prob.motions})")  # fmt: skip
    t0, t1 = prob.span
    wide = noise.W if noise.W.dim() == 3 else noise.W[None]
    if wide.shape[2] != prob.motions or wide.shape[0] not in (1, count):
        raise InvalidInputError("the noise path must have the motions of the problem, for one path or for all.",
                                got=repr(noise), expected=f"{prob.motions} motions; 1 path or {count}",
                                fix=f"pysciml.NoisePath.sample(t, {prob.motions})")  # fmt: skip
    if float(noise.t[0]) > t0 or float(noise.t[-1]) < t1:
        raise InvalidInputError(
            "the noise path must enclose the span.",
            got=repr(noise),
            expected=f"from {t0:g} to {t1:g}",
            fix=f"pysciml.NoisePath.sample(torch.linspace({t0:g}, {t1:g}, 1001), {prob.motions})",
        )
    second = noise.Z if noise.Z is None or noise.Z.dim() == 3 else noise.Z[None]
    each = (noise.t, wide, torch.zeros(0, dtype=torch.float64) if second is None else second)
    times, W, Z = (np.ascontiguousarray(x.numpy()) for x in each)
    return times, W, Z


def _check(prob: SDEProblem, alg: Any, options: Options) -> None:
    """What can be said before there is an engine."""
    check_input(prob, options, "a stochastic equation")
    if alg is not None and not isinstance(alg, StochasticAlgorithm):
        if not isinstance(alg, Algorithm):
            raise InvalidInputError("alg must be an algorithm or its name.", got=f"{alg!r:.80}", fix="pysciml.SOSRI()")
        raise UnsupportedError(f"`{alg.name}` cannot solve an SDEProblem.", got=alg.name,
                               expected="a solver of stochastic equations: EM, SOSRI, RKMil, EulerHeun, ...",
                               fix="pysciml.solve(prob, pysciml.SOSRI())")  # fmt: skip
    check_numbers(options)


def check_numbers(options: Options) -> None:
    """Raises `InvalidInputError` for steps or tolerances that are not positive."""
    for name in ("reltol", "abstol", "dt", "dtmax", "maxiters"):
        value = getattr(options, name)
        if value is not None and not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
            raise InvalidInputError(
                f"{name} must be a positive number.", got=f"{name}={value!r}", fix=f"leave {name} out"
            )


def check_input(prob: Any, options: Options, name: str) -> None:
    """Raises `UnsupportedError` for transforms, complex numbers and gradients in times."""
    if functorch.transforming():
        raise UnsupportedError(f"{name} is not transformed by torch.func.", got="a solve in a transform",
                               expected="backward() or torch.autograd.grad",
                               fix="torch.autograd.grad(loss, parameters)")  # fmt: skip
    if any(x.is_complex() for x in (*prob.inputs.u, *prob.inputs.p)):
        raise UnsupportedError(f"{name} has real states and parameters.", got="a complex u0 or p",
                               expected="pairs of real numbers", fix="torch.view_as_real(u0)")  # fmt: skip
    times = (options.saveat, *prob.tspan)
    if torch.is_grad_enabled() and any(isinstance(t, torch.Tensor) and t.requires_grad for t in times):
        raise UnsupportedError("a path has no derivative in time, so there is no gradient in times.",
                               got="saveat or tspan that requires grad", expected="plain times",
                               fix="saveat.detach()")  # fmt: skip


def _check_sensealg(sensealg: SensitivityAlgorithm | None) -> None:
    if sensealg is not None and not isinstance(sensealg, DirectAdjoint):
        raise UnsupportedError(
            f"`{sensealg.name}` is not available for stochastic equations in the julia engine.",
            got=f"sensealg={sensealg.name}()", expected="DirectAdjoint, the derivative of the solver's own steps",
            fix="leave sensealg out",
        )  # fmt: skip


def _check_dt(alg: StochasticAlgorithm, dt: float | None) -> float:
    if dt is None:
        raise InvalidInputError(f"`{alg.name}` with fixed steps needs dt.", got="dt=None",
                                fix=f"pysciml.solve(prob, pysciml.{alg.name}(), dt=0.01)")  # fmt: skip
    return dt


def check_noise(alg: StochasticAlgorithm, prob: SDEProblem, additive: bool) -> None:
    """Raises `UnsupportedError` if the algorithm solves other equations, or is for other noise."""
    if alg.interpretation not in ("both", prob.interpretation) and not additive:
        instead = default_algorithm(prob, additive).name
        raise UnsupportedError(f"`{alg.name}` solves {alg.interpretation.title()}'s equations, which this one is not.",
                               got=f'interpretation="{prob.interpretation}"', expected=instead,
                               fix=f"pysciml.solve(prob, pysciml.{instead}())")  # fmt: skip
    kind = {"scalar": "general", "additive": "general"}.get(prob.noise_type, prob.noise_type)
    if kind not in alg.noises and not (additive and "additive" in alg.noises):
        instead = default_algorithm(prob, additive).name
        raise UnsupportedError(f"`{alg.name}` cannot solve with this noise.",
                               got=f"{prob.noise_type} noise" + ("" if additive else ", which depends on the state"),
                               expected=f"{' or '.join(alg.noises)} noise; for this one {instead}",
                               fix=f"pysciml.solve(prob, pysciml.{instead}())")  # fmt: skip
