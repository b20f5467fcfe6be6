"""Models in Julia for the routes that are not compiled from torch: Python called back, and Julia's own source."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

from pysciml.engines.base import Request
from pysciml.engines.julia.errors import JuliaError
from pysciml.engines.julia.runtime import call
from pysciml.errors import InvalidInputError
from pysciml.rhs.base import CompiledRHS
from pysciml.rhs.callback import CallbackRHS
from pysciml.rhs.graph import Graph, evaluate
from pysciml.rhs.julia_source import SourceRHS
from pysciml.rhs.lower_julia import kernel
from pysciml.rhs.parameters import real, to_numpy

_NUMBERS: dict[bool, Any] = {False: ctypes.c_double, True: ctypes.c_float}
_PLACES = ctypes.c_void_p


def _prototype(number: Any) -> Any:
    """The C function that a part of a model is: (out, v, u, p, t, w, c, k), 0 for success."""
    return ctypes.CFUNCTYPE(ctypes.c_int, *[_PLACES] * 4, number, *[_PLACES] * 3)


_PROTOTYPES = {single: _prototype(number) for single, number in _NUMBERS.items()}


def define(model: Any, rhs: CompiledRHS, kind: str, program: Any) -> None:
    """Gives a model one part of a compiled right-hand side. `program` as of `CompiledRHS.graph`.

    Raises:
        JuliaError: what Julia computes is not what torch does. Nobody should ever see it; a solve would be wrong.
    """
    graph = rhs.graph(kind, program)
    code = kernel(graph, kind)
    call("define!", model, kind, code.source, code.constants, code.tables, code.work)
    found = [_agree(model, graph, kind, program, seed) for seed in (0, 1)]
    if not any(found):  # of two points, one may lie where f jumps or all digits cancel
        raise JuliaError(
            f"Julia's form of f computes something else than f ({kind}): an error in pysciml's compiler.",
            got=f"{len(graph.nodes)} operations", expected="a report of it, with f and `python -m pysciml versions`",
            fix='pysciml.solve(prob, route="callback"), which leaves f to torch',
        )  # fmt: skip


# A wrong step of a compiler is wrong by all digits; what is left is the rounding of other orders of summation.
_CLOSE = {False: 1e-6, True: 1e-2}


def _agree(model: Any, graph: Graph, kind: str, program: Any, seed: int) -> bool:
    """Whether a part computes in Julia what its graph does in torch, at a point near the one that was recorded."""
    point = _near(graph, program, seed)
    with torch.no_grad():
        expected = evaluate(graph, torch.float64, **point).reshape(-1)
    t, u, p, v = (to_numpy(point[name]) if name in point else np.zeros(0) for name in ("t", "u", "p", "v"))
    out = np.empty(expected.numel())
    call("evaluate!", out, model, kind, v if v.size else u, u, p, t.item())
    found = torch.from_numpy(out.reshape(u.size, -1).T.ravel() if kind == "jac" else out)
    scale = expected[expected.isfinite()].abs().max().item() if expected.isfinite().any() else 0.0
    close = _CLOSE[bool(call("is_single", model))]
    return torch.allclose(found, expected, rtol=close, atol=close * scale, equal_nan=True)


def _near(graph: Graph, program: Any, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    known = {"t": [program.t], "u": program.u, "p": program.parameters}
    point = {}
    for name, node in graph.inputs.items():
        noise = torch.randn(node.size, generator=generator, dtype=torch.float64)
        leaves = [real(x.detach()).reshape(-1).double().cpu() for x in known.get(name, ())]
        x = torch.cat(leaves) if leaves else noise
        point[name] = x * (1 + 0.01 * noise) + 0.001 * noise if x.numel() == node.size else noise
    return point


def callback_model(request: Request, kinds: tuple[str, ...]) -> Any:
    """A model whose parts are Python functions, with at least these parts. They live as long as the right-hand side."""
    rhs = cast("CallbackRHS", request.rhs)
    made = rhs.lowered.setdefault(("julia", request.single), {})
    if "model" not in made:
        made["model"] = call("Model", request.single, rhs.n, rhs.m)
    for kind in kinds:
        if kind not in made:
            made[kind] = _PROTOTYPES[request.single](_part(rhs, kind, request.single))
            call("bind!", made["model"], kind, ctypes.cast(made[kind], ctypes.c_void_p).value)
    return made["model"]


def _part(rhs: CallbackRHS, kind: str, single: bool) -> Callable:
    """One part as a C function calls it. What f raises is kept, and a 1 tells Julia to leave the solve."""
    compute, dtype = getattr(rhs, kind), np.float32 if single else np.float64
    size = {"jac": rhs.n**2, "vjp_p": rhs.m}.get(kind, rhs.n)

    def read(place: int | None, n: int) -> np.ndarray:
        buffer = np.empty(n, dtype)
        if n:  # a null pointer comes as None, and only for a vector without numbers
            ctypes.memmove(buffer.ctypes.data, cast("int", place), buffer.nbytes)
        return buffer.astype(np.float64, copy=False)

    def run(out, v, u, p, t, w, c, k) -> int:
        try:
            point = t, read(u, rhs.n), read(p, rhs.m)
            result = compute(*point, read(v, rhs.n)) if kind.startswith("vjp") else compute(*point)
            columns = np.ascontiguousarray(result.T, dtype)  # as Julia keeps a Jacobian
            if size:
                ctypes.memmove(out, columns.ctypes.data, columns.nbytes)
        except BaseException as error:  # Ctrl-C too: nothing of Python's can pass through Julia
            rhs.raised = error
            return 1
        return 0

    return run


def source_model(request: Request, kinds: tuple[str, ...]) -> Any:
    """The model of a Julia source, loaded in Julia the first time.

    Raises:
        InvalidInputError: Julia cannot load the text; with Julia's words and line.
    """
    rhs = cast("SourceRHS", request.rhs)
    made = rhs.lowered.setdefault(("julia", request.single), {})
    if "source" not in made:
        holes = [x for name, hole, compiled, offset in rhs.holes
                 for x in (name, call("Hole", _hole_model(hole, compiled, request), hole.inputs, hole.outputs, offset,
                                      rhs.m))]  # fmt: skip
        made["source"] = _load(rhs, request.single, holes)
    autojacvec = _autojacvec(request)
    if autojacvec not in made:
        made[autojacvec] = call("Source", made["source"], autojacvec)
    return made[autojacvec]


def _load(rhs: SourceRHS, single: bool, holes: list) -> Any:
    f = rhs.f
    try:
        return call("load_source", f.text, f.file, single, f.autodiff == "AutoForwardDiff", *holes)
    except JuliaError as error:
        raise InvalidInputError("the Julia source cannot be loaded.", got=error.got,
                                fix="correct the line that Julia names above") from None  # fmt: skip


def _autojacvec(request: Request) -> str:
    name = getattr(request.sensealg, "autojacvec", None) or "ReverseDiffVJP"
    return name if name.endswith(")") else name + "()"


def _hole_model(hole: Any, compiled: Any, request: Request) -> Any:
    """All parts of a hole at once: which of them Julia's AD will ask for is its own affair."""
    made = compiled.lowered.setdefault(("julia", "hole", request.single), {})
    if "model" not in made:
        program = next(p for _, p, rhs in request.program.holes if rhs.signature == compiled.signature)
        model = call("Model", request.single, compiled.n, compiled.m)
        for kind in ("f", "vjp", "vjp_p", "jac"):
            define(model, compiled, kind, program)
        made["model"] = model
    return made["model"]
