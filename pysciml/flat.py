"""One solve by an engine, which sees flat vectors: all that comes before its numbers, and what is done with them.

A training loop solves the same problem with the same options again and again, and only the values of its tensors are
others. What its arguments come to is remembered with the problem, so that a small solve does not take longer to be
understood than to be done.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from operator import is_
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml import autograd
from pysciml.algorithms import Algorithm
from pysciml.config import config
from pysciml.control import Control, check_tolerances, checked_times, every_step, in_order
from pysciml.engines.base import Engine, Met, Request
from pysciml.engines.pieces import stopping
from pysciml.errors import PySciMLWarning, UnsupportedError
from pysciml.problems import ODEProblem, check_halves, kind
from pysciml.rhs import functorch, replay
from pysciml.rhs.base import CompiledRHS
from pysciml.rhs.julia_source import JuliaFunction
from pysciml.rhs.parameters import leaf_names, pack, real
from pysciml.rhs.trace import recall, recording_of
from pysciml.sensitivity import GaussAdjoint, SensitivityAlgorithm
from pysciml.solution import ReturnCode, Solution


@dataclass(frozen=True, eq=False)
class Flat:
    """A solve, settled but for its times and for the values of its tensors.

    Attributes:
        engine: who solves. rhs, program: what, as of `Request`. request: makes Requests of u0, p, t0 and ts.
        inputs: on the CPU, the leaves of the state, those of p, and the tensors that f captured.
        control: what else was asked of the solve. exact: whether all inputs are float64.
    """

    engine: Engine
    rhs: Any
    program: Any
    request: functools.partial[Request]
    inputs: list[torch.Tensor]
    control: Control
    exact: bool

    @classmethod
    def of(cls, prob: ODEProblem, engine: Engine, alg, program, rhs, reltol, abstol, sensealg, control: Control,
           **steps: Any) -> Flat:  # fmt: skip
        engine = stopping(engine, control.tstops, control.jumps)
        make = request_maker(prob, engine, alg, program, rhs, reltol, abstol, sensealg, **steps)
        request = functools.partial(make, made={})
        inputs = to_host([*prob.inputs.u, *prob.inputs.p, *map(real, captured_by(program))])
        exact = all(x.dtype is torch.float64 for x in inputs)
        return cls(engine, rhs, program, request, inputs, control, exact)

    def solve(self, prob: ODEProblem, ts: torch.Tensor, met: Met | None = None) -> Solution:
        """The states at `ts`; or those of a search for events that has solved already."""
        leaves, (t0, t1), inputs, control = prob.inputs.u, prob.tspan, self.inputs, self.control
        request = _checking(self.request) if functorch.transforming() else self.request
        call = autograd.Call(self.engine, self.rhs, self.program, request, leaves[0].dtype, len(leaves),
                             lambda: parameter_names(prob, captured_by(self.program)), self.request.keywords["mass"],
                             self.exact)  # fmt: skip
        if met is not None and met.trajectory is not None:
            call.dense, call.solved = met.trajectory, self._solved(prob)
        with control.watch(self.engine.reached) if control.progress else nullcontext():
            if control.every_step:
                ts = every_step(call, t0, inputs).to(ts.device)
            u = autograd.solve(call, t0, t1, ts.cpu(), inputs)
        layout, device = self.program.u_layout, leaves[0].device

        def dense(times: torch.Tensor) -> Any:
            again = replace(call, dense=call.trajectory)
            values = in_order(
                times.cpu(), prob.span[1] < prob.span[0], lambda ts: autograd.solve(again, t0, t1, ts, inputs)
            )
            return control.pick(layout.unflatten(values.to(device)))

        return Solution(ts, control.pick(layout.unflatten(u.to(device))), prob, ReturnCode.Success, call.stats, dense)

    def _solved(self, prob: ODEProblem) -> Callable[..., Request]:
        """What makes the requests of a solve that was made already."""
        states = len(prob.inputs.u)
        u0, p = pack(self.inputs[:states]), pack(self.inputs[states:])
        return self.request(u0=u0, p=p, t0=prob.span[0], ts=np.empty(0))._replace


# What was solved before.

_NEVER_CHANGES = (type(None), bool, int, float, str, Algorithm, SensitivityAlgorithm)
_PLACE = "_flat"  # in the problem, whose copies come without


@dataclass(eq=False)
class _Known:
    """A solve that a problem keeps, what was asked for, and the run of f that it was settled by."""

    asked: tuple[Any, ...]
    flat: Flat
    recording: replay.Recording | None


def remember(prob: ODEProblem, asked: tuple[Any, ...], flat: Flat) -> None:
    """Keeps a solve with its problem, if nothing that was settled can change until the same is asked again."""
    control, inputs = flat.control, [*prob.inputs.u, *prob.inputs.p, *captured_by(flat.program)]
    lasting = all(map(_lasts, asked)) and all(isinstance(t, float) for t in prob.tspan)
    usual = prob.mass_matrix is None and isinstance(flat.rhs, CompiledRHS) and all(map(is_, flat.inputs, inputs))
    whole = not (control.progress or control.every_step or control.tstops.size or control.jumps.size)
    if lasting and usual and whole and not functorch.transforming():
        kept = tuple(x.clone() if isinstance(x, torch.Tensor) else x for x in asked)
        recording = recording_of(prob.f, prob.inputs)
        same = recording is not None and recording.program.captured is flat.program.captured
        prob.__dict__[_PLACE] = _Known(kept, flat, recording if same else None)


def _lasts(x: Any) -> bool:
    return isinstance(x, (torch.Tensor, *_NEVER_CHANGES)) or (type(x) is tuple and not x)


def _same(then: Any, now: Any) -> bool:
    if isinstance(then, torch.Tensor):  # as a tolerance may be one
        return isinstance(now, torch.Tensor) and then.dtype is now.dtype and torch.equal(then, now)
    return then is now or (type(then) is type(now) and then == now)


def remembered(prob: ODEProblem, asked: tuple[Any, ...]) -> Flat | None:
    """The last solve of this problem, if the very same was asked then and f is what it was."""
    known: _Known | None = prob.__dict__.get(_PLACE)
    if known is None or functorch.transforming():
        return None
    if not all(then is now or _same(then, now) for then, now in zip(known.asked, asked, strict=True)):
        return None
    if known.recording is not None and replay.reads_the_same(prob.f, known.recording):
        return known.flat
    found = recall(prob.f, prob.inputs)
    return known.flat if found is not None and found[0].captured is known.flat.program.captured else None


def request_maker(prob, engine, alg, program, rhs, reltol, abstol, sensealg, **steps) -> functools.partial[Request]:
    """What makes an engine's Request from the values u0, p, t0 and ts, the rest being checked and settled."""
    mass = None
    if prob.mass_matrix is not None:
        with functorch.outside():
            mass = pack(pytree.tree_leaves(prob.mass_matrix))
    alg, sensealg = alg or engine.default_algorithm(mass), sensealg or GaussAdjoint()
    if mass is not None and not alg.dae and not mass.all():
        takes = type(engine.default_algorithm(mass)).__name__
        raise UnsupportedError(
            f"`{alg.name}` cannot solve a mass matrix with zeros.",
            got=f"{int((mass == 0).sum())} zeros",
            expected=takes,
            fix=f"pysciml.solve(prob, pysciml.{takes}())",
        )
    engine.check(alg, sensealg, steps.get("dt"), kind(prob.f))
    check_halves(alg, prob)
    check_tolerances(alg, reltol, abstol)
    reltol, abstol = (functorch.numbers(x) if isinstance(x, torch.Tensor) else x for x in (reltol, abstol))
    single = prob.inputs.u[0].dtype is torch.float32 and alg.package != "Sundials"
    return functools.partial(Request, rhs=rhs, program=program, t1=prob.span[1], alg=alg, sensealg=sensealg,
                             reltol=reltol, abstol=abstol, mass=mass, kind=kind(prob.f),
                             single=single and config.single_precision, **steps)  # fmt: skip


def _checking(request: Callable[..., Request]) -> Callable[..., Request]:
    """`request`, which looks at the times of each member where `vmap` maps over times."""

    def checked(*, t0: float, t1: float, ts: np.ndarray, **given: Any) -> Request:
        return request(t0=t0, t1=t1, ts=checked_times(ts, t0, t1), **given)

    return checked


def captured_by(program: Any) -> list[torch.Tensor]:
    """The tensors that f captured, as the caller has them."""
    f = program.f
    functions = [hole.module for hole in f.holes.values()] if isinstance(f, JuliaFunction) else [f]
    return functorch.originals(functions, program.captured)


def parameter_names(prob: ODEProblem, captured: Sequence[torch.Tensor]) -> list[str]:
    """What the user calls each parameter: `p['k']`, `net.0.weight`, a closure's variable, or "captured tensor 2"."""
    known = {id(x): name for name, x in reach(prob.f).items()}
    own = leaf_names(prob.p, "p") if prob.p is not None else []
    return own + [known.get(id(x), f"captured tensor {i}") for i, x in enumerate(captured)]


def tensors_of(prob: ODEProblem) -> dict[str, torch.Tensor]:
    """The tensors a problem is seen to depend on, by the names the user has for them."""
    parts = {"u0": prob.u0} | ({} if prob.p is None else {"p": prob.p})
    own = {
        n: x
        for root, tree in parts.items()
        for n, x in zip(leaf_names(tree, root), pytree.tree_leaves(tree), strict=True)
    }
    return own | reach(prob.f)


def reach(f: Any) -> dict[str, torch.Tensor]:
    """Tensors and module parameters that f holds itself, in its closure or by the names of its globals."""
    inner = getattr(f, "inner_functions", ())
    if inner:
        return {name: x for g in inner for name, x in reach(g).items()}
    code, cells = getattr(f, "__code__", None), getattr(f, "__closure__", None) or ()
    held = dict(zip(code.co_freevars, (c.cell_contents for c in cells), strict=True)) if code else {}
    held |= {k: v for k, v in getattr(f, "__globals__", {}).items() if code and k in code.co_names}
    found = {name: value for name, value in held.items() if isinstance(value, torch.Tensor)}
    modules = {name: value for name, value in held.items() if isinstance(value, torch.nn.Module)}
    for name, module in (modules | ({"": f} if isinstance(f, torch.nn.Module) else {})).items():
        for path, x in (*module.named_parameters(), *module.named_buffers()):
            found[f"{name}.{path}" if name else path] = x
    return found


def to_host(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """CPU copies, made outside the autograd Function so that no engine runs on autograd's device threads."""
    if all(x.is_cpu for x in tensors):
        return tensors
    warnings.warn("state or parameters on a GPU are copied to the CPU at every solve; pysciml.DP5() in the embedded "
                  "engine solves on the GPU.", PySciMLWarning, stacklevel=4)  # fmt: skip
    return [x.cpu() for x in tensors]
