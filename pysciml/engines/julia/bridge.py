"""What crosses to Julia: models once, then a call a solve and one a backward solve; arrays as views of numpy's."""

from __future__ import annotations

import ctypes
import functools
from array import array
from collections.abc import Callable
from ctypes import addressof
from dataclasses import astuple
from typing import Any, cast

import numpy as np

from pysciml.engines.base import Request
from pysciml.engines.julia.runtime import Held, call
from pysciml.engines.julia.sources import callback_model, define, source_model
from pysciml.rhs.base import CompiledRHS
from pysciml.rhs.callback import CallbackRHS
from pysciml.rhs.julia_source import SourceRHS
from pysciml.rhs.outer_products import WIDE, Factored
from pysciml.sensitivity import CollocationAdjoint, DirectAdjoint, ForwardSensitivity

_NAN = float("nan")


def model(request: Request, kinds: tuple[str, ...]) -> Any:
    """The Julia model of a right-hand side, with at least these parts compiled."""
    if isinstance(request.rhs, CallbackRHS):
        return callback_model(request, kinds)
    if isinstance(request.rhs, SourceRHS):
        return source_model(request, kinds)
    rhs = cast("CompiledRHS", request.rhs)
    sparse = takes_sparse(request)
    made = rhs.lowered.setdefault(("julia", request.single, sparse), {})
    if "model" not in made:
        made["model"] = call("Model", request.single, rhs.n, rhs.m)
        if sparse:
            call("sparse!", made["model"], rhs.sparsity.pointers, rhs.sparsity.rows)
    for kind in kinds:
        if kind not in made:
            define(made["model"], rhs, kind, request.program)
            if kind == "factors":
                _by_factors(made["model"], cast("Factored", rhs.factored))
            made[kind] = True
    return made["model"]


def _by_factors(model: Any, factored: Factored) -> None:
    each = factored.copied, factored.outer
    tables = [np.array([astuple(x) for x in found], dtype=np.int64).ravel() for found in each]
    call("by_factors!", model, factored.graph.output.size, *tables)


def has_factors(request: Request) -> bool:
    """Whether the gradient in p is made of large outer products, which Julia then adds up many at once."""
    rhs = request.rhs
    if not isinstance(rhs, CompiledRHS) or rhs.m < WIDE:
        return False
    if not any(x.numel() >= WIDE for x in request.program.parameters):
        return False
    rhs.graph("both", request.program)
    return rhs.factored is not None


# From these sizes on, and with at most these shares of entries that are not zero, a sparse matrix is factorised faster.
_SPARSE = ((64, 0.2), (32, 0.1))


def takes_sparse(request: Request) -> bool:
    """Whether the solve has a sparse Jacobian: a traced one, large and empty enough, for a solver that can use it."""
    rhs, alg = request.rhs, request.alg
    if not isinstance(rhs, CompiledRHS) or isinstance(request.sensealg, ForwardSensitivity):
        return False
    if not alg.implicit or alg.package == "Sundials" or alg.residual:
        return False
    if request.mass is not None and not request.mass.all():  # SciMLSensitivity's jumps of a DAE take a dense one
        return False
    chosen = getattr(alg, "linsolve", None)  # what can be chosen takes dense matrices; SciML chooses by the matrix
    return chosen is None and is_sparse(rhs)


def is_sparse(rhs: CompiledRHS) -> bool:
    """Whether its Jacobian, which must have been traced, is large and has few entries that are not zero."""
    share = next((share for size, share in _SPARSE if rhs.n >= size), None)
    return share is not None and rhs.sparsity.size <= share * rhs.n**2


def columns(rows: np.ndarray) -> np.ndarray:
    """A (k, n) array of numpy as the (n, k) matrix of Julia it is in memory."""
    return rows.T


def table(*arrays: np.ndarray | None) -> array:
    """Where arrays lie and how long they are, as Julia's `Table` reads it. All must live as long as it does."""
    entries: list[int] = []
    for x in arrays:
        if x is None:
            entries += (0, 0)
            continue
        if x.itemsize != 8:
            raise TypeError(f"Julia reads arrays of 64 bits, not {x.dtype}")
        entries += (addressof(_start(x)), x.size)
    return array("q", entries)


def address(where: array) -> int:
    """Where a table begins."""
    return where.buffer_info()[0]


# numpy's own ways take four times as long. It raises for what is not contiguous.
_start: Callable[..., ctypes.Array] = (ctypes.c_char * 0).from_buffer


T0 = 4  # where the start is among the numbers


def numbers(request: Request) -> np.ndarray:
    """The numbers of a solve, as `solve_at!` reads them: counts to come, then NaN for what was not given."""
    reltol, abstol = (x if isinstance(x, float) else _NAN for x in (request.reltol, request.abstol))
    checkpoints = getattr(request.sensealg, "checkpoints", None) or 0
    steps = [_NAN if x is None else x for x in (request.dt, request.dtmax, request.maxiters)]
    return np.array((0, 0, 0, 0, request.t0, request.t1, reltol, abstol, checkpoints, *steps), dtype=np.float64)


@functools.cache
def name(text: str) -> Held:
    """A string that stays in Julia."""
    return Held(call("keep", text))


def sensitivity(request: Request) -> Held:
    """What Julia's `adjoint!` takes for it: its name, the collocation asked for, or a model with its products."""
    sensealg = request.sensealg
    if isinstance(sensealg, CollocationAdjoint):
        return _collocation(sensealg.stages or 0, *_bandwidths(request))
    if isinstance(sensealg, DirectAdjoint):
        return _by_steps(request)
    return name(sensealg.name)


def _by_steps(request: Request) -> Held:
    products = ("both",) if isinstance(request.rhs, CompiledRHS) else ("vjp", "vjp_p")
    here = model(request, ("factors",) if has_factors(request) else products)
    made = request.rhs.lowered.setdefault(("julia", "by steps", request.single), {})
    if "by steps" not in made:
        made["by steps"] = call("BySteps", here)
    return made["by steps"]


@functools.cache
def _collocation(stages: int, below: int, above: int) -> Held:
    return call("ByCollocation", stages, below, above)


_WIDE = 16  # from this size on a band in a dense Jacobian is worth the search


def _bandwidths(request: Request) -> tuple[int, int]:
    """How many diagonals below and above the main one a dense Jacobian has that are not zero; -1 each if unknown."""
    rhs = request.rhs
    if not isinstance(rhs, CompiledRHS) or rhs.n < _WIDE or takes_sparse(request):
        return -1, -1
    if rhs.graph("f", request.program).of_networks > 0:  # whose pattern takes minutes to find, and is full
        return -1, -1
    distance = rhs.sparsity.rows - rhs.sparsity.cols
    return int(distance.max()), int(-distance.min())


def steps(request: Request) -> Any:
    """How the steps were restricted, under Julia's names; an empty dict would cost more than an empty tuple."""
    given = {"dt": request.dt, "dtmax": request.dtmax, "maxiters": request.maxiters}
    return {name: value for name, value in given.items() if value is not None} or ()
