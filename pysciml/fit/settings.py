"""The numbers that steer a fit, checked before anything is solved."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pysciml.errors import InvalidInputError
from pysciml.fit.checkpoint import Checkpoint
from pysciml.fit.stage import Stage


@dataclass(frozen=True, eq=False)
class Settings:
    """What `fit` was told beside its data and loss; the names are its arguments'."""

    stages: tuple[Stage, ...]
    batch_size: int | None = None
    seed: int = 0
    clip: float | None = None
    patience: int | None = None
    min_delta: float = 0.0
    max_failures: int = 8
    backoff: float = 0.5
    callback: Callable | None = None
    checkpoint: Checkpoint | None = None

    def __post_init__(self):
        for name in ("batch_size", "patience", "max_failures"):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            if not whole and (value is not None or name == "max_failures"):
                raise _wrong(name, value, "a whole number, 1 or more", 8)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise _wrong("seed", self.seed, "a whole number", 0)
        if self.clip is not None and not _within(self.clip, 0, math.inf):
            raise _wrong("clip", self.clip, "a positive norm", 1.0)
        if self.min_delta != 0 and not _within(self.min_delta, 0, math.inf):
            raise _wrong("min_delta", self.min_delta, "0 or a positive number", 0.0)
        if not _within(self.backoff, 0, 1):
            raise _wrong("backoff", self.backoff, "a number between 0 and 1", 0.5)
        if self.callback is not None and not callable(self.callback):
            raise _wrong("callback", self.callback, "a function of the history", "lambda history: None")


def _within(value: object, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low < value < high


def _wrong(name: str, value: object, expected: str, example: object) -> InvalidInputError:
    return InvalidInputError(f"{name} must be {expected}.", got=f"{name}={value!r}", fix=f"{name}={example}")
