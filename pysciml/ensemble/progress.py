"""What is seen of an ensemble while it is solved: a bar, plain lines, or nothing."""

from __future__ import annotations

import sys
import time
from typing import Any

from pysciml.progress import bar, form

_SECONDS_A_LINE = 5.0
_FORMAT = "{desc} {n_fmt}/{total_fmt} |{bar}|{elapsed}<{remaining}{postfix}"


class Silence:
    """Shows nothing; and what the others do is: `update` with how many trajectories are done and failed, `close`."""

    def __init__(self, total: int): ...

    def update(self, done: int, failed: int) -> None: ...

    def close(self) -> None: ...


class Bar(Silence):
    """tqdm's bar, in a terminal or a notebook."""

    def __init__(self, total: int):
        self._bar = bar(total, desc="trajectories", bar_format=_FORMAT)

    def update(self, done: int, failed: int) -> None:
        self._bar.set_postfix_str(f"failed {failed}", refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class Lines(Silence):
    """A line every few seconds and one at the end, for log files."""

    def __init__(self, total: int):
        self._total, self._last, self._pending = total, time.monotonic(), ""

    def update(self, done: int, failed: int) -> None:
        self._pending = f"trajectories {done}/{self._total} failed {failed}"
        if time.monotonic() - self._last > _SECONDS_A_LINE:
            self.close()
            self._last = time.monotonic()

    def close(self) -> None:
        if self._pending:
            print(self._pending, file=sys.stderr, flush=True)
        self._pending = ""


def progress(way: Any, total: int) -> Silence:
    """How to show an ensemble of `total` trajectories. `way` and Raises: as of `pysciml.progress.form`."""
    return {"bar": Bar, "lines": Lines, "nothing": Silence}[form(way)](total)
