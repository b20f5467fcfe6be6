"""What is seen of a fit while it runs: a bar, plain lines, or nothing."""

from __future__ import annotations

import math
import sys
import time
from typing import Any, TextIO

from pysciml.fit.history import History
from pysciml.progress import bar, form

_SECONDS_A_LINE = 5.0
_FORMAT = "{desc} {n_fmt}/{total_fmt} |{bar}|{remaining}{postfix}"  # tqdm's own leaves no room in 80 columns


class Silence:
    """Shows nothing; and what the others do is: `start`, `update` after each epoch, `close`."""

    def start(self, total: int, done: int) -> None: ...

    def update(self, history: History, failures: int) -> None: ...

    def close(self) -> None: ...


class Bar(Silence):
    """tqdm's bar, in a terminal or a notebook."""

    def start(self, total: int, done: int) -> None:
        self._bar = bar(total, initial=done, desc="fit", bar_format=_FORMAT)

    def update(self, history: History, failures: int) -> None:
        self._bar.set_description_str(history.stage[-1], refresh=False)
        self._bar.set_postfix_str(describe(history, failures), refresh=False)
        self._bar.update(1 if len(history) > 1 else 0)  # entry 0 is no epoch

    def close(self) -> None:
        if hasattr(self, "_bar"):
            self._bar.close()


class Lines(Silence):
    """A line now and then, for log files: at the start, at each new stage, every few seconds, and at the end."""

    def __init__(self, file: TextIO | None = None):
        self._file, self._stage, self._last, self._pending = file, "", 0.0, ""

    def start(self, total: int, done: int) -> None:
        self._total = total

    def update(self, history: History, failures: int) -> None:
        self._pending = f"fit: {history.stage[-1]} {len(history) - 1}/{self._total} {describe(history, failures)}"
        if history.stage[-1] != self._stage or time.monotonic() - self._last > _SECONDS_A_LINE:
            self.close()
            self._stage, self._last = history.stage[-1], time.monotonic()

    def close(self) -> None:
        if self._pending:
            print(self._pending, file=self._file or sys.stderr, flush=True)
        self._pending = ""


def describe(history: History, failures: int) -> str:
    """`loss 1.20e-03 val 3.40e-03 steps 120 rejected 3 failed 0` of the last epoch; failures of the whole run."""
    parts = [f"loss {history.loss[-1]:.2e}"]
    if history.validated:
        parts.append(f"val {history.val_loss[-1]:.2e}")
    steps, rejected = history.steps[-1], history.rejected[-1]
    if not math.isnan(steps):
        parts.append(f"steps {steps:.0f}")
        if not math.isnan(rejected):
            parts.append(f"rejected {rejected:.0f}")
    elif not math.isnan(history.nf[-1]):
        parts.append(f"f calls {history.nf[-1]:.0f}")  # all that a solver of torchdiffeq counts
    return " ".join([*parts, f"failed {failures}"])


def progress(way: Any) -> Silence:
    """How to show a fit. Args and Raises: as of `pysciml.progress.form`."""
    return {"bar": Bar, "lines": Lines, "nothing": Silence}[form(way)]()
