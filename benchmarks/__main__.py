"""All benchmarks, or those named: `python -m benchmarks [case ...]`, or `make bench ARGS="case ..."`.

Each case is a process of its own, one after the other, and writes `benchmarks/results/<case>.md`. And the table of
gradients, of all problems or those named: `python -m benchmarks gradients [problem ...]`.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from importlib import import_module

from benchmarks.report import Report

# The ones that print what they found have their pages written here; the others write them.
PRINTING = ("lotka_volterra_ude", "stiff_ude", "stochastic", "dde", "cold_start")
CASES = (*PRINTING, "stiff", "neural_ode", "overhead", "ensembles", "growth", "training")
TABLE = "gradients"


class Both(io.StringIO):
    """Keeps what is printed, and prints it."""

    def write(self, text: str) -> int:
        sys.__stdout__.write(text)
        sys.__stdout__.flush()
        return super().write(text)


def run(case: str, *names: str) -> None:
    module = import_module(f"benchmarks.{case}")
    print(f"\n== {case}: {module.__doc__}")
    if case not in PRINTING:
        module.main(*names)
        return
    title, _, text = (module.__doc__ or "").partition("\n\n")
    report, printed = Report(case, " ".join(title.split()).rstrip(".")), Both()
    with contextlib.redirect_stdout(printed):
        module.main()
    report.keep(" ".join(text.split()), printed.getvalue())
    report.save()


def main(named: list[str]) -> int:
    """Runs cases, each on its own. The exit status is that of the first that failed."""
    for case in named:
        if case not in CASES:
            sys.exit(f"there is no benchmark {case!r}; there are {', '.join((*CASES, TABLE))}")
    if len(named) == 1:
        run(named[0])
        return 0
    done = [subprocess.run([sys.executable, "-m", "benchmarks", case], check=False).returncode for case in named]
    return next((code for code in done if code), 0)


if __name__ == "__main__":
    if sys.argv[1:2] == [TABLE]:
        run(*sys.argv[1:])
    else:
        sys.exit(main(sys.argv[1:] or list(CASES)))
