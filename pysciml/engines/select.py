"""Which engine solves, and what each offers."""

from __future__ import annotations

import logging
from functools import cache

from pysciml.algorithms import REGISTRY, Algorithm
from pysciml.config import config
from pysciml.errors import EngineMissingError, InvalidInputError, UnsupportedError

_log = logging.getLogger("pysciml")
_NAMES = ("auto", "julia", "embedded")


def engine_name(asked: str | None = None) -> str:
    """The engine that will solve: `asked`, else the configured one; "auto" is resolved.

    Raises:
        InvalidInputError: no such engine. EngineMissingError: it is not here.
    """
    name = asked or config.engine
    if name not in _NAMES:
        raise InvalidInputError(f"there is no engine {name!r}.", got=f"engine={name!r}", expected=", ".join(_NAMES))
    if name == "julia":
        raise EngineMissingError(
            "the julia engine is not part of this version of pysciml.",
            got='engine="julia"',
            expected='engine="embedded"',
            fix='pysciml.solve(prob, engine="embedded")',
        )
    return _say_once("embedded") if name == "auto" else name


@cache
def _say_once(name: str) -> str:
    _log.info("engine: %s (SUNDIALS through CasADi; torchdiffeq for eager torch)", name)
    return name


def check_algorithm(alg: Algorithm, engine: str = "embedded") -> None:
    """Raises `UnsupportedError`, naming what would work, if the engine lacks the algorithm."""
    if alg.embedded is None:
        here = [n for n, a in REGISTRY.items() if a.embedded and a.stiff == alg.stiff]
        raise UnsupportedError(
            f"`{alg.name}` is not available in the embedded engine.",
            got=f'engine="{engine}"; {alg.name} is in Julia\'s {alg.package}',
            expected=f"{'stiff' if alg.stiff else 'non-stiff'} solvers here: {', '.join(here)}",
            fix=f"pysciml.solve(prob, pysciml.{here[0]}())",
        )  # fmt: skip


class Capabilities(list):
    """Rows of what each algorithm is and who has it; prints as a table."""

    COLUMNS = ("algorithm", "order", "stiff", "dae", "steps", "embedded engine", "route", "gradients")

    def __repr__(self) -> str:
        rows = [self.COLUMNS, *([str(row[c]) for c in self.COLUMNS] for row in self)]
        widths = [max(len(r[i]) for r in rows) for i in range(len(self.COLUMNS))]
        lines = ["  ".join(x.ljust(w) for x, w in zip(r, widths, strict=True)).rstrip() for r in rows]
        return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{c}</th>" for c in self.COLUMNS)
        body = "".join("<tr>" + "".join(f"<td>{row[c]}</td>" for c in self.COLUMNS) + "</tr>" for row in self)
        return f"<table><tr>{head}</tr>{body}</table>"


_BY = {"sundials": ("CasADi/SUNDIALS", "compiled", "Gauss-, InterpolatingAdjoint, ForwardSensitivity"),
       "torchdiffeq": ("torchdiffeq", "callback", "DirectAdjoint, BacksolveAdjoint"),
       None: ("no", "-", "-")}  # fmt: skip


def capabilities() -> Capabilities:
    """What can be solved here, and how: one row an algorithm.

    Example:
        >>> import pysciml as ps
        >>> ps.capabilities()[0]["algorithm"]
        'CVODE_BDF'
    """
    order = sorted(REGISTRY.values(), key=lambda a: (a.embedded is None, a.embedded or "", not a.stiff))
    rows = []
    for a in order:
        by, route, gradients = _BY[a.embedded]
        rows.append(dict(zip(Capabilities.COLUMNS, (
            a.__name__, a.order or "-", "yes" if a.stiff else "no", "yes" if a.dae else "no",
            "adaptive" if a.adaptive else "fixed", by, route, gradients), strict=True)))  # fmt: skip
    return Capabilities(rows)
