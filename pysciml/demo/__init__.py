"""`python -m pysciml demo`: what do lynx do to hares, and hares for lynx? A network finds out, and says how sure it is.

Hare and lynx pelts of the Hudson's Bay Company, 1900 to 1920. Growth of the hares and death of the lynx are written
down, their interaction is a small network, and both are fitted together to 1900-1915. The last five years are forecast,
and the interaction the network has learned is turned into a formula.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pysciml.demo.figure import draw
from pysciml.demo.findings import REFITS, explore
from pysciml.demo.words import report
from pysciml.discovery.library import pysindy
from pysciml.errors import MissingExtraError


def main(output: str | Path | None = None, epochs: int = 150, quiet: bool = False) -> int:
    """Runs the demo.

    Args:
        output: where the figure goes; None is `out/lynx_hare.png`. epochs: of each full fit; few mean few
            refits too. quiet: print the result alone.

    Returns:
        The exit status, 0.

    Raises:
        MissingExtraError: pysindy or matplotlib is not installed.
    """
    start = time.perf_counter()
    figure_class, _ = _matplotlib(), pysindy()  # before the work, not after it
    path = Path("out/lynx_hare.png" if output is None else output)
    path.parent.mkdir(parents=True, exist_ok=True)

    refits = min(REFITS, max(3, epochs // 5))
    found = explore(epochs, refits, _silent if quiet else _say, "off" if quiet else None)
    draw(found, figure_class(figsize=(12.5, 9), layout="constrained")).savefig(path, dpi=110)
    _say("", report(found), "")
    _say(f"The figure is in {path}. All of this took {time.perf_counter() - start:.0f} s.")
    return 0


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def _silent(*lines: str) -> None:
    pass


def _matplotlib() -> Any:
    """matplotlib's Figure, which needs no pyplot and no window."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot", "the demo's figure") from error
    return Figure
