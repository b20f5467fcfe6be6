"""How often notebook 02's interaction is found exactly: over seeds, noise and sampling, with and without a network.

`python -m notebooks.studies recovery` writes notebooks/results/recovery.csv, a line for each data set and method, and
recovery.md, the rates.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import numpy as np

import pysciml as ps
from notebooks.studies import lotka_volterra as lv
from notebooks.studies.kept import machine, table, write_csv, write_text
from notebooks.studies.row import Truth, coefficient_error, is_exact

NOISE = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1)
SAMPLING = ((5.0, 0.1), (5.0, 0.2), (3.0, 0.1))  # span, time between two measurements
WINDOWS = (5, 7, 9, 11)
NETWORK, REFIT = "UDE + discover", "UDE + discover + refit"
METHODS = (NETWORK, REFIT, "SINDy", "SINDy, best window", "SINDy, rates known", "SINDy, rates known, best window")
COLUMNS = ("span", "step", "noise", "seed", "method", "exact", "coefficient error", "extrapolation error", "seconds")
MEDIANS = (
    (NETWORK, "coefficient error"),
    (REFIT, "coefficient error"),
    (NETWORK, "extrapolation error"),
    (REFIT, "extrapolation error"),
    ("network", "extrapolation error"),
)
ABOUT = """\
Lotka and Volterra's equations of notebook 02; noise is a share of each state's mean. A law is exact if, of all
cubic polynomials of both states, it has the true terms and no others. Every method searches by `ps.discover`,
which chooses the threshold by cross-validation. SINDy has its slopes from pysindy's smoothed finite
differences, over a window of 11 points (pysindy's own choice), or of the one of 5, 7, 9 and 11 that the truth
would choose for the data set at hand: nobody can do that, so it bounds what a choice of window can give. "Rates
known": told of growth and death what the network is told."""
ALSO = f"""\
Of the laws that were exact, medians of the largest relative error of a coefficient, and of the error from the
end of the data to t = {lv.HORIZON:g} over the standard deviation of the truth there, before and after the law
is fitted again in the network's place; and the error of the network itself."""


def one(noise: float, seed: int, span: float, step: float, engine: str | None) -> Iterator[tuple]:
    """The lines of one data set: (method, exact, coefficient error, extrapolation error, seconds)."""
    begin = time.perf_counter()
    found = lv.recover(noise, seed, span, step, engine=engine)
    seconds = time.perf_counter() - begin
    for method, law, fitted in (
        (NETWORK, found.law, found.fitted),
        (REFIT, found.final, found.again or found.fitted),
    ):
        error = lv.extrapolated(law, fitted, engine=engine)
        yield method, int(is_exact(law, lv.TRUE)), coefficient_error(law, lv.TRUE), error, seconds
    yield "network", 0, float("nan"), lv.extrapolated(found.net, found.fitted, engine=engine), seconds
    yield from _sindy(found, False, lv.WHOLE, "SINDy")
    yield from _sindy(found, True, lv.TRUE, "SINDy, rates known")


def _sindy(found: lv.Recovery, known: bool, truth: Truth, method: str) -> Iterator[tuple]:
    """With pysindy's own window, and with the window that the truth, which nobody has, would choose."""
    laws = {}
    for window in WINDOWS:
        begin = time.perf_counter()
        law = lv.sindy(found.t, found.data, known, window)
        seconds = time.perf_counter() - begin
        laws[window] = int(is_exact(law, truth)), coefficient_error(law, truth), float("nan"), seconds
    yield method, *laws[11]
    yield f"{method}, best window", *max(laws.values(), key=lambda x: (x[0], -x[1]))


def lines(
    seeds: Iterable[int], noises: Iterable[float], sampling: Iterable[tuple[float, float]], engine: str | None = None
) -> Iterator[dict]:
    """A dict of COLUMNS for every data set and method."""
    for span, step in sampling:
        for noise in noises:
            for seed in seeds:
                for line in one(noise, seed, span, step, engine):
                    yield dict(zip(COLUMNS, (span, step, noise, seed, *line), strict=True))


def select(found: Iterable[dict], **values: object) -> list[dict]:
    """The lines that have these values."""
    return [x for x in found if all(x[name] == value for name, value in values.items())]


def rate(found: Iterable[dict], within: float = float("inf")) -> float:
    """The share of lines that are exact, with no coefficient further off than `within`."""
    return float(np.mean([x["exact"] == 1 and x["coefficient error"] <= within for x in found]))


def report(found: list[dict], command: str, engine: str | None, minutes: float) -> str:
    """The tables in Markdown, with how they were made."""
    cases = list(dict.fromkeys((x["span"], x["step"], x["noise"]) for x in found))
    rates, errors = [], []
    for span, step, noise in cases:
        of = {m: select(found, span=span, step=step, noise=noise, method=m) for m in (*METHODS, "network")}
        case = (f"0 to {span:g} every {step:g}", f"{noise:.1%}")
        rates.append((*case, *(f"{x:.0%}" for x in (rate(of[NETWORK]), rate(of[NETWORK], 0.01), rate(of[REFIT], 0.01))),
                      *(f"{rate(of[m]):.0%}" for m in METHODS[2:])))  # fmt: skip
        count = str(sum(x["exact"] for x in of[REFIT]))
        errors.append((*case, count, *(_median(of[method], of[REFIT], column) for method, column in MEDIANS)))
    seeds = len({x["seed"] for x in found})
    by = f"engine {engine or ps.config.engine}, {machine()}"
    made = f"`{command}`: {by}. {seeds} data sets a line, {minutes:.0f} minutes of one core."
    heads = (
        ("measured", "noise", NETWORK, "within 1%", "refit, within 1%", *METHODS[2:]),
        ("measured", "noise", "exact", "coefficients", "after refit", "extrapolation", "after refit", "the network's"),
    )
    parts = ("# How often the interaction is found exactly", made, ABOUT, table(heads[0], rates), ALSO,
             table(heads[1], errors))  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _median(lines: list[dict], decided: list[dict], column: str) -> str:
    """Of the data sets whose law was exact."""
    values = [x[column] for x, by in zip(lines, decided, strict=True) if by["exact"]]
    middle = float(np.median(values)) if values else float("nan")
    return "-" if middle != middle else f"{middle:.2%}" if middle <= 10 else "> 1000%"


def main(seeds: int = 10, engine: str | None = None) -> None:
    """Runs the study and keeps its results."""
    found = []
    for line in lines(range(seeds), NOISE, SAMPLING, engine):
        found.append(line)
        if line["method"] == NETWORK:
            print({name: line[name] for name in ("span", "step", "noise", "seed", "exact")}, flush=True)  # minutes pass
    write_csv("recovery.csv", COLUMNS, [list(x.values()) for x in found])
    minutes = time.process_time() / 60
    chosen = (f" --seeds {seeds}" if seeds != 10 else "") + (f" --engine {engine}" if engine else "")
    write_text("recovery.md", report(found, f"python -m notebooks.studies recovery{chosen}", engine, minutes))
