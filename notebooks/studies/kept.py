"""Where results are kept, and how they are written."""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

import pysciml as ps

RESULTS = Path(__file__).parent.parent / "results"


def write_csv(name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Rows to a file in RESULTS, numbers to four digits."""
    with (RESULTS / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([f"{x:.4g}" if isinstance(x, float) else x for x in row] for row in rows)


def read_csv(name: str) -> list[dict[str, Any]]:
    """The rows of a file in RESULTS, numbers as numbers."""
    with (RESULTS / name).open(newline="", encoding="utf-8") as file:
        return [{name: _read(text) for name, text in row.items()} for row in csv.DictReader(file)]


def _read(text: str) -> Any:
    if text.lstrip("-").isdigit():
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def write_text(name: str, text: str) -> None:
    """Text to a file in RESULTS."""
    (RESULTS / name).write_text(text, "utf-8")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def machine() -> str:
    """In general terms: what a figure was measured with."""
    cores = f"{os.cpu_count()} {platform.machine()} cores"
    return (f"{torch.get_num_threads()} thread of a machine with {cores}, Python {platform.python_version()}, torch "
            f"{torch.__version__.split('+')[0]}, pysciml {ps.__version__}")  # fmt: skip
