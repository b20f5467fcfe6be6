"""One epoch's steps, of the three kinds there are: on the whole data, in batches, and with a line search."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pysciml.fit.errors import Setback
from pysciml.fit.evaluate import Evaluation, evaluate, loss_of, set_gradients
from pysciml.fit.objective import Objective
from pysciml.fit.parameters import values_of

_STEEPER = 10.0
_TINY = 1e-300


def whole_step(optimizer: torch.optim.Optimizer, objective: Objective, tensors: Sequence[torch.Tensor], at: Evaluation,
               clip: float | None) -> Evaluation:  # fmt: skip
    """A step along the gradient already known, and the evaluation where it leads, which serves the next one."""
    set_gradients(tensors, at.gradients, clip)
    optimizer.step()
    return evaluate(objective, tensors)


def batch_steps(optimizer: torch.optim.Optimizer, objective: Objective, tensors: Sequence[torch.Tensor],
                batches: Sequence[Sequence[int]], clip: float | None) -> tuple[Evaluation, float]:  # fmt: skip
    """A step a batch; then the loss over all data, and the mean norm of the batches' gradients."""
    norms = []
    for batch in batches:
        there = evaluate(objective, tensors, batch)
        norms.append(there.norm)
        set_gradients(tensors, there.gradients, clip)
        optimizer.step()
    if not all(bool(torch.isfinite(x.detach()).all()) for x in tensors):
        raise Setback("a step made a parameter NaN or infinite")
    with torch.no_grad():
        loss = float(loss_of(objective))
    return Evaluation(loss, [None] * len(tensors)), sum(norms) / len(norms)


class LineSearch:
    """A step of an optimizer that asks for the loss by itself, as L-BFGS does in its line search.

    A failed solve must not end it, and neither infinity nor NaN can be told to it: torch's cubic interpolation would
    turn them into NaN parameters. So where there is no loss it is shown a steep bowl around the last good point,
    whose value and gradient agree: the search then shortens its step, as it would before any other hill.

    Args:
        scale: what the loss is multiplied by for the optimizer. torch's L-BFGS forgets curvature below an absolute
            1e-10, so it would learn nothing from a loss of 1e-8.
    """

    def __init__(self, objective: Objective, tensors: Sequence[torch.Tensor], at: Evaluation, scale: float):
        self._objective, self._tensors, self._at, self._scale = objective, tensors, at, scale
        self._start = values_of(tensors)
        self._seen: list[tuple[list[torch.Tensor], Evaluation]] = [(self._start, at)]
        self.failures = 0
        self.setback: Setback | None = None

    def step(self, optimizer: torch.optim.Optimizer) -> Evaluation:
        """The evaluation where the step leads.

        Raises:
            Setback: every attempt failed, so that the step went nowhere; or it ended where there is no loss.
        """
        optimizer.step(self._closure)  # type: ignore[arg-type]  # torch's stub says float; its code wants a tensor
        if self.moved or self.setback is None:
            return self._evaluate()
        raise Setback(self.setback.reason, self.setback.cause)

    @property
    def moved(self) -> bool:
        return not all(torch.equal(x.detach(), start) for x, start in zip(self._tensors, self._start, strict=True))

    def _closure(self) -> torch.Tensor:
        try:
            there = self._evaluate()
        except Setback as setback:
            self.setback = setback
            self.failures += 1
            there = self._bowl()
        set_gradients(self._tensors, there.gradients, scale=self._scale)
        return torch.tensor(there.loss * self._scale, dtype=torch.float64)

    def _evaluate(self) -> Evaluation:
        for values, seen in self._seen:  # the search ends at a point it has been to, and starts at one
            if all(torch.equal(x.detach(), v) for x, v in zip(self._tensors, values, strict=True)):
                return seen
        there = evaluate(self._objective, self._tensors)
        self._seen.append((values_of(self._tensors), there))
        return there

    def _bowl(self) -> Evaluation:
        height = _STEEPER * max(abs(self._at.loss), _TINY)
        steps = [torch.nan_to_num(x.detach() - s) for x, s in zip(self._tensors, self._start, strict=True)]
        width = max(sum(float(d.double().square().sum()) for d in steps), _TINY)
        return Evaluation(self._at.loss + height, [2 * height / width * d for d in steps])
