"""The ways to solve a problem: engine, route and solver; and the sensitivity algorithms that each is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pysciml as ps
from pysciml.algorithms import Algorithm
from pysciml.sensitivity import ALL as SENSITIVITIES
from pysciml.sensitivity import SensitivityAlgorithm

# What `solve` is told for each engine and route; Julia's text is a route by the problem's own f.
ROUTES: dict[tuple[str, str], dict[str, str]] = {
    ("julia", "compiled"): {"engine": "julia", "route": "compiled"},
    ("julia", "callback"): {"engine": "julia", "route": "callback"},
    ("julia", "source"): {"engine": "julia"},
    ("embedded", "compiled"): {"engine": "embedded", "route": "compiled"},
    ("embedded", "eager"): {"engine": "embedded", "route": "callback"},
}


@dataclass(frozen=True)
class Way:
    """One engine, route and solver. options: of the solver, such as a fixed step."""

    engine: str
    route: str
    alg: Algorithm
    options: dict[str, Any] = field(default_factory=dict)

    def solve(self, prob: Any, sensealg: type[SensitivityAlgorithm], source: str | None, **options: Any) -> Any:
        """Solves a problem or an ensemble; on the route "source" with `source` for its f."""
        if self.route == "source":
            assert source is not None
            prob = prob.remake(f=ps.JuliaFunction(source))
        run = ps.solve_ensemble if isinstance(prob, ps.EnsembleProblem) else ps.solve
        return run(prob, self.alg, sensealg=sensealg(), **ROUTES[self.engine, self.route], **self.options, **options)

    def __str__(self) -> str:
        return self.alg.name + "".join(f", {name}={value}" for name, value in self.options.items())


@dataclass(frozen=True)
class Solvers:
    """The solvers that are natural to a problem, by engine and route. An entry may be (algorithm, options)."""

    compiled: tuple = ()
    callback: tuple = ()
    source: tuple = ()
    sundials: tuple = ()
    eager: tuple = ()

    def ways(self, engine: str) -> list[Way]:
        """Those of an engine."""
        each = zip(ROUTES, (self.compiled, self.callback, self.source, self.sundials, self.eager), strict=True)
        return [
            Way(by, route, *(x if isinstance(x, tuple) else (x,))) for (by, route), algs in each for x in algs
            if by == engine
        ]  # fmt: skip


NONSTIFF = Solvers((ps.Tsit5(), ps.Vern9()), (ps.Tsit5(),), (ps.Tsit5(),), (ps.CVODE_Adams(), ps.CVODE_BDF()),
                   (ps.DP5(),))  # fmt: skip
STIFF = Solvers((ps.Rodas5P(), ps.FBDF()), (ps.Rodas5P(),), (ps.Rodas5P(),), (ps.CVODE_BDF(),))

__all__ = ["NONSTIFF", "SENSITIVITIES", "STIFF", "Solvers", "Way"]
