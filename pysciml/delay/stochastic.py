"""From an SDDEProblem, or an ensemble of its paths, to solutions."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import torch

from pysciml.algorithms import EM, Algorithm, EulerHeun, StochasticAlgorithm, by_name
from pysciml.control import SaveAt, path_seeds, save_times, seed_of
from pysciml.delay.pieces import Lags, Past, Slope, count_asked
from pysciml.engines import select
from pysciml.engines.parts import captured_by_any, with_places
from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.first_order import refusing
from pysciml.problems import EnsembleProblem, NoisePath, SDDEProblem
from pysciml.rhs.padded import Padded
from pysciml.rhs.together import prepare_together
from pysciml.solution import EnsembleSolution
from pysciml.stochastic.equation import Equation
from pysciml.stochastic.solution import SDESolution
from pysciml.stochastic.solve import (
    Found,
    Options,
    Rows,
    as_ensemble,
    as_solution,
    check_input,
    check_noise,
    check_numbers,
    in_julia,
)

_REFUSAL = {
    "what": "there are no gradients through a stochastic delay equation.",
    "got": "backward() through the states of an SDDEProblem",
    "expected": "finite differences at the same seed; an SDEProblem or a DDEProblem has gradients",
    "fix": "with torch.no_grad(): (loss(p + h) - loss(p - h)) / (2 * h)",
}


def solve_sdde(
    prob: SDDEProblem,
    alg: Algorithm | str | None = None,
    *,
    saveat: SaveAt = None,
    engine: str | None = None,
    route: str | None = None,
    dt: float | None = None,
    maxiters: int | None = None,
    seed: int | None = None,
    noise: NoisePath | None = None,
) -> SDESolution:
    """`pysciml.solve` of an `SDDEProblem`: one path. Args: as of an `SDEProblem`; alg: None takes `EM`, `EulerHeun`."""
    options = Options(saveat=saveat, engine=engine, route=route, dt=dt, maxiters=maxiters, seed=seed, noise=noise)
    return as_solution(prob, *_solve(prob, alg, options, None, 1))


def solve_sddes(ensemble: EnsembleProblem, alg: Algorithm | str | None, **options: Any) -> EnsembleSolution:
    """`pysciml.solve_ensemble` of an `SDDEProblem`: all paths in one call; options as of `solve_sdde`."""
    return as_ensemble(ensemble, *_solve(ensemble.prob, alg, Options(**options), ensemble, len(ensemble)))


def _solve(
    prob: SDDEProblem, alg: Any, options: Options, ensemble: EnsembleProblem | None, count: int
) -> tuple[torch.Tensor, torch.Tensor, Found]:
    alg = by_name(alg) if isinstance(alg, str) else alg or (EM() if prob.interpretation == "ito" else EulerHeun())
    check_input(prob, options, "a stochastic delay equation")
    _check(alg, options)
    ts = save_times(cast("Any", prob), options.saveat)
    seed = seed_of(options.seed)
    equation = _prepare(prob, options.route)
    check_noise(alg, cast("Any", prob), equation.additive)
    # With steps of its own DelayDiffEq 6.0.6 draws wrong noise: SOSRI took 489 steps for du = a dt + σ dW, and the mean
    # of 500 paths was six standard errors off; at a tenth of the tolerance, 5077 steps and three.
    steps = {"dt": options.dt, "adaptive": False} | ({"maxiters": options.maxiters} if options.maxiters else {})
    rows = Rows.of(prob, ensemble)
    anchors = [x for x in (rows.u0, *rows.p, *equation.captured) if x.requires_grad] if torch.is_grad_enabled() else []
    with torch.no_grad():
        u, found = in_julia(prob, equation, alg, options, steps, ts, rows, path_seeds(seed, count), seed)

    def at(times: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            x = found.at(times)
        return refusing(x, anchors, **_REFUSAL)

    return ts, refusing(u, anchors, **_REFUSAL), replace(found, at=at)


class _Piece(NamedTuple):
    """A part as a right-hand side, and how many past states it is given."""

    f: Padded
    calls: int


def _pieces(prob: SDDEProblem) -> list[_Piece]:
    """The slope and the lags of the drift, then of the diffusion, and the past."""
    layout, n, found = prob.inputs.u_layout, prob.inputs.u_layout.size, []
    for f in (prob.f, prob.g):
        calls = count_asked(SimpleNamespace(f=f, p=prob.p, inputs=prob.inputs, span=prob.span))
        found.append(_Piece(Padded(Slope(f, layout, calls), n * (1 + calls), n, of=(f,)), calls))
        lags = Lags(f, layout, calls) if calls else _no_lags
        found.append(_Piece(Padded(lags, n, max(calls, 1), of=(f,)), calls))
    if not found[0].calls + found[2].calls:
        raise InvalidInputError(
            "neither f nor g asks for the past.", got="f(t, u, h) and g(t, u, h) that do not call h",
            expected="h(t - lag) in one of them; or, without delays, an SDEProblem",
            fix="pysciml.SDEProblem(f, g, u0, tspan, p)",
        )  # fmt: skip
    return [*found, _Piece(Padded(Past(prob.h, layout), n, n, of=(prob.h,) if callable(prob.h) else ()), 0)]


def _no_lags(t: torch.Tensor, x: torch.Tensor, *p: Any) -> torch.Tensor:
    return t.reshape(1)


def _prepare(prob: SDDEProblem, route: str | None) -> Equation:
    made = _pieces(prob)
    flat = torch.cat([x.detach().reshape(-1) for x in prob.inputs.u])
    examples = [flat.repeat(-(-part.f.n // flat.numel()))[: part.f.n] for part in made]
    functions = [SimpleNamespace(f=part.f, u0=z, tspan=prob.tspan, p=prob.p)
                 for part, z in zip(made, examples, strict=True)]  # fmt: skip
    prepared = prepare_together(functions, route, "f, g or h cannot be compiled, so they are", stacklevel=6)
    captured = captured_by_any(prepared)
    drift, lags, diffusion, others, past = with_places(prepared, prob.inputs.p, captured)
    graph = diffusion.rhs.graph("f", diffusion.program) if hasattr(diffusion.rhs, "graph") else None
    additive = graph is not None and not graph.depends_on("u")
    return Equation(drift, diffusion, captured, (prob.motions, 1, 1), additive, (lags, others, past),
                    (made[0].calls, made[2].calls))  # fmt: skip


def _check(alg: Any, options: Options) -> None:
    if not isinstance(alg, StochasticAlgorithm):
        if not isinstance(alg, Algorithm):
            raise InvalidInputError("alg must be an algorithm or its name.", got=f"{alg!r:.80}", fix="pysciml.EM()")
        raise UnsupportedError(f"`{alg.name}` cannot solve an SDDEProblem.", got=alg.name,
                               expected="an explicit solver of stochastic equations: EM, LambaEM, SOSRI, RKMil, ...",
                               fix="pysciml.solve(prob, pysciml.EM(), dt=0.01)")  # fmt: skip
    if alg.implicit or not alg.package:
        raise UnsupportedError(
            f"`{alg.name}` is not offered for stochastic delay equations.", got=alg.name,
            expected="an explicit solver of Julia's: EM, LambaEM, EulerHeun, SOSRI, RKMil, ...",
            fix="pysciml.solve(prob, pysciml.EM(), dt=0.01)",
        )  # fmt: skip
    check_numbers(options)
    if options.dt is None:
        raise InvalidInputError(f"`{alg.name}` takes fixed steps here and needs dt.", got="dt=None",
                                fix=f"pysciml.solve(prob, pysciml.{alg.name}(), dt=0.01)")  # fmt: skip
    if select.engine_name(options.engine) != "julia":
        raise UnsupportedError(
            "the embedded engine has no library for stochastic delay equations.", got='engine="embedded"'
            if options.engine == "embedded" else "no Julia environment", expected='engine="julia"',
            fix="python -m pysciml julia install",
        )  # fmt: skip
