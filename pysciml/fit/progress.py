"""What is seen of a fit while it runs: a bar, plain lines, or nothing."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from typing import Any, TextIO

from pysciml.config import config
from pysciml.errors import InvalidInputError
from pysciml.fit.history import History

_SECONDS_A_LINE = 5.0
_FORMAT = "{desc} {n_fmt}/{total_fmt} |{bar}|{remaining}{postfix}"  # tqdm's own leaves no room in 80 columns
_WAYS = {True: "on", False: "off"}


class Silence:
    """Shows nothing; and what the others do is: `start`, `update` after each epoch, `close`."""

    def start(self, total: int, done: int) -> None: ...

    def update(self, history: History, failures: int) -> None: ...

    def close(self) -> None: ...


class Bar(Silence):
    """tqdm's bar, in a terminal or a notebook."""

    def start(self, total: int, done: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tqdm warns where a notebook lacks ipywidgets, and then does well without
            from tqdm.auto import tqdm
        self._bar = tqdm(total=total, initial=done, desc="fit", bar_format=_FORMAT, **_size())

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
    """How to show a fit.

    Args:
        way: "auto", "on", "off", a boolean, or None for `pysciml.config.progress`. "auto" is a bar in a terminal or a
            notebook and nothing elsewhere; "on" is lines elsewhere.

    Raises:
        InvalidInputError: anything else.
    """
    way = config.progress if way is None else _WAYS.get(way, way) if isinstance(way, bool) else way
    if way not in ("auto", "on", "off"):
        raise InvalidInputError("progress must be auto, on or off.", got=f"progress={way!r}", fix='progress="auto"')
    if way == "off":
        return Silence()
    if _in_notebook() or sys.stderr.isatty():
        return Bar()
    return Lines() if way == "on" else Silence()


def _size() -> dict[str, Any]:
    """How large tqdm may draw: as the terminal is, unless that has no size, as in some containers."""
    try:
        known = min(os.get_terminal_size(sys.stderr.fileno())) > 0
    except (OSError, ValueError, AttributeError):
        known = True  # a notebook: nothing to ask
    return {"dynamic_ncols": True} if known else {"ncols": 120, "nrows": 24}


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})
