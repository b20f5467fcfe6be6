"""fit(): from a problem and data to fitted parameters."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pysciml.errors import InvalidInputError
from pysciml.fit import parameters
from pysciml.fit.checkpoint import Checkpoint, fingerprint
from pysciml.fit.errors import FitError, Setback
from pysciml.fit.evaluate import loss_of
from pysciml.fit.noise import Noise
from pysciml.fit.objective import Objective
from pysciml.fit.prior import Prior
from pysciml.fit.progress import progress as how_to_show
from pysciml.fit.result import FitResult, result_of
from pysciml.fit.run import Run
from pysciml.fit.settings import Settings
from pysciml.fit.shooting import MultipleShooting
from pysciml.fit.stage import Stage, as_stages
from pysciml.fit.trajectory import trajectories
from pysciml.fit.validation import Split, split


def fit(
    prob: Any = None,
    data: Any = None,
    t: Any = None,
    *,
    params: Any = None,
    loss: Callable | None = None,
    weights: Any = None,
    observe: Callable | None = None,
    regularization: Callable | None = None,
    stages: Any = None,
    epochs: int | Sequence[int] | None = None,
    batch_size: int | None = None,
    shooting: MultipleShooting | None = None,
    val: Any = None,
    patience: int | None = None,
    min_delta: float = 0.0,
    clip: float | None = None,
    max_failures: int = 8,
    backoff: float = 0.5,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 10,
    resume: bool | None = None,
    progress: str | bool | None = None,
    callback: Callable | None = None,
    seed: int = 0,
    alg: Any = None,
    reltol: float | None = None,
    abstol: Any = None,
    sensealg: Any = None,
    engine: str | None = None,
    route: str | None = None,
    dt: float | None = None,
    dtmax: float | None = None,
    maxiters: int | None = None,
) -> FitResult:
    """Fits what is unknown in a differential equation to data; the fitted tensors then hold the best values found.

    A step that leads to where the equation cannot be solved, or the loss is not finite, is taken back and tried again
    with a smaller learning rate. Ctrl-C ends the fit and returns the best so far. The best is by validation loss where
    there is one, else by training loss.

    Args:
        prob: an ODEProblem, or a list of them fitted together. None: `loss` solves by itself.
        data: observations in the structure of `sol.u`, each leaf (k, *shape) for k times; NaN where nothing was
            observed. A tensor, array or table. With a list of problems, a list. None: `loss` looks at the solution.
        t: (k,) times of the data, as `saveat` of `solve`; a list of such where they differ between problems.
        params: what to fit: a module, tensors or a dict of them. None finds all that requires grad and takes part in
            the loss: parameters of modules, leaves of `p` and `u0`, tensors that f captured.
        loss: None is the mean square of prediction minus data over all observations. Else with data a noise model, as
            `GaussianNoise(0.1)`, or `loss(predicted, observed)` on vectors of what was observed, as any loss of
            torch.nn; without data `loss(sol)`, averaged over the problems; without a problem `loss(solve)`, given a
            `pysciml.solve` that has the options below and is counted. Returns a scalar tensor.
        weights: factors for the squares, like the data or broadcasting to it: 1 / sigma**2.
        observe: from `sol.u` to what was measured, where that is not the state itself. May be a module with parameters.
        regularization: from the dict of fitted tensors to a scalar tensor that is added to the training loss; or, with
            a noise model, a `Prior`.

        stages: `Stage`s, one after the other, each from the best so far; or what makes one: "adam",
            ("adam", 300), torch.optim.AdamW. None: 300 epochs of Adam, then up to 100 of L-BFGS (and 50 more
            straight through after multiple shooting). epochs: instead of the stages' own, one number or one each.
        batch_size: problems a step, in an order drawn from `seed`. L-BFGS always takes them all.
        shooting: `MultipleShooting(...)`: short segments with learned initial states.
        val: what to hold out: a part of the last times (0.2), indices or a mask of times, (prob, data, t) of its own,
            or where the loss is a function of the solution, such a function.
        patience, min_delta: a stage ends after `patience` epochs in which the best loss (on validation data if there is
            some) did not fall by more than `min_delta`.
        clip: largest norm of the gradient; not for optimizers with a line search, which it would mislead.
        max_failures: failed attempts in a row after which the fit gives up. backoff: the learning rate's factor a try.

        checkpoint: a file, replaced every `checkpoint_every` epochs and at the end. resume: True goes on from it as if
            nothing had happened, to the last digit (or starts, if there is none), False starts anew, None refuses to
            overwrite one.
        progress: "auto", "on" or "off"; None is `pysciml.config.progress`.
        callback: called with the `History` after every epoch; returns True to end the fit.
        seed: of the order of batches.
        alg, reltol, abstol, sensealg, engine, route, dt, dtmax, maxiters: as of `pysciml.solve`.

    Returns:
        FitResult: `.loss`, `.history`, `.solution`, `.plot()`, why it stopped, and more.

    Raises:
        InvalidInputError: arguments that cannot mean anything; nothing to fit; a parameter without influence.
        FitError: no loss at the start, or `max_failures` attempts in a row failed; has the best so far as `.result`.

    Example:
        >>> import torch, pysciml as ps
        >>> rate = torch.tensor([0.5, 0.5], dtype=torch.float64, requires_grad=True)
        >>> f = lambda t, u: torch.stack([-rate[0] * u[0], rate[0] * u[0] - rate[1] * u[1]])
        >>> prob = ps.ODEProblem(f, torch.tensor([1.0, 0.0], dtype=torch.float64), (0.0, 5.0))
        >>> t = torch.linspace(0.5, 5, 10, dtype=torch.float64)
        >>> chain = torch.stack([torch.exp(-t), 2 * (torch.exp(-t / 2) - torch.exp(-t)) ], dim=1)
        >>> result = ps.fit(prob, chain, t, epochs=(50, 50), progress="off")
        >>> [round(x, 3) for x in rate.tolist()]
        [1.0, 0.5]
    """
    options = {"alg": alg, "reltol": reltol, "abstol": abstol, "sensealg": sensealg, "engine": engine, "route": route,
               "dt": dt, "dtmax": dtmax, "maxiters": maxiters}  # fmt: skip
    options = {name: value for name, value in options.items() if value is not None}
    _check(prob, data, loss, weights, observe, regularization, shooting, batch_size)
    saving = None if checkpoint is None else Checkpoint(checkpoint, checkpoint_every, resume)
    planned = as_stages(stages, epochs, shooting is not None)
    _check_horizons(planned, shooting, prob)
    settings = Settings(planned, batch_size, seed, clip, patience, min_delta, max_failures, backoff, callback, saving)
    show = how_to_show(progress)
    every = [] if prob is None else trajectories(prob, data, t, weights, observed=observe is not None)
    parts = split(every, val, observed=observe is not None)
    objective = Objective(parts, loss, observe, regularization, shooting, options)
    objective.enter(settings.stages[0])
    named = _fitted(objective, params, [observe, loss])
    objective.parameters = named
    _try_stages(settings, objective, named)

    several = isinstance(prob, (list, tuple))
    result = partial(result_of, named=named, trajectories=every, split=parts, options=options, several=several)
    return Run(objective, named, settings, show, result, _setup(settings, parts, named, shooting, options)).run()


def _check(prob, data, loss, weights, observe, regularization, shooting, batch_size) -> None:
    """What the arguments exclude of each other."""
    for name, f in (("loss", loss), ("observe", observe), ("regularization", regularization)):
        if f is not None and not callable(f):
            raise InvalidInputError(f"{name} must be a function.", got=f"{f!r:.60}", fix=f"{name}=lambda ...: ...")
    if data is None and loss is None:
        raise InvalidInputError(
            "fit needs data, or a loss.", got="data=None and loss=None", fix="pysciml.fit(prob, data, t)"
        )
    if prob is None and data is not None:
        raise InvalidInputError("data needs a problem whose solution to hold it against.", got="prob=None",
                                fix="pysciml.fit(pysciml.ODEProblem(f, u0, tspan), data, t)")  # fmt: skip
    if weights is not None and loss is not None:
        raise InvalidInputError(
            "weights belong to the mean square; a loss of your own has its own.",
            got="loss and weights",
            fix="put the weights into loss",
        )
    if isinstance(regularization, Prior) and (data is None or not isinstance(loss, Noise)):
        raise InvalidInputError(
            "a prior is weighed against the likelihood of data, which only a noise model has.",
            got=f"loss={'None' if loss is None else type(loss).__name__}",
            expected="GaussianNoise, LogNormalNoise, StudentTNoise, PoissonNoise, ...",
            fix="pysciml.fit(prob, data, t, loss=pysciml.GaussianNoise(sigma), regularization=prior)",
        )
    if shooting is not None and not isinstance(shooting, MultipleShooting):
        raise InvalidInputError(
            "shooting must be a MultipleShooting.", got=f"{shooting!r:.60}", fix="shooting=pysciml.MultipleShooting(5)"
        )
    for name, value in (("shooting", shooting), ("observe", observe)):
        if value is not None and data is None:
            raise InvalidInputError(
                f"{name} needs data; a loss of the solution does without.",
                got=f"{name} and data=None",
                fix="pysciml.fit(prob, data, t, ...)",
            )
    if batch_size is not None and not isinstance(prob, (list, tuple)):
        raise InvalidInputError(
            "batch_size divides a list of problems.",
            got=f"batch_size={batch_size!r} for one problem",
            fix="pysciml.fit([prob_0, prob_1, ...], [data_0, data_1, ...], t, batch_size=1)",
        )


def _check_horizons(stages: Sequence[Stage], shooting: Any, prob: Any) -> None:
    for stage in stages:
        if stage.horizon < 1 and (prob is None or (shooting is not None and stage.shooting)):
            raise InvalidInputError(
                "a horizon is of times solved straight through: segments, and a loss that solves by itself, have none.",
                got=repr(stage),
                fix=f'pysciml.Stage("{stage.name}", {stage.epochs}, shooting=False, horizon={stage.horizon:g})'
                if shooting is not None
                else "leave horizon out, and solve shorter times in the loss",
            )


def _fitted(objective: Objective, params: Any, functions: list[Any]) -> parameters.Named:
    """The tensors to fit, by name: those listed, or those that one loss depends on."""
    named = {} if params is None else parameters.given(params)
    objective.parameters = named
    regularization, objective.regularization = objective.regularization, objective.regularization if named else None
    since = parameters.now()
    try:
        value = loss_of(objective)
    except Setback as setback:
        raise FitError(
            f"the loss cannot be computed at the start: {setback.reason}", got="no loss to begin with",
            fix="start from other values, fit shorter times first, or shooting=pysciml.MultipleShooting(5)",
        ) from setback.cause  # fmt: skip
    finally:
        objective.regularization = regularization
    problems = [x.full for x in objective.split.train]
    leaves = parameters.reached(value, since, problems)
    if named:
        parameters.check_influence(named, leaves)
        return named
    states = set(map(id, objective.learned_states().values()))
    return parameters.found([x for x in leaves if id(x) not in states], problems, functions)


def _try_stages(settings: Settings, objective: Objective, named: parameters.Named) -> None:
    """Makes every optimizer once, so that the last stage's typing error shows before the first has run."""
    own, states = list(named.values()), list(objective.learned_states().values())
    for stage in settings.stages:
        stage.build(own + states if stage.shooting else own)


def _setup(
    settings: Settings, parts: Split, named: parameters.Named, shooting: Any, options: dict[str, Any]
) -> dict[str, Any]:
    """What must be the same for a checkpoint to go on from; more epochs may be asked for."""
    return {
        "parameters": [[name, list(x.shape), str(x.dtype)] for name, x in named.items()],
        "stages": [repr(s).replace(f", {s.epochs}", "", 1) for s in settings.stages],
        "data": fingerprint([*parts.train, *parts.held_out]),
        "solver": {name: repr(value) for name, value in options.items()},
        "settings": {
            name: repr(getattr(settings, name)) for name in ("batch_size", "seed", "clip", "min_delta", "backoff")
        },
        "shooting": None if shooting is None else [shooting.segments, shooting.continuity],
    }
