"""A bar that shows how far a long solve has come.

A thread of Python's looks at the time that the solver has reached and draws; the solver calls nothing and waits for
nothing. Julia lets Python's threads run every few milliseconds (see `poll` in the Julia package), torch does all the
time. A solve that ends within half a second draws nothing.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pysciml.errors import UnsupportedError

_PATIENCE, _INTERVAL = 0.5, 0.1  # seconds before the first drawing and between two
_FORMAT = "{desc} |{bar}| {percentage:3.0f}% {elapsed}<{remaining}{postfix}"


@contextmanager
def watching(shown: bool, t0: float, t1: float, reached: Callable[[], float] | None) -> Iterator[None]:
    """Shows the solve inside the block, if `shown`.

    Args:
        reached: gives the time reached so far, NaN before there is one; None for a solver that cannot say.

    Raises:
        UnsupportedError: a solver that cannot say how far it has come.
    """
    if not shown:
        yield
        return
    if reached is None:
        raise UnsupportedError(
            "CasADi solves in one call and does not say how far it has come.",
            got="progress=True in the embedded engine", expected="Julia's solvers, or DP5() and its kin of torchdiffeq",
            fix="pysciml.solve(prob, pysciml.DP5(), progress=True), or leave progress out",
        )  # fmt: skip
    done = threading.Event()
    thread = threading.Thread(target=_draw, args=(done, t0, t1, reached), name="pysciml progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _draw(done: threading.Event, t0: float, t1: float, reached: Callable[[], float]) -> None:
    before: float | None = reached()  # what an earlier solve has left there
    if done.wait(_PATIENCE):
        return
    bar = _bar()
    while not done.wait(_INTERVAL):
        t = reached()
        share = (t - t0) / (t1 - t0)
        if t != before and 0.0 <= share <= 1.0:
            before = None
            bar.n = share
            bar.set_postfix_str(f"t = {t:.4g} of {t1:.4g}", refresh=True)
    bar.n = 1.0
    bar.close()


def _bar() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm warns where a notebook lacks ipywidgets, and then does well without
        from tqdm.auto import tqdm
    return tqdm(total=1.0, desc="solve", bar_format=_FORMAT, dynamic_ncols=True)
