"""The loss of a fit, from problems and data or as the user wrote it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError, SolveError
from pysciml.fit.noise import Noise
from pysciml.fit.parameters import Named
from pysciml.fit.prior import Prior
from pysciml.fit.shooting import MultipleShooting, Segments, cut
from pysciml.fit.solver import CountingSolver
from pysciml.fit.stage import Stage
from pysciml.fit.trajectory import Trajectory
from pysciml.fit.validation import Split


class Objective:
    """Training and validation loss at the parameters' present values.

    Args:
        split: training and validation data. loss: the user's, or None for the weighted mean square. observe: from a
            state in time to what was measured, or None. regularization: function of the named parameters, or None.
        shooting: None solves straight through. options: for `solve`.
    """

    def __init__(self, split: Split, loss: Callable | None, observe: Callable | None, regularization: Callable | None,
                 shooting: MultipleShooting | None, options: dict[str, Any]):  # fmt: skip
        self.split, self.loss, self.observe, self.regularization = split, loss, observe, regularization
        self.shooting = shooting
        self.segments = [cut(x, shooting, observed=observe is not None) for x in split.train] if shooting else []
        self.solver, self._val_solver = CountingSolver(options), CountingSolver(options)
        self.parameters: Named = {}  # set once they are known, for the regularisation
        self.look(shooting is not None, 1.0)

    def look(self, shoots: bool, horizon: float) -> bool:
        """Looks at segments or straight through, at this share of the times; returns whether that is another loss."""
        before = getattr(self, "shoots", None), getattr(self, "horizon", None)
        self.shoots, self.horizon = shoots, horizon
        self.train = [_begun(x, horizon) for x in self.split.train]
        self.observations = sum(map(observed, self.train))  # a prior counts once, and the loss is a mean over these
        return before != (shoots, horizon)

    def enter(self, stage: Stage) -> bool:
        """`look` as a stage does."""
        return self.look(self.shooting is not None and stage.shooting, stage.horizon)

    def __call__(self, batch: Sequence[int] | None = None) -> torch.Tensor:
        """The training loss, over all trajectories or those in `batch`.

        Raises:
            SolveError: a solve failed. InvalidInputError: not a scalar, or of the wrong shape.
        """
        value = self.unregularized(batch)
        if self.regularization is not None:
            more = _scalar(self.regularization(self.parameters), "regularization")
            value = value + (more / self.observations if isinstance(self.regularization, Prior) else more)
        return value

    def unregularized(self, batch: Sequence[int] | None = None) -> torch.Tensor:
        """The training loss without what `regularization` adds."""
        chosen = range(len(self.split.train)) if batch is None else batch
        return self._train([self.train[i] for i in chosen], [self.segments[i] for i in chosen] if self.shoots else [])

    def validate(self) -> float:
        """The loss on what is held out: NaN without validation, inf where it cannot be solved."""
        if not self.split.validates:
            return math.nan
        with torch.no_grad():
            try:
                value = float(self._validation())
            except SolveError:  # the fit may still come to where the forecast exists
                return math.inf
        return value if math.isfinite(value) else math.inf

    def learned_states(self) -> Named:
        """The segments' initial states, which are fitted along."""
        many = len(self.segments) > 1
        named: Named = {}
        for i, segments in enumerate(self.segments):
            named |= segments.named(f"prob[{i}]." if many else "")
        return named

    def _train(self, chosen: Sequence[Trajectory], segments: Sequence[Segments]) -> torch.Tensor:
        if not self.split.train:
            return _scalar(self.loss(self.solver), "loss")  # type: ignore[misc]
        if not chosen[0].data:
            return self._of_solutions(self.loss, chosen, self.solver)  # type: ignore[arg-type]
        if not self.shoots:
            return self._of_data(chosen, [self.solver(x.prob, saveat=x.t).u for x in chosen])
        predicted, jumps = zip(*(s.predict(self.solver) for s in segments), strict=True)
        assert self.shooting is not None  # noqa: S101 - for the type checker
        gap = torch.cat([jump for one in jumps for jump in one]).square().mean()
        return self._of_data(chosen, predicted) + self.shooting.continuity * gap

    def _validation(self) -> torch.Tensor:
        if self.split.function is None:
            chosen = self.split.held_out
            return self._of_data(chosen, [self._val_solver(x.prob, saveat=x.t).u for x in chosen])
        if not self.split.train:
            return _scalar(self.split.function(self._val_solver), "val")
        return self._of_solutions(self.split.function, self.split.train, self._val_solver, "val")

    def _of_solutions(
        self, loss: Callable, chosen: Sequence[Trajectory], solver: CountingSolver, name: str = "loss"
    ) -> torch.Tensor:
        return torch.stack([_scalar(loss(solver(x.prob, saveat=x.t)), name) for x in chosen]).mean()

    def predictions(self) -> tuple[torch.Tensor, Any]:
        """What is predicted of the training data, (m,), and the scale of the noise of each, (m,) or None."""
        chosen = self.split.train
        p, _, _ = self._observed(chosen, [self.solver(x.prob, saveat=x.t).u for x in chosen])
        return p, self._scale(chosen, p)

    def _observed(
        self, chosen: Sequence[Trajectory], predicted: Sequence[Any]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Predictions, data and weights, if there are any, of all trajectories as vectors (m,)."""
        seen = [self.observe(u) for u in predicted] if self.observe is not None else predicted
        parts = [x.observed(pytree.tree_leaves(u)) for x, u in zip(chosen, seen, strict=True)]
        weighed = any(w is not None for _, _, w in parts)
        weights = torch.cat([torch.ones_like(x) if w is None else w for x, _, w in parts]) if weighed else None
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]), weights

    def _scale(self, chosen: Sequence[Trajectory], like: torch.Tensor) -> torch.Tensor | None:
        assert isinstance(self.loss, Noise)  # noqa: S101 - for the type checker
        scales = self.loss.scales(len(chosen[0].data))
        return None if scales is None else torch.cat([x.spread(scales).to(like) for x in chosen])

    def _of_data(self, chosen: Sequence[Trajectory], predicted: Sequence[Any]) -> torch.Tensor:
        """Over all observations of all trajectories at once, so that each observation counts the same."""
        p, d, weights = self._observed(chosen, predicted)
        if isinstance(self.loss, Noise):
            return _scalar(self.loss(p, d, self._scale(chosen, p)), "loss")
        if self.loss is not None:
            return _scalar(self.loss(p, d), "loss")
        squares = (p - d).square()
        return (squares if weights is None else weights * squares).mean()


def _begun(x: Trajectory, horizon: float) -> Trajectory:
    """The first part of a trajectory, two of its times at least."""
    count = max(min(2, len(x.t)), math.ceil(horizon * len(x.t) - 1e-9))
    return x if count == len(x.t) else x.take(torch.arange(count, device=x.t.device))


def observed(x: Trajectory) -> int:
    """How many observations a trajectory has."""
    return sum(int((~torch.isnan(leaf)).sum()) for leaf in x.data)


def _scalar(value: Any, name: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        if isinstance(value, (int, float)) and name == "val":
            return torch.tensor(float(value))
        raise InvalidInputError(f"{name} must return a scalar tensor.", got=type(value).__name__,
                                fix="a float cuts the gradient off: leave out .item() and float()")  # fmt: skip
    if value.numel() != 1 or not value.is_floating_point():
        raise InvalidInputError(f"{name} must return a scalar tensor.", got=f"shape {list(value.shape)}, {value.dtype}",
                                fix="end it with .mean() or .sum()")  # fmt: skip
    return value.reshape(())
