"""What happened, epoch by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class History:
    """One entry an epoch in every list; entry 0 is the state before the first step.

    Attributes:
        stage: the optimizer's name. loss: training loss after the epoch, with regularisation and continuity penalty.
        val_loss: loss on what was held out, NaN without validation, inf where that solve failed.
        lr: learning rate. grad_norm: norm of the gradient before clipping.
        steps, rejected: accepted and rejected steps of all forward solves; NaN where the solver does not count them.
        nf: evaluations of the right-hand side, likewise. failures: failed attempts. time: seconds.

    Example:
        >>> from pysciml.fit import History
        >>> History(loss=[3.0, 1.0]).loss[-1]
        1.0
    """

    stage: list[str] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)
    steps: list[float] = field(default_factory=list)
    rejected: list[float] = field(default_factory=list)
    nf: list[float] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    time: list[float] = field(default_factory=list)

    def append(self, **entry: Any) -> None:
        for name in self.as_dict():
            getattr(self, name).append(entry[name])

    def truncate(self, count: int) -> None:
        for values in self.as_dict().values():
            del values[count:]

    def as_dict(self) -> dict[str, list]:
        """The lists by name: `pandas.DataFrame(history.as_dict())`."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def validated(self) -> bool:
        return any(not math.isnan(x) for x in self.val_loss)

    def __len__(self) -> int:
        return len(self.loss)

    def __repr__(self) -> str:
        if not len(self):
            return "History(empty)"
        return f"History({len(self)} entries, loss {self.loss[0]:.3g} to {self.loss[-1]:.3g}, {sum(self.time):.3g} s)"
