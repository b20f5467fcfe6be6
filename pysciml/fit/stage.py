"""One stage of a fit: which optimizer, with what, for how long."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch

from pysciml.errors import InvalidInputError

# One iteration a step, so that each shows and can be checkpointed, and a line search, without which L-BFGS diverges.
# The tolerances of torch are absolute and would stop at the scale of the loss; `Stage.tolerance` is relative.
_LBFGS = {"lr": 1.0, "max_iter": 1, "line_search_fn": "strong_wolfe", "history_size": 20,
          "tolerance_grad": 0.0, "tolerance_change": 1e-16}  # fmt: skip
_SEARCHES = 25  # evaluations a line search may take; torch leaves none when an iteration is all that a step makes
_LEARNING_RATE = 0.01
_FIX = 'pysciml.Stage("Adam", 300, lr=0.01)'


class Stage:
    """An optimizer and the number of its epochs.

    Args:
        optimizer: a name from `torch.optim` in any case ("adam", "LBFGS"), a class, an instance, or a function from
            the list of tensors to an optimizer.
        epochs: how many. For L-BFGS an epoch is one iteration with its line search.
        scheduler: a function from the optimizer to a `torch.optim.lr_scheduler`, stepped after every epoch.
        shooting: False solves straight through in this stage where the fit uses `MultipleShooting`.
        horizon: the share of the training times that this stage looks at, from the first one on; stages of growing
            horizons come to fits that one of the whole span misses.
        tolerance: for L-BFGS and its like: the stage ends once three epochs in a row lower the loss by less than this
            part of it.
        options: passed to the optimizer: `lr`, `weight_decay`, ... `lr` is 0.01 unless given, and 1 for L-BFGS, which
            gets a strong Wolfe line search.

    Raises:
        InvalidInputError: no such optimizer or option; epochs negative or not a whole number.

    Example:
        >>> import pysciml as ps
        >>> ps.Stage("adamw", 200, lr=3e-3, weight_decay=1e-4)
        Stage('AdamW', 200, lr=0.003, weight_decay=0.0001)
    """

    def __init__(self, optimizer: Any = "Adam", epochs: int = 300, *, scheduler: Callable | None = None,
                 shooting: bool = True, horizon: float = 1.0, tolerance: float = 1e-8, **options: Any):  # fmt: skip
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
            raise InvalidInputError(
                "the epochs of a stage must be a whole number, 0 or more.", got=f"epochs={epochs!r}", fix=_FIX
            )
        if not tolerance >= 0:
            raise InvalidInputError(
                "tolerance must not be negative.", got=f"tolerance={tolerance!r}", fix="tolerance=1e-8"
            )
        if not (isinstance(horizon, (int, float)) and 0 < horizon <= 1):
            raise InvalidInputError("horizon must be a share of the times, above 0 and up to 1.",
                                    got=f"horizon={horizon!r}", fix="horizon=0.5")  # fmt: skip
        if scheduler is not None and not callable(scheduler):
            raise InvalidInputError(
                "scheduler must be a function of the optimizer.",
                got=type(scheduler).__name__,
                fix="scheduler=lambda opt: torch.optim.lr_scheduler.ExponentialLR(opt, 0.99)",
            )
        self.optimizer = _by_name(optimizer) if isinstance(optimizer, str) else optimizer
        self.epochs, self.scheduler, self.shooting, self.tolerance = epochs, scheduler, shooting, tolerance
        self.horizon, self.options = float(horizon), options
        self._check_optimizer()

    @property
    def name(self) -> str:
        made = self.optimizer
        return (
            type(made).__name__
            if isinstance(made, torch.optim.Optimizer)
            else getattr(made, "__name__", type(made).__name__)
        )

    def build(self, tensors: Sequence[torch.Tensor]) -> torch.optim.Optimizer:
        """The optimizer over `tensors`; an instance keeps the tensors it has.

        Raises:
            InvalidInputError: the optimizer refuses its options, or holds tensors that are not fitted.
        """
        if isinstance(self.optimizer, torch.optim.Optimizer):
            return _checked_instance(self.optimizer, tensors)
        options = _completed(self.optimizer, self.options) if isinstance(self.optimizer, type) else self.options
        try:
            made = self.optimizer(list(tensors), **options)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                f"the optimizer {self.name} could not be made: {error}", got=repr(self), fix=_FIX
            ) from error
        if not isinstance(made, torch.optim.Optimizer):
            raise InvalidInputError("the optimizer's function must return a torch optimizer.", got=type(made).__name__,
                                    fix="Stage(lambda tensors: torch.optim.Adam(tensors, lr=0.01), 300)")  # fmt: skip
        return made

    def _check_optimizer(self) -> None:
        made = self.optimizer
        if isinstance(made, torch.optim.Optimizer) and self.options:
            raise InvalidInputError(
                "an optimizer that is already made takes no more options.",
                got=", ".join(self.options),
                fix=f'pysciml.Stage("{self.name}", {self.epochs}, ...)',
            )
        is_optimizer = isinstance(made, torch.optim.Optimizer) or (
            isinstance(made, type) and issubclass(made, torch.optim.Optimizer)
        )
        if not is_optimizer and (isinstance(made, type) or not callable(made)):
            raise InvalidInputError(
                "a stage needs an optimizer: a name from torch.optim, a class, an instance or a function.",
                got=f"{made!r:.80}",
                fix=_FIX,
            )
        if isinstance(made, type):
            _check_options(made, self.options)

    def __repr__(self) -> str:
        options = [f"{name}={value!r}" for name, value in self.options.items()]
        options += ["shooting=False"] * (not self.shooting) + ["scheduler=..."] * (self.scheduler is not None)
        options += [f"horizon={self.horizon:g}"] * (self.horizon < 1)
        return f"Stage({', '.join([repr(self.name), str(self.epochs), *options])})"


def as_stages(spec: Any, epochs: Any, shooting: bool) -> tuple[Stage, ...]:
    """The stages a user means by `stages=` and `epochs=`; None is Adam, then L-BFGS.

    Raises:
        InvalidInputError: neither a stage nor a sequence of them, or epochs for another number of stages.
    """
    if spec is None:
        stages = [Stage("Adam", 300), Stage("LBFGS", 100)]
        # Learned states of the segments still jump a little; the last stage closes the gaps for good.
        stages += [Stage("LBFGS", 50, shooting=False)] if shooting else []
    else:
        single = not isinstance(spec, (list, tuple)) or _is_pair(spec)
        stages = [_as_stage(x) for x in ([spec] if single else spec)]
    if not stages:
        raise InvalidInputError("a fit needs at least one stage.", got=f"stages={spec!r}", fix=f"stages={_FIX}")
    if epochs is None:
        return tuple(stages)
    counts = list(epochs) if isinstance(epochs, (list, tuple)) else [epochs] * len(stages)
    if len(counts) != len(stages):
        raise InvalidInputError(
            "epochs must be one number, or one for each stage.",
            got=f"{len(counts)} for {len(stages)} stages",
            fix=f"epochs=({', '.join(str(s.epochs) for s in stages)})",
        )
    return tuple(Stage(s.optimizer, n, scheduler=s.scheduler, shooting=s.shooting, horizon=s.horizon,
                       tolerance=s.tolerance, **s.options) for s, n in zip(stages, counts, strict=True))  # fmt: skip


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `step` must be given a function that computes the loss, as L-BFGS's must."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _as_stage(spec: Any) -> Stage:
    if isinstance(spec, Stage):
        return spec
    return Stage(*spec) if _is_pair(spec) else Stage(spec)


def _is_pair(spec: Any) -> bool:
    """`("adam", 300)`: an optimizer and its epochs. Two optimizers are not a pair."""
    return isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[1], (int, float))


def _completed(kind: type, options: dict[str, Any]) -> dict[str, Any]:
    """The user's options over the defaults."""
    if not issubclass(kind, torch.optim.LBFGS):
        return {"lr": _LEARNING_RATE, **options}
    options = {**_LBFGS, **options}
    return {"max_eval": _SEARCHES * options["max_iter"] + 1, **options}


def _by_name(name: str) -> type[torch.optim.Optimizer]:
    known = {n.lower(): kind for n, kind in vars(torch.optim).items() if isinstance(kind, type)
             and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer}  # fmt: skip
    plain = name.lower().replace("-", "").replace("_", "")
    if plain in known:
        return known[plain]
    near = difflib.get_close_matches(plain, known, 1, 0.5)
    raise InvalidInputError(f"torch.optim has no optimizer {name!r}.", got=repr(name),
                            expected=", ".join(sorted(kind.__name__ for kind in known.values())),
                            fix=f'pysciml.Stage("{known[near[0]].__name__ if near else "Adam"}", 300)')  # fmt: skip


def _check_options(kind: type, options: dict[str, Any]) -> None:
    known = inspect.signature(kind).parameters
    unknown = [name for name in options if name not in known]
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in known.values()):
        near = difflib.get_close_matches(unknown[0], known, 1, 0.5)
        raise InvalidInputError(
            f"{kind.__name__} has no option {unknown[0]!r}.",
            got=", ".join(options),
            expected=", ".join(list(known)[1:]),
            fix=f"did you mean {near[0]!r}?" if near else None,
        )


def _checked_instance(optimizer: torch.optim.Optimizer, tensors: Sequence[torch.Tensor]) -> torch.optim.Optimizer:
    fitted = set(map(id, tensors))
    held = [p for group in optimizer.param_groups for p in group["params"]]
    if not all(id(p) in fitted for p in held):
        strange = [list(p.shape) for p in held if id(p) not in fitted]
        raise InvalidInputError(
            "the optimizer holds tensors that are not fitted here.",
            got=f"shapes {strange}",
            fix=f'hand its class over instead: pysciml.Stage("{type(optimizer).__name__}", 300)',
        )
    return optimizer
