"""The laws that the notebooks recover, held against the truth, with each engine.

`python -m notebooks.studies table` writes notebooks/results/laws.csv and laws.md. A problem is a module of this folder
with a function `row(engine)` that returns a `Row`; add its name to PROBLEMS.
"""

from __future__ import annotations

import dataclasses
import importlib

from notebooks.studies.kept import machine, table, write_csv, write_text
from notebooks.studies.row import Row

PROBLEMS = ("lotka_volterra", "seir", "fisher_kpp", "stiff")
ENGINES = ("julia", "embedded")
ABOUT = """\
The law found, its coefficients fitted again in the network's place. Worst coefficient: the largest relative
error of a true one. Extrapolation: root mean square error beyond the data, over the standard deviation of the
truth there. Seconds: from the data to the law, the second run in a process."""


def main() -> None:
    """Runs every problem with every engine and keeps the table."""
    rows = [importlib.import_module(f"notebooks.studies.{name}").row(engine) for name in PROBLEMS for engine in ENGINES]
    write_csv("laws.csv", [x.name for x in dataclasses.fields(Row)], [dataclasses.astuple(r) for r in rows])
    write_text("laws.md", report(rows))


def report(rows: list[Row]) -> str:
    """The table in Markdown, with how it was made."""
    lines = [(r.problem, r.engine, r.found, "yes" if r.exact else "no", f"{r.coefficients:.2%}",
              f"{r.extrapolation:.2%}", f"{r.seconds:.1f}") for r in rows]  # fmt: skip
    head = ("problem", "engine", "law found", "terms exact", "worst coefficient", "extrapolation", "seconds")
    made = f"`python -m notebooks.studies table`: {machine()}."
    return "\n\n".join(("# The laws that the notebooks recover", made, ABOUT, table(head, lines))) + "\n"
