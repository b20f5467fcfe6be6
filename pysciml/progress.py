"""Where progress is shown and how: a bar in terminals and notebooks, plain lines in files, or nothing."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from pysciml.config import config
from pysciml.errors import InvalidInputError

_WAYS = {True: "on", False: "off"}


def form(way: Any) -> str:
    """How to show progress: "bar", "lines" or "nothing".

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
        return "nothing"
    if _in_notebook() or sys.stderr.isatty():
        return "bar"
    return "lines" if way == "on" else "nothing"


def bar(total: int, **options: Any) -> Any:
    """tqdm's bar, as large as the terminal or the notebook allows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm warns where a notebook lacks ipywidgets, and then does well without
        from tqdm.auto import tqdm
    return tqdm(total=total, **options, **_size())


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
