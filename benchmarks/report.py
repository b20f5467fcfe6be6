"""What a case found, printed and written to `benchmarks/results/`: text, tables, figures, and where it was measured."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("torch", "numpy", "scipy", "casadi", "juliacall", "torchdiffeq", "torchode", "torchsde", "jax", "diffrax")


_JULIA_PACKAGES = ("OrdinaryDiffEq", "SciMLSensitivity", "SciMLBase", "Sundials", "StochasticDiffEq", "DelayDiffEq")


class Report:
    """One page of results."""

    def __init__(self, case: str, title: str) -> None:
        self.case, self._parts = case, [f"# {title}\n", f"`make bench ARGS={case}`\n"]

    def text(self, text: str) -> None:
        print(f"\n{text}")
        self._parts.append(f"{text}\n")

    def table(self, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """The first column is names, the others are numbers, of three digits, or text."""
        cells = [list(head), *([shown(x) for x in row] for row in rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
        print()
        for row in cells:
            print("  ".join(x.ljust(w) if i == 0 else x.rjust(w)
                            for i, (x, w) in enumerate(zip(row, widths, strict=True))))  # fmt: skip
        rule = ["---", *["---:"] * (len(head) - 1)]
        self._parts.append("\n".join("| " + " | ".join(row) + " |" for row in (cells[0], rule, *cells[1:])) + "\n")

    def keep(self, text: str, printed: str) -> None:
        """Text, and what was printed already."""
        self._parts += [f"{text}\n", f"```\n{printed.strip()}\n```\n"]

    def figure(self, figure: Any, name: str) -> None:
        """A matplotlib figure, as `<case>_<name>.png` beside the page."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.case}_{name}.png"
        figure.savefig(path, dpi=120)
        self._parts.append(f"![{name.replace('_', ' ')}]({path.name})\n")

    def save(self) -> None:
        RESULTS.mkdir(exist_ok=True)
        page = "\n".join([*self._parts, "## Where\n", machine(), ""])
        (RESULTS / f"{self.case}.md").write_text(page)
        print(f"\nwritten: benchmarks/results/{self.case}.md")


def shown(x: Any) -> str:
    if isinstance(x, str):
        return x
    if isinstance(x, int):
        return f"{x:,}"
    if math.isnan(x):
        return "-"
    if x and not 1e-3 <= abs(x) < 1e5:
        return f"{x:.1e}"
    return f"{x:.3g}" if abs(x) < 1000 else f"{x:.0f}"


def machine() -> str:
    """The machine and what was installed, in words that name nobody's paths."""
    import torch

    versions = [f"{name} {metadata.version(name)}" for name in _PACKAGES if find_spec(name)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines = [
        f"{_processor()}, {cores} cores, {_memory()}; {platform.system()}, Python {platform.python_version()}.",
        ", ".join(versions) + f"; torch on {torch.get_num_threads()} thread.",
    ]
    return "\n".join([*lines, _julia()])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    known = dict(line.replace("\t", "").split(":", 1) for line in reversed(lines) if ":" in line)
    name = known.get("model name", platform.processor() or platform.machine()).strip()
    return name + (f" at {float(known['cpu MHz']) / 1000:.1f} GHz" if "cpu MHz" in known else "")


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (ValueError, OSError, AttributeError):
        return "memory unknown"


def _julia() -> str:
    from pysciml.engines.select import engine_name

    if engine_name("auto") != "julia":
        return "Julia is not set up: the julia engine and what is written by hand in Julia were left out."
    from pysciml.engines.julia import environment

    there = environment.manifest(environment.required().project)
    return "Julia packages: " + ", ".join(f"{name} {there[name]}" for name in _JULIA_PACKAGES if name in there) + "."
