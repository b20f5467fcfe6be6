"""From a RODEProblem, or an ensemble of its paths, to solutions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from pysciml.algorithms import Algorithm, RandomAlgorithm, RandomHeun, by_name
from pysciml.control import SaveAt, path_seeds, save_times, seed_of
from pysciml.engines import select
from pysciml.engines.base import RequestPart
from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.problems import EnsembleProblem, NoisePath, RODEProblem
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
    check_numbers,
    in_julia,
)


def solve_rode(
    prob: RODEProblem,
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
    """`pysciml.solve` of an `RODEProblem`: one path. Args: alg: None takes `RandomHeun`. dt: its step."""
    options = Options(saveat=saveat, engine=engine, route=route, dt=dt, maxiters=maxiters, seed=seed, noise=noise)
    return as_solution(prob, *_solve(prob, alg, options, None, 1))


def solve_rodes(ensemble: EnsembleProblem, alg: Algorithm | str | None, **options: Any) -> EnsembleSolution:
    """`pysciml.solve_ensemble` of an `RODEProblem`: all paths in one call; options as of `solve_rode`."""
    return as_ensemble(ensemble, *_solve(ensemble.prob, alg, Options(**options), ensemble, len(ensemble)))


def _solve(
    prob: RODEProblem, alg: Any, options: Options, ensemble: EnsembleProblem | None, count: int
) -> tuple[torch.Tensor, torch.Tensor, Found]:
    alg = by_name(alg) if isinstance(alg, str) else alg or RandomHeun()
    check_input(prob, options, "a random equation")
    _check(alg, options)
    ts = save_times(prob, options.saveat)
    seed = seed_of(options.seed)
    equation = _prepare(prob, options.route)
    steps = {"dt": options.dt, "adaptive": False} | ({"maxiters": options.maxiters} if options.maxiters else {})
    rows = Rows.of(prob, ensemble)
    return ts, *in_julia(prob, equation, alg, options, steps, ts, rows, path_seeds(seed, count), seed)


def _prepare(prob: RODEProblem, route: str | None) -> Equation:
    """f in a square, compiled, or made ready to be called back."""
    n, m = prob.inputs.u_layout.size, prob.motions
    u = torch.cat([*(x.detach().reshape(-1) for x in prob.inputs.u), prob.inputs.u[0].new_zeros(m)])
    padded = Padded(prob.slope, n + m, n, of=(prob.f,))
    f = SimpleNamespace(f=padded, u0=u, tspan=prob.tspan, p=prob.p)
    ((program, rhs),) = prepare_together([f], route, "f cannot be compiled, so Python is", stacklevel=6)
    drift = RequestPart(rhs, program, np.arange(rhs.m))
    return Equation(drift, None, program.captured, (prob.motions, 1, 1), additive=False)


def _check(alg: Any, options: Options) -> None:
    if not isinstance(alg, RandomAlgorithm):
        if not isinstance(alg, Algorithm):
            raise InvalidInputError("alg must be an algorithm or its name.", got=f"{alg!r:.80}",
                                    fix="pysciml.RandomHeun()")  # fmt: skip
        raise UnsupportedError(f"`{alg.name}` cannot solve a RODEProblem.", got=alg.name,
                               expected="RandomEM, RandomHeun or RandomTamedEM",
                               fix="pysciml.solve(prob, pysciml.RandomHeun(), dt=0.01)")  # fmt: skip
    check_numbers(options)
    if options.dt is None:
        raise InvalidInputError(f"`{alg.name}` has no steps of its own and needs dt.", got="dt=None",
                                fix=f"pysciml.solve(prob, pysciml.{alg.name}(), dt=0.01)")  # fmt: skip
    if select.engine_name(options.engine) != "julia":
        raise UnsupportedError(
            "the embedded engine has no library for random equations.", got='engine="embedded"'
            if options.engine == "embedded" else "no Julia environment",
            expected='engine="julia"; or an ODEProblem with w interpolated inside f',
            fix="python -m pysciml julia install",
        )  # fmt: skip
