"""What one gradient costs over its parts, call site by call site: the Lotka-Volterra UDE of `lotka_volterra_ude`.

Every piece is timed where it is called, without the pieces inside of it. "In Julia" is what the same calls take when
they are made from Julia, by Julia's clock; "the crossing" is what the two calls take in Python beyond that. "torch's
own loop" zeroes gradients, has one node, the loss and its backward pass around these calls: nobody can do without. A
clock costs a quarter of a microsecond at each call, which the pieces have in them and the whole has not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

import pysciml as ps
from benchmarks.lotka_volterra_ude import TIMES, TOL, U0, FromJulia, InTorchsLoop, by_pysciml, model
from benchmarks.race import timed
from benchmarks.report import Report
from pysciml import autograd, solve_ode
from pysciml.engines.julia import runtime
from pysciml.engines.julia.engine import JuliaEngine
from pysciml.engines.select import engine_name
from pysciml.rhs import replay

# Where the pieces are called: owner, name, and what the piece is.
SITES: tuple[tuple[Any, str, str], ...] = (
    (ps, "solve", "solve: arguments and what they come to"),
    (replay, "reads_the_same", "solve: whether f is what was compiled"),
    (solve_ode, "save_times", "solve: the times to save at"),
    (autograd, "solve", "solve: torch's node"),
    (autograd, "pack", "solve: parameters to one vector"),
    (autograd, "_check_values", "solve: all are finite"),
    (JuliaEngine, "solve", "solve: the engine"),
    (torch.Tensor, "backward", "backward: torch's backward pass"),
    (JuliaEngine, "vjp", "backward: the engine"),
    (autograd, "_split", "backward: one vector to gradients"),
    (runtime, "_enter", "both: in Julia, and the crossing"),
)
REST = "the loop: zeroing, the loss"


class Clock:
    """Times pieces without those inside of them."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._inner = [0.0]

    def around(self, call: Callable, piece: str) -> Callable:
        def timed(*args: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()
            try:
                return call(*args, **options)
            finally:
                took = time.perf_counter() - start
                self.spent[piece] = self.spent.get(piece, 0.0) + took - self._inner.pop()
                self._inner[-1] += took

        return timed


def pieces(run: Callable[[], Any], repeats: int) -> list[dict[str, float]]:
    """Seconds of each piece, in each of so many gradients."""
    clock, kept = Clock(), [getattr(owner, name) for owner, name, _ in SITES]
    whole, found = clock.around(run, REST), []
    for (owner, name, piece), call in zip(SITES, kept, strict=True):
        setattr(owner, name, clock.around(call, piece))
    try:
        for _ in range(repeats):
            clock.spent = {}
            whole()
            found.append(clock.spent)
    finally:
        for (owner, name, _), call in zip(SITES, kept, strict=True):
            setattr(owner, name, call)
    return found


def main(repeats: int = 2000) -> None:
    report = Report("overhead", "What one gradient costs over its parts")
    report.text(" ".join((__doc__ or "").split()))
    if engine_name("auto") != "julia":
        report.text("Julia is not set up here: there is nothing to cross to.")
        report.save()
        return
    torch.set_num_threads(1)
    run = by_pysciml(ps.Tsit5(), "julia")
    timed(run, 1.0)
    calls = FromJulia(model(), ps.Tsit5(), U0, TIMES, TOL)
    loop = InTorchsLoop(calls)
    loop()
    whole: dict[str, list[float]] = {"whole": [], "julia": [], "loop": []}
    for _ in range(7):
        whole["whole"] += timed(run, 1.0)
        whole["julia"] += calls.timed(300)[1][30:]
        whole["loop"] += loop.timed(300)[30:]
    each = pieces(run, repeats)[repeats // 10 :]
    tell(report, whole, each)
    report.save()


def tell(report: Report, whole: dict[str, list[float]], each: list[dict[str, float]]) -> None:
    micro = {piece: [1e6 * x[piece] for x in each] for piece in each[0]}
    crossing = "both: in Julia, and the crossing"
    in_julia = {"median": 1e6 * median(whole["julia"]), "best": 1e6 * min(whole["julia"])}
    rows: list[tuple[Any, ...]] = [("in Julia", in_julia["median"], in_julia["best"])]
    rows.append(
        ("both: the crossing", median(micro[crossing]) - in_julia["median"], min(micro[crossing]) - in_julia["best"])
    )
    rows += [(piece, median(x), min(x)) for piece, x in micro.items() if piece != crossing]
    report.table(("", "median µs", "best µs"), rows)
    total, loop, julia = ((median(whole[k]), min(whole[k])) for k in ("whole", "loop", "julia"))
    head = ("a gradient, without clocks inside", "median ms", "best ms")
    report.table(head, [
        ("the whole", *(1e3 * x for x in total)),
        ("the same Julia calls, from Julia", *(1e3 * x for x in julia)),
        ("the same Julia calls, in torch's own loop", *(1e3 * x for x in loop)),
        ("over Julia alone", *(1e3 * (a - b) for a, b in zip(total, julia, strict=True))),
        ("over Julia in torch's own loop", *(1e3 * (a - b) for a, b in zip(total, loop, strict=True))),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
