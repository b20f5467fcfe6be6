"""Which engine solves, and what each offers."""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from pysciml.algorithms import PROBLEMS, REGISTRY, Algorithm, check_problem
from pysciml.config import config
from pysciml.engines.base import Engine
from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.rhs.base import CompiledRHS
from pysciml.sensitivity import DirectAdjoint, SensitivityAlgorithm

_log = logging.getLogger("pysciml")
_NAMES = ("auto", "julia", "embedded")


def engine_name(asked: str | None = None) -> str:
    """The engine that is asked for, or the configured one; "auto" is julia where an environment is set up for it.

    Raises:
        InvalidInputError: no such engine.
    """
    name = asked or config.engine
    if name not in _NAMES:
        raise InvalidInputError(f"there is no engine {name!r}.", got=f"engine={name!r}", expected=", ".join(_NAMES))
    if name != "auto":
        return name
    from pysciml.engines.julia import environment

    return "julia" if environment.available() else "embedded"


def choose(asked: str | None, alg: Algorithm | None, sensealg: SensitivityAlgorithm | None, on_cpu: bool,
           in_julia: bool = False) -> str:  # fmt: skip
    """The engine that will solve. "auto" goes by what it is asked for: what only one engine has decides.

    Args:
        on_cpu: whether the state lives there. A state on a GPU is solved there, which the embedded engine does.
        in_julia: whether f is Julia's own source, which the julia engine alone can solve.

    Raises:
        InvalidInputError: no such engine. UnsupportedError: Julia's source and the embedded engine, asked for by name.
    """
    wanted = asked or config.engine
    name, auto = engine_name(wanted), wanted == "auto"
    if in_julia:
        if name == "embedded" and not auto:
            raise UnsupportedError("a JuliaFunction is solved by Julia alone.", got='engine="embedded"',
                                   expected='engine="julia"', fix='pysciml.solve(prob, engine="julia")')  # fmt: skip
        name = "julia"  # where there is none, this engine says how to get it
    elif name == "julia" and auto:
        only_embedded = alg is not None and not alg.package
        direct = isinstance(sensealg, DirectAdjoint) and not (alg is not None and alg.reads_back)
        if only_embedded or direct or not on_cpu:
            name = "embedded"
    return _say_once(name)


# From how many states on a network's state is taken for a batch, and from how many operations an evaluation on torch's
# products are all that it costs. Measured in float64 on one thread, time in torch over time in Julia: 5 for 2-50-2 and
# a batch of 64 (26,000 operations), 2.2 for 64-256-256-64 alone (200,000), 1.4 for 2-50-2 and 1024 (410,000), 0.6 for
# 64-256-256-64 and 64 (12,600,000).
_BATCH, _HEAVY = 64, 1_000_000


def prefers_torch(asked: str | None, name: str, rhs: Any, program: Any) -> bool:
    """Whether a network over a batch is solved faster in eager torch than by the engine of this name.

    Where the products of matrices are all that an evaluation costs, compiling gains nothing, and to go back through the
    steps takes fewer of them than an adjoint. Julia that was asked for by name is taken at its word.
    """
    if not isinstance(rhs, CompiledRHS) or rhs.n < _BATCH:
        return False
    work = rhs.graph("f", program).of_networks
    return work > 0 if name == "embedded" else work >= _HEAVY and (asked or config.engine) == "auto"


_ENGINES = {
    "julia": "julia: Julia's DifferentialEquations.jl and SciMLSensitivity.jl",
    "embedded": "embedded: SUNDIALS through CasADi; torchdiffeq for eager torch",
}


@cache
def _say_once(name: str) -> str:
    _log.info("engine: %s", _ENGINES[name])
    return name


def engine(name: str) -> Engine:
    """The engine of that name. Imports its libraries; starts nothing.

    Raises:
        EngineMissingError: it is not here; says how to get it.
    """
    return _julia() if name == "julia" else _embedded()


@cache
def _julia() -> Engine:
    from pysciml.engines.julia import environment
    from pysciml.engines.julia.engine import JuliaEngine

    environment.required()
    return JuliaEngine()


@cache
def _embedded() -> Engine:
    from pysciml.engines.embedded.sundials import SundialsEngine  # imports CasADi: only when it solves

    return SundialsEngine()


def check_algorithm(alg: Algorithm, engine: str = "embedded", kind: str = "ode") -> None:
    """Raises `UnsupportedError`, naming what would work, if the embedded engine lacks the algorithm.

    Args:
        kind: of the problem, one of `pysciml.algorithms.PROBLEMS`.
    """
    check_problem(alg, kind)
    if alg.embedded is None:
        wanted = kind if kind in ("steady_state", "boundary") else "ode"
        alike = alg.stiff if wanted == "ode" else False
        here = [n for n, a in REGISTRY.items() if a.embedded and a.problem == wanted and a.stiff == alike]
        raise UnsupportedError(
            f"`{alg.name}` is not available in the embedded engine.",
            got=f'engine="{engine}"; {alg.name} is in Julia\'s {alg.package}',
            expected=f"{'stiff' if alg.stiff else 'non-stiff'} solvers here: {', '.join(here)}",
            fix=f"pysciml.solve(prob, pysciml.{here[0]}())\n(or get Julia: python -m pysciml julia install)",
        )  # fmt: skip


class Capabilities(list):
    """Rows of what each algorithm is and who has it; prints as a table."""

    COLUMNS = ("algorithm", "order", "stiff", "dae", "steps", "embedded engine", "julia engine", "route", "gradients")

    def __repr__(self) -> str:
        rows = [self.COLUMNS, *([str(row[c]) for c in self.COLUMNS] for row in self)]
        widths = [max(len(r[i]) for r in rows) for i in range(len(self.COLUMNS))]
        lines = ["  ".join(x.ljust(w) for x, w in zip(r, widths, strict=True)).rstrip() for r in rows]
        return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{c}</th>" for c in self.COLUMNS)
        body = "".join("<tr>" + "".join(f"<td>{row[c]}</td>" for c in self.COLUMNS) + "</tr>" for row in self)
        return f"<table><tr>{head}</tr>{body}</table>"


_IMPLICITLY = "SteadyStateAdjoint"
_BY = {"casadi": ("CasADi", "compiled", _IMPLICITLY), "scipy": ("SciPy", "compiled, callback", _IMPLICITLY),
       "ode": ("by its ODE solver", "compiled, callback", "those of its ODE solver"),
       "sundials": ("CasADi/SUNDIALS", "compiled", "Gauss-, InterpolatingAdjoint, ForwardSensitivity"),
       "torchdiffeq": ("torchdiffeq", "callback", "DirectAdjoint, BacksolveAdjoint"),
       "torchsde": ("torchsde", "callback", "DirectAdjoint"),
       None: ("no", "-", "-")}  # fmt: skip
_JULIA = ("compiled, callback, Julia",
          "Gauss-, Collocation-, Interpolating-, Quadrature-, BacksolveAdjoint, ForwardSensitivity")  # fmt: skip

_NO_FORWARD = ("compiled, callback", "Gauss-, Interpolating-, Quadrature-, BacksolveAdjoint")

_ALL_FIVE = ("ode", "boundary")
_OF_STEPS = ("compiled, callback", "DirectAdjoint")
_OTHERS = ("sde", "rode", "jump", "dde", "steady_state", "boundary")  # which other problems than those of ODEs are
_BY_RESIDUAL = ("compiled, callback", "Gauss-, QuadratureAdjoint")
_BY_STEPS = ("compiled, callback", "CollocationAdjoint")


def _in_julia(alg: type[Algorithm]) -> str:
    """The package that has it, or "no"."""
    return alg.package or ("by its ODE solver" if alg.embedded == "ode" else "no")


def _offered(alg: type[Algorithm]) -> tuple[str, str]:
    """The routes and the gradients of an algorithm that only Julia has."""
    if alg.problem == "dde":
        return _BY_STEPS
    return _BY_RESIDUAL if alg.residual else _JULIA if alg.problem in _ALL_FIVE else _NO_FORWARD


def capabilities() -> Capabilities:
    """What can be solved here, and how: one row an algorithm.

    Route and gradients are those of the embedded engine where it has the algorithm, else those of the julia engine,
    which takes every route and has the same six gradients for all of its algorithms but those for problems in parts,
    those that take the residual and those for delays.

    Example:
        >>> import pysciml as ps
        >>> ps.capabilities()[0]["algorithm"]
        'CVODE_BDF'
    """
    kinds = {name: _OTHERS.index(name) if name in _OTHERS else -1 for name in PROBLEMS}
    order = sorted(REGISTRY.values(), key=lambda a: (kinds[a.problem], not a.embedded, a.embedded or "", not a.stiff))
    rows = []
    for a in order:
        (by, route, gradients), package = _BY[a.embedded], _in_julia(a)
        if a.problem in ("sde", "rode") and package != "no":
            route, gradients = _OF_STEPS
        elif a.problem == "jump":
            route, gradients = "compiled", "log_likelihood"
        elif a.embedded is None and package != "no":
            route, gradients = _offered(a)
        rows.append(dict(zip(Capabilities.COLUMNS, (
            a.__name__, a.order or "-", "yes" if a.stiff else "no", "yes" if a.dae else "no",
            "adaptive" if a.adaptive else "fixed", by, package, route, gradients), strict=True)))  # fmt: skip
    return Capabilities(rows)
