"""The tangent problem of a right-hand side, which is a right-hand side again, of twice as many numbers.

With u' = f(t, u, p), a tangent v of the state and w of the parameters, v' = (df/du) v + (df/dp) w. Its state is (u, v)
and its parameters are (p, w), each one flat vector. It is solved and differentiated like any other, so that the second
derivatives of a solve are first derivatives of this one, and so on to any order.

Reference: Hairer, Norsett and Wanner, "Solving ordinary differential equations I" (1993), section I.14.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._functorch import eager_transforms
from torch.autograd import forward_ad

from pysciml.errors import UnsupportedError
from pysciml.rhs.base import CompiledRHS
from pysciml.rhs.callback import CallbackProgram, CallbackRHS
from pysciml.rhs.captured import Substitute, leaves_of
from pysciml.rhs.graph import Graph, evaluate
from pysciml.rhs.parameters import flatten
from pysciml.rhs.trace import Program, trace

Field = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def tangent(program: Any, rhs: Any) -> tuple[Any, Any] | None:
    """The program and right-hand side of the tangent problem, made once; None where there is none to make."""
    if "tangent" not in rhs.lowered:
        rhs.lowered["tangent"] = _made(program, rhs)
    return rhs.lowered["tangent"]


def _made(program: Any, rhs: Any) -> tuple[Any, Any] | None:
    if isinstance(rhs, CompiledRHS):
        return _compiled(program, rhs)
    return _called_back(program) if isinstance(rhs, CallbackRHS) else None


def field(program: Any, rhs: Any) -> Field | None:
    """du/dt as a torch function of t (), u (n,) and p (m,), float64; None where only the engine can tell it."""
    if isinstance(rhs, CompiledRHS):
        graph = rhs.graph("f", program)
        return lambda t, u, p: evaluate(graph, t=t, u=u, p=p)
    return _of_callback(program) if isinstance(rhs, CallbackRHS) else None


class TangentProgram(Program):
    """The tangent problem of a Graph, as the tracer takes it: what f itself is does not matter any more."""

    def __init__(self, base: Program, graph: Graph, signature: Any):
        n, m = base.u_layout.size, sum(x.numel() for x in base.parameters)
        u = [torch.zeros(n, dtype=torch.float64) for _ in range(2)]
        p = [torch.zeros(m, dtype=torch.float64) for _ in range(2)]
        t = torch.zeros((), dtype=torch.float64)
        super().__init__(base.f, t, u, p, flatten(u)[1], flatten(p)[1], [], [], signature, None)
        self._graph = graph

    def call(self, t: torch.Tensor, u: Sequence[torch.Tensor], parameters: Sequence[torch.Tensor]) -> list:
        primals, tangents = (u[0], parameters[0]), (u[1], parameters[1])
        return list(_jvp(lambda u, p: evaluate(self._graph, t=t, u=u, p=p), primals, tangents))


def _jvp(function: Callable, primals: Sequence[torch.Tensor], tangents: Sequence[torch.Tensor]) -> tuple:
    if forward_ad._current_level < 0 or eager_transforms.JVP_NESTING:
        return torch.func.jvp(function, tuple(primals), tuple(tangents))
    # torch.autograd.forward_ad's own level cannot be entered twice. A vjp is linear, and its vjp is the jvp.
    y, pull, *_ = torch.func.vjp(function, *primals)
    return y, torch.func.vjp(pull, torch.zeros_like(y))[1](tuple(tangents))[0]


def _compiled(program: Program, rhs: CompiledRHS) -> tuple[TangentProgram, CompiledRHS]:
    again = TangentProgram(program, rhs.graph("f", program), ("tangent", rhs.signature))
    made = CompiledRHS(2 * rhs.n, 2 * rhs.m, again.signature, trace)
    made.graph("f", again)  # the Jacobian's sparsity is read off it
    return again, made


def _called_back(program: CallbackProgram) -> tuple[CallbackProgram, CallbackRHS]:
    f = _of_callback(program)
    n, m = program.u_layout.size, sum(x.numel() for x in program.parameters)
    t = program.t.detach().double()
    u, p = ([torch.zeros(size, dtype=torch.float64) for _ in range(2)] for size in (n, m))

    def both(t: torch.Tensor, state: list, parameters: list) -> list:
        (u, v), (p, w) = state, parameters
        return list(product(lambda u, p: f(t, u, p), (u, p), (v, w)))

    again = CallbackProgram(both, t, u, p, flatten(u)[1], flatten(p)[1], [], object(), program.held)
    return again, CallbackRHS(again)


def product(function: Callable, primals: Sequence[torch.Tensor], tangents: Sequence[torch.Tensor]) -> tuple:
    """function(*primals) and its derivative along tangents, as a gradient of a gradient: whatever autograd can.

    The vjp v J is linear in v, so the derivative of (v J) w in v is J w. Both results can be differentiated again.
    """
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        xs = [x if x.requires_grad else x.detach().requires_grad_() for x in primals]
        y = function(*xs)
        if not y.requires_grad:
            return y, torch.zeros_like(y)
        v = torch.zeros_like(y, requires_grad=True)
        pulled = torch.autograd.grad(y, xs, v, create_graph=True, materialize_grads=True)
        known = [(g, w) for g, w in zip(pulled, tangents, strict=True) if g.requires_grad]
        (along,) = torch.autograd.grad([g for g, _ in known], v, [w for _, w in known], create_graph=keep,
                                       materialize_grads=True)  # fmt: skip
    return (y, along) if keep else (y.detach(), along)


def _of_callback(program: CallbackProgram) -> Field:
    """f with all its parameters, captured ones too, taken from one flat vector."""
    if any(x.is_complex() for x in program.captured):
        raise _of_real_only()
    sizes = [x.numel() for x in program.parameters]
    own, barred = len(program.p), set(map(id, program.captured))
    like = program.u[0]

    def f(t: torch.Tensor, u: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        layout = program.u_layout
        state = [x.reshape(s).to(like) for x, s in zip(u.split(layout.sizes), layout.shapes, strict=True)]
        given = [x.reshape(y.shape).to(y) for x, y in zip(p.split(sizes), program.parameters, strict=True)]
        replaced = dict(zip(map(id, program.captured), given[own:], strict=True))
        with Substitute(replaced):
            out = program.apply(t.to(like), state, given[:own])
        flat = torch.cat([replaced.get(id(x), x).reshape(-1) for x in out])
        if any(id(x) in barred for x in leaves_of(flat)):
            raise _out_of_reach()
        return flat.to(u)

    return f


def _of_real_only() -> UnsupportedError:
    return UnsupportedError(
        "second derivatives, and derivatives in times by torch.func, need the tensors that f captured to be real.",
        got="a captured complex tensor", expected="it as p, which may be complex",
        fix="hand it over as p: pysciml.ODEProblem(f, u0, tspan, p), with f(t, u, p)",
    )  # fmt: skip


def _out_of_reach() -> UnsupportedError:
    return UnsupportedError(
        "second derivatives need f to take its parameters by torch functions alone.",
        got="a captured tensor that a custom autograd.Function, TorchScript or C++ reaches for", expected="p",
        fix="hand it over as p: pysciml.ODEProblem(f, u0, tspan, p), with f(t, u, p)",
    )  # fmt: skip
