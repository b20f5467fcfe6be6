"""A solve of a stochastic equation that is asked for again, as by each step of a training loop.

What it comes to besides its numbers is noted with the drift (`rhs/notes.py`), so that a small solve does not take
longer to be understood than to be done.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import Any, cast

import torch

from pysciml.algorithms import Algorithm
from pysciml.config import config
from pysciml.control import path_seeds, seed_of
from pysciml.engines.base import RequestPart
from pysciml.engines.stochastic import PathsRequest
from pysciml.errors import TraceError
from pysciml.problems import SDEProblem
from pysciml.rhs import functorch
from pysciml.rhs.notes import note, noted, owner_of
from pysciml.rhs.parameters import is_finite
from pysciml.rhs.reads import Reads
from pysciml.stochastic.equation import Equation, prepare, square
from pysciml.stochastic.paths import Call, SolvePaths
from pysciml.stochastic.solve import Options, request_maker, stepping

_MOST = 8  # solves of one drift, for batches of different sizes
_LOOKS = 4  # how often what is read is looked for in vain: where something is another each time, it is not worth it


class _Reason:
    """What solves are noted for."""


_SOLVES = _Reason()


@dataclass(eq=False)
class Settled:
    """A solve of one path in Julia, settled but for its start, its seed and the values of its tensors.

    It holds neither drift nor diffusion, since it is kept with what these are methods of.

    Attributes:
        reads: all that both read. leaves: the tensors that both use. shape: of the states, time first.
        request: makes a PathsRequest of u0, p and seeds, in which the engine keeps what it has `made` of the equation,
            once for solves and once for gradients. problem: makes the problem of a drift, a diffusion and a start.
    """

    reads: Reads
    leaves: list[torch.Tensor]
    shape: tuple[int, ...]
    request: functools.partial[PathsRequest]
    problem: Callable[..., SDEProblem]

    def solve(self, f: Callable, g: Callable, u0: torch.Tensor, seed: int | None) -> torch.Tensor:
        """The saved states. Raises `SolveError` as `solve` does."""
        given = self.request.keywords
        parts = {}
        if len(given["made"]) < 2:  # the engine may still have graphs to trace
            diffusion = square(self.problem(f=f, g=g, u0=u0))
            parts = {"drift": _part(given["drift"], f), "diffusion": _part(given["diffusion"], diffusion)}
        make = functools.partial(self.request, seeds=path_seeds(seed_of(seed), 1), **parts)
        call = Call(make, given["ts"], 0)
        u = SolvePaths.apply(call, u0.reshape(1, -1).double(), *self.leaves)
        if call.paths.errors:
            raise call.paths.errors[0]
        return u.to(u0.dtype).reshape(self.shape)


@dataclass(eq=False)
class _Solves:
    """Those of one drift, by what was asked, and how often it may still be looked for what else is read."""

    by: dict[Hashable, Settled] = field(default_factory=dict)
    looks: int = _LOOKS


def again(f: Callable, g: Callable, u0: torch.Tensor, asked: Hashable, seed: int | None) -> torch.Tensor | None:
    """The saved states, if the same was solved before and both functions read what they read then; else None."""
    if not (_of_one(f, g) and u0.is_cpu) or functorch.transforming() or torch.is_inference_mode_enabled():
        return None
    solves: _Solves | None = noted(f, _SOLVES)
    if solves is None:
        return None
    known = solves.by.get(_key(f, g, u0, asked))
    if known is None or not known.reads.unchanged(f) or not is_finite(u0.detach()):
        return None
    solves.looks = min(solves.looks + 1, _LOOKS)
    return known.solve(f, g, u0, seed)


def keep(prob: SDEProblem, alg: Algorithm, options: Options, ts: torch.Tensor, asked: Hashable) -> None:
    """Notes a solve that has been done in Julia, if nothing that was settled can change until the same is asked again.

    Args:
        prob: its state is one tensor, and it has no p. ts: the times to save at. asked: all that was asked of the solve
            but functions, state and seed.
    """
    f, g, u0 = prob.f, prob.g, prob.u0
    if not (_of_one(f, g) and u0.is_cpu and hasattr(owner_of(f), "__dict__")) or functorch.transforming():
        return
    solves = noted(f, _SOLVES) or _Solves()
    note(f, _SOLVES, solves)
    if not solves.looks:
        return
    solves.looks -= 1
    found = _found(prob)
    if found is None:
        return
    equation, reads = found
    request = request_maker(prob, equation, alg, options, stepping(alg, options), ts, 1)
    problem = functools.partial(
        SDEProblem, tspan=prob.tspan, noise_type=prob.noise_type, interpretation=prob.interpretation
    )
    key = _key(f, g, u0, asked)
    solves.by.pop(key, None)
    solves.by[key] = Settled(
        reads, equation.captured, (len(ts), *u0.shape), functools.partial(request, made={}), problem
    )
    if len(solves.by) > _MOST:
        del solves.by[next(iter(solves.by))]


def _found(prob: SDEProblem) -> tuple[Equation, Reads] | None:
    """The equation, whose programs are without their functions, and all that these read, if both can be told."""
    try:
        equation = prepare(prob, "compiled")
    except TraceError:  # it was called back
        return None
    parts = [x for x in (equation.drift, equation.diffusion) if x is not None]
    if any(x.is_complex() or not x.is_cpu for x in equation.captured):
        return None
    constants = [x for part in parts for x in part.program.constants]
    reads = Reads.of(prob.f, (prob.u0,), equation.captured, constants, beside=(cast("MethodType", prob.g),))
    drift, diffusion = (_part(x, None) for x in parts)
    return None if reads is None else (replace(equation, drift=drift, diffusion=diffusion), reads)


def _of_one(f: Callable, g: Callable) -> bool:
    """Whether both are methods of one object, of which all that they read is asked."""
    return isinstance(f, MethodType) and isinstance(g, MethodType) and f.__self__ is g.__self__


def _part(part: RequestPart, f: Callable | None) -> RequestPart:
    """The part with the program of this function."""
    return part._replace(program=part.program.of(f))


def _key(f: Any, g: Any, u0: torch.Tensor, asked: Hashable) -> Hashable:
    single = u0.dtype is torch.float32 and config.single_precision
    return f.__func__, g.__func__, u0.shape, u0.dtype, single, asked
