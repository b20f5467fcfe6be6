"""discover_symbolic(): the search for a formula by PySR, on the Julia that pysciml solves with."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pysciml.discovery.expression import known_operators
from pysciml.discovery.samples import checked, named
from pysciml.discovery.symbolic_law import SymbolicLaw
from pysciml.errors import EngineMissingError, InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from pysciml.engines.julia.environment import Environment

_SELECTIONS = ("best", "accuracy", "score")
_BACKEND = "SymbolicRegression"


def discover_symbolic(
    inputs: torch.Tensor,
    outputs: torch.Tensor,
    *,
    names: Sequence[str] | None = None,
    targets: Sequence[str] | None = None,
    binary_operators: Sequence[str] = ("+", "-", "*", "/"),
    unary_operators: Sequence[str] = (),
    functions: Mapping[str, Callable] | None = None,
    maxsize: int = 20,
    niterations: int = 40,
    populations: int = 15,
    model_selection: str = "best",
    weights: Any = None,
    seed: int | None = 0,
    **options: Any,
) -> SymbolicLaw:
    """Finds a formula of any form for samples of a learned term, by symbolic regression: PySR's evolutionary search.

    Where `discover` weighs given terms, this puts operators together. It needs no library and finds x / (1 + y) or
    exp(-0.3 x); it takes longer, and has no intervals: refit the formula (`law.module()`) and ask `laplace` for those.
    It gives a front of formulas, from the simplest to the most exact; look at all of them.

    As for `discover`: evaluate the learned term where the data led. PySR runs on the Julia that pysciml solves with,
    which needs Julia's package SymbolicRegression; the extra `pysciml[symbolic]` and `python -m pysciml julia install`
    bring both. Ctrl-C may wait for the search to end: `timeout_in_seconds=60` limits it.

    Args:
        inputs: (n, d) states visited. outputs: (n, k) or (n,) values of the learned term there.
        names, targets: of the d states and the k outputs.
        binary_operators, unary_operators: by PySR's names: "^", "exp", "sin", "sqrt", "tanh", "square", ...; or of your
            own in Julia's words, "hill(x) = x / (1 + x)", with `functions={"hill": lambda x: x / (1 + x)}` in torch's.
        maxsize: the largest complexity. niterations, populations: how long and how broadly to search.
        model_selection: "best", "accuracy" or "score", PySR's rules to choose a formula of the front.
        weights: (n,) or (n, k) of the squared errors.
        seed: the same gives the same formulas, by a search on one thread. None searches on all threads that Julia has
            (`pysciml.config.julia_threads`), as does parallelism="multithreading", and no two searches are the same.
        options: further ones of `pysr.PySRRegressor`, as parsimony, constraints, nested_constraints, elementwise_loss;
            precision=64 searches in float64, which Julia compiles first.

    Raises:
        MissingExtraError: PySR is not installed. EngineMissingError: Julia or its package SymbolicRegression is not, or
            is of another version than PySR needs. InvalidInputError: shapes, names or options that do not fit.
        UnsupportedError: an operator that is not known in torch. JuliaError: the search failed.

    Example:
        >>> import torch, pysciml as ps
        >>> x = torch.rand(100, 2, dtype=torch.float64)
        >>> law = ps.discover_symbolic(x, x[:, 0] * x[:, 1] - 0.5 * x[:, 0], names=("x", "y"))  # doctest: +SKIP
        >>> law.equations  # doctest: +SKIP
        ['y0 = x * (y - 0.5)']
    """
    x, y = checked(inputs, outputs, "inputs", "outputs")
    own = dict(functions or {})
    names, targets = named(names, x.shape[1], "names", "x"), named(targets, y.shape[1], "targets", "y")
    known_operators(binary_operators, unary_operators, own)
    weights = _weights(weights, y)
    if model_selection not in _SELECTIONS:
        raise InvalidInputError("model_selection is not one of PySR's.", got=f"model_selection={model_selection!r}",
                                expected=", ".join(_SELECTIONS))  # fmt: skip
    check_installed()
    settings = {
        "binary_operators": list(binary_operators), "unary_operators": list(unary_operators), "maxsize": maxsize,
        "niterations": niterations, "populations": populations, "progress": False, "verbosity": 0,
        "temp_equation_file": True, "input_stream": "devnull", "extra_sympy_mappings": own or None,
        **_repeatable(seed, options.get("parallelism")), **options,
    }  # fmt: skip
    from pysciml.engines.julia import runtime

    runtime.julia()
    tables = runtime.on_julia_thread(_search, x, y, weights, settings)
    return SymbolicLaw.from_tables(
        tables, x, y, names=names, targets=targets, functions=own, model_selection=model_selection,
        precision=options.get("precision", 32),
    )  # fmt: skip


def _repeatable(seed: int | None, parallelism: str | None) -> dict[str, Any]:
    """PySR's searches come out the same on one thread alone."""
    if seed is None:
        return {"parallelism": parallelism or "multithreading"}
    if parallelism not in (None, "serial"):
        return {}
    return {"random_state": seed, "deterministic": True, "parallelism": "serial"}


def _weights(weights: Any, y: torch.Tensor) -> torch.Tensor | None:
    if weights is None:
        return None
    given = torch.as_tensor(weights, dtype=torch.float64)
    shaped = given[:, None].expand_as(y) if given.shape == y.shape[:1] else given
    if shaped.shape != y.shape or not bool((shaped >= 0).all()):
        raise InvalidInputError("weights must be one a sample, or as outputs, and not negative.",
                                got=f"shape {list(given.shape)}", expected=f"{list(y.shape)}")  # fmt: skip
    return shaped


def _search(
    x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor | None, settings: dict[str, Any]
) -> list[list[dict[str, Any]]]:
    """PySR's tables of equations, one a target, as plain rows: nothing of Julia's leaves the thread that knows it."""
    with warnings.catch_warnings():
        # Julia was started as PySR would have it: with threads, it handles signals.
        warnings.filterwarnings("ignore", message="juliacall module already imported")
        import pysr
    from pysciml.engines.julia.errors import JuliaError

    many = y.shape[1] > 1
    try:
        model = pysr.PySRRegressor(**settings)
        arrays = [None if v is None else (v if many else v[:, 0]).numpy() for v in (y, weights)]
        model.fit(x.numpy(), arrays[0], weights=arrays[1])
    except Exception as error:
        if type(error).__name__ != "JuliaError":
            raise
        failed = JuliaError("The symbolic search failed in Julia.", got=str(error)[:2000])
    else:
        tables = model.equations_ if many else [model.equations_]
        columns = ("complexity", "loss", "score", "equation")
        return [table[[c for c in columns if c in table]].to_dict("records") for table in tables]
    raise failed  # outside, or it would keep Julia's own exception as its context


# What is installed.


def check_installed() -> None:
    """Raises MissingExtraError or EngineMissingError, with the line to type, for what the search lacks."""
    if importlib.util.find_spec("pysr") is None:
        raise MissingExtraError("pysr", "symbolic", "discover_symbolic()")
    from pysciml.engines.julia import environment

    found = environment.required()
    there, wanted = environment.manifest(found.project).get(_BACKEND), wanted_backend()
    if there is None:
        raise EngineMissingError(f"The Julia project has no package {_BACKEND}, which PySR runs on.",
                                 got=f"{found.project} (from {found.source})", expected=f"{_BACKEND} {wanted}".strip(),
                                 fix=_add(found, wanted))  # fmt: skip
    if not fits(there, wanted):
        raise EngineMissingError(f"PySR {metadata.version('pysr')} needs another version of Julia's {_BACKEND}.",
                                 got=f"{_BACKEND} {there} in {found.project} (from {found.source})", expected=wanted,
                                 fix=_add(found, wanted))  # fmt: skip


def wanted_backend() -> str:
    """The versions of SymbolicRegression.jl that the installed PySR says it needs; "" where it names none."""
    spec = importlib.util.find_spec("pysr")
    if spec is None or spec.origin is None:
        return ""
    file = Path(spec.origin).with_name("juliapkg.json")
    return json.loads(file.read_text("utf-8"))["packages"][_BACKEND].get("version", "") if file.is_file() else ""


def fits(version: str, wanted: str) -> bool:
    """Whether a version is among those wanted, written as Julia's compat entries are."""
    if not wanted:
        return True
    from juliapkg.compat import Compat, Version

    return Version.parse(version) in Compat.parse(wanted)


def _add(found: Environment, wanted: str) -> str:
    from pysciml.engines.julia import environment

    if found.source == "julia install":
        return f"{environment.INSTALL}   (again: it adds what PySR needs)"
    return environment.add_line(found, {_BACKEND: ".".join(wanted.lstrip("~^=").split(".")[:2])})
