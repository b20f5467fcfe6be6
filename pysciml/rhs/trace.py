"""A right-hand side in torch becomes Graphs: f itself, its vjps, its Jacobian and its time gradient.

`record` runs f once and lists what it does (`record.py`); the list is the key under which compiled forms are kept, so
each program is traced once however often it is built anew. The derivatives are torch's own: `torch.func` transforms
f, and the operations that reach ATen are written down as a Graph.
"""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _get_current_dispatch_mode

from pysciml.errors import InvalidInputError, TraceError
from pysciml.rhs import aten, replay
from pysciml.rhs.base import KINDS, CompiledRHS
from pysciml.rhs.captured import Held
from pysciml.rhs.dispatch import GraphTracer, trace_calls
from pysciml.rhs.graph import Builder, Graph, Node, evaluate
from pysciml.rhs.parameters import Inputs, Layout
from pysciml.rhs.record import Births, Recorder, Watch, definition, located
from pysciml.rhs.rewrites import REWRITES
from pysciml.rhs.sparsity import Sparsity

_CACHE_SIZE = 256
_cache: OrderedDict[Any, CompiledRHS] = OrderedDict()


@dataclass(eq=False)
class Program:
    """One recorded run of a right-hand side.

    Attributes:
        f: the user's callable. t, u, p: example time, state leaves and parameter leaves (those of the pytree `p`).
        captured: floating tensors f reached for by itself; they follow `p` in the flat parameter vector.
        constants: integer and boolean tensors it reached for.
        signature: equal for two programs that compute the same function.
        inputs: what t, u and p look like: shapes, dtypes, devices and structures.
        cuts: what in f can make torch's gradient another one than the derivative of its values, such as detach.
        wrapped: whether f transforms functions with torch.func.
        under_compile: whether something in f may be under torch.compile.
        held: what the modules in f held when it was recorded.
    """

    f: Callable
    t: torch.Tensor
    u: list[torch.Tensor]
    p: list[torch.Tensor]
    u_layout: Layout
    p_layout: Layout | None
    captured: list[torch.Tensor]
    constants: list[torch.Tensor]
    signature: Any
    inputs: Any
    cuts: tuple[str, ...] = ()
    wrapped: bool = False
    under_compile: bool = True
    held: Held = field(default_factory=lambda: Held(None))

    @property
    def parameters(self) -> list[torch.Tensor]:
        return [*self.p, *self.captured]

    def of(self, f: Callable | None) -> Program:
        """The same program, of another callable."""
        other = object.__new__(Program)
        other.__dict__.update(self.__dict__, f=f)
        return other

    def call(
        self, t: torch.Tensor, u: Sequence[torch.Tensor], parameters: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """f at other values; captured tensors are replaced by theirs among `parameters`."""
        p = parameters[: len(self.p)]
        replaced = dict(zip(map(id, self.captured), parameters[len(self.p) :], strict=True))
        with self.held, Substitute([t, *u, *parameters], replaced, self.constants, self.wrapped) as watch:
            return list(map(watch.resolve, _derivative(self.apply(t, u, p), self.u_layout)))

    def apply(self, t, u, p):
        """f itself; what is under torch.compile runs eagerly."""
        state = self.u_layout.build(u)
        args = (t, state) if self.p_layout is None else (t, state, self.p_layout.build(p))
        if not self.under_compile or "torch._dynamo.eval_frame" not in sys.modules:
            return self.f(*args)
        with torch.compiler.set_stance("force_eager"):
            return self.f(*args)


class Substitute(Watch):
    """Puts traced tensors in the place of captured ones, and refuses tensors that come from nowhere."""

    def __init__(self, inputs, replaced: dict[int, torch.Tensor], constants: Sequence[torch.Tensor], wrapped: bool):
        super().__init__(inputs)
        self._replaced = replaced
        self._wrapped = wrapped
        for x in constants:
            self.know(x, live=False)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        args, kwargs = pytree.tree_map_only(torch.Tensor, self.resolve, (args, kwargs or {}))
        out = REWRITES.get(func, func)(*args, **kwargs)
        self.know_results(out, live=False)
        return out

    def resolve(self, x: torch.Tensor) -> torch.Tensor:
        x = self._replaced.get(id(x), x)
        if id(x) in self.slots or torch._C._functorch.is_functorch_wrapped_tensor(x):
            return x
        if self._wrapped and _was_made(x):
            return x
        raise TraceError(
            "the right-hand side uses a tensor that was made where torch cannot see it (torch.from_numpy, a "
            "TorchScript function, a custom extension).", op="unknown tensor",
            fix="make the tensor before the solve, or use torch.as_tensor inside f",
        )  # fmt: skip


def _was_made(x: torch.Tensor) -> bool:
    mode = _get_current_dispatch_mode()
    return isinstance(mode, GraphTracer) and mode.made(x)


def prepare(f: Callable, t: Any, u: Any, p: Any = None) -> tuple[Program, CompiledRHS]:
    """The program f is now and its compiled form, by the shortest way that is sure. Arguments as of `record`."""
    return prepare_for(f, t, Inputs.of(u, p))


def prepare_for(f: Callable, t: Any, inputs: Inputs) -> tuple[Program, CompiledRHS]:
    """`prepare`, of leaves and structures that are known already."""
    known = recall(f, inputs)
    if known is not None:
        return known
    program, recorder, out = _record(f, t, inputs)
    rhs = compiled(program)
    if not recorder.wrapped:
        replay.remember(f, program, rhs, recorder.calls, out)
    return program, rhs


def recall(f: Callable, inputs: Inputs) -> tuple[Program, CompiledRHS] | None:
    """The program and the compiled form of f, if it was prepared before and still does the same."""
    return replay.recall(f, _described(inputs))


def recording_of(f: Callable, inputs: Inputs) -> replay.Recording | None:
    """What is remembered of f, whether it still does the same or not."""
    return replay.recording_of(f, _described(inputs))


def record(f: Callable, t: Any, u: Any, p: Any = None) -> Program:
    """Runs f once at (t, u, p) and lists what it did.

    Args:
        f: `f(t, u)`, or `f(t, u, p)` when p is not None. t: a number or scalar tensor; f gets it as a tensor like u.
        u, p: pytrees of floating tensors.

    Raises:
        TraceError: f does what a compiled right-hand side cannot: names the operation, the line and the way out.
        InvalidInputError: f returned another structure, shape or dtype than u has.
        Exception: whatever f itself raises, unchanged.
    """
    return _record(f, t, Inputs.of(u, p))[0]


def _described(inputs: Inputs) -> tuple:
    return inputs.facts, torch.get_default_dtype()


def _record(f: Callable, t: Any, inputs: Inputs) -> tuple[Program, Recorder, Any]:
    description = _described(inputs)
    u, p = [x.detach().clone() for x in inputs.u], [x.detach() for x in inputs.p]
    t = torch.as_tensor(t, dtype=u[0].dtype, device=u[0].device).detach().clone()
    program = Program(f, t, u, p, inputs.u_layout, inputs.p_layout, [], [], None, description, held=Held(f))
    given = [t, *u, *p]
    recorder = Recorder(given)
    out = _watch(program, recorder, given)
    unknown = any(id(x) not in recorder.slots for x in pytree.tree_leaves(out))
    if recorder.wrapped or unknown:  # torch.func hands back tensors that a Recorder cannot tell from captured ones
        births = Births()
        recorder = Recorder(given, made=births.ids)
        with births:
            out = _watch(program, recorder, given)
    leaves = _derivative(out, program.u_layout)
    _check_derivative(leaves, program.u)
    program.captured, program.constants, program.cuts = recorder.captured, recorder.constants, tuple(recorder.cuts)
    ends = tuple(map(recorder.encode, leaves))  # before the log, which this may add to
    program.wrapped, program.under_compile = recorder.wrapped, recorder.under_compile
    program.signature = (tuple(recorder.log), ends, description)
    return program, recorder, out


def _watch(program: Program, recorder: Recorder, inputs: Sequence[torch.Tensor]) -> Any:
    versions = [x._version for x in inputs]
    with torch.no_grad(), recorder:
        try:
            out = program.apply(program.t, program.u, program.p)
        except RuntimeError as error:
            _explain_dtypes(error, inputs, recorder.captured)
            raise
    if versions != [x._version for x in inputs]:
        location, source = definition(program.f)
        raise TraceError("the right-hand side changes its state, time or parameters in place.", op="inplace",
                         location=location, source=source, fix="drop inplace=True, or work on u.clone()")  # fmt: skip
    return out


def _explain_dtypes(error: RuntimeError, inputs: Sequence[torch.Tensor], captured: Sequence[torch.Tensor]) -> None:
    """Raises a clear error if f failed because its parameters and its state are of two dtypes."""
    state = inputs[0].dtype
    other = next((x.dtype for x in captured if x.dtype != state), None)
    if other is not None and "dtype" in str(error):
        wanted = "double" if state is torch.float64 else "float"
        raise InvalidInputError(
            "the parameters that f uses and the state have different dtypes.",
            got=f"{other} parameters, a {state} state",
            fix=f"model.{wanted}(), or u0.to({other})",
        ) from error


def compiled(program: Program) -> CompiledRHS:
    """The compiled form of a program: made at first sight, checked against torch, then kept."""
    rhs = _cache.get(program.signature)
    if rhs is not None:
        _cache.move_to_end(program.signature)
    else:
        rhs = CompiledRHS(n=program.u_layout.size, m=sum(x.numel() for x in program.parameters),
                          signature=program.signature, tracer=trace)  # fmt: skip
        check_against_torch(program, rhs.graph("f", program))
        if program.cuts:
            check_gradient(program, rhs)
        _cache[program.signature] = rhs
        if len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
    return rhs


def trace(program: Program, kind: str, places: Sparsity | None = None) -> Graph:
    """One Graph of a program.

    Args:
        kind: "f" (n,), "vjp" (n,), "vjp_p" (m,), "both" of these (n + m,), "jac" (n, n) row-major, "tgrad" (n,), or
            "nonzeros" (nnz,), the Jacobian at `places` alone, which goes with them; a vjp has the input `v`.
    """
    run = functools.partial(_nonzeros, places=places) if places is not None else KINDS_IN_TORCH[kind]
    builder = Builder()
    n, m = program.u_layout.size, sum(x.numel() for x in program.parameters)
    sizes = {"t": (), "u": (n,), "p": (m,)} | ({"v": (n,)} if kind in ("vjp", "vjp_p", "both") else {})
    flat = {name: builder.input(name, shape) for name, shape in sizes.items()}
    pairs = [(program.t.clone(), flat["t"])]
    pairs += _leaves(builder, flat["u"], program.u)
    pairs += _leaves(builder, flat["p"], program.parameters)
    if "v" in flat:
        pairs += _leaves(builder, flat["v"], program.u)
    try:
        outputs = trace_calls(lambda *xs: run(program, *_split(program, xs)), pairs, builder)
    except TraceError as error:  # an error in a derivative, which torch made, belongs to no line of f
        raise located(error, definition(program.f)) from error.__cause__
    return builder.graph(aten.join(builder, outputs))


def _leaves(b: Builder, flat: Node, examples: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, Node]]:
    pairs, start = [], 0
    for x in examples:
        stop = start + x.numel()
        leaf = b.view(flat, functools.partial(_cut, start=start, stop=stop))
        pairs.append((x.detach().clone(), b.reshape(leaf, tuple(x.shape))))
        start = stop
    return pairs


def _cut(index: np.ndarray, start: int, stop: int) -> np.ndarray:
    return index[start:stop]


def _split(program: Program, xs: Sequence[torch.Tensor]):
    k = 1 + len(program.u)
    m = k + len(program.parameters)
    return xs[0], list(xs[1:k]), list(xs[k:m]), list(xs[m:])


def _f(program, t, u, p, v):
    return tuple(program.call(t, u, p))


def _vjp(program, t, u, p, v):
    _, pull, *_ = torch.func.vjp(lambda *u: tuple(program.call(t, u, p)), *u)
    return pull(tuple(v))


def _vjp_p(program, t, u, p, v):
    if not p:
        return (t.new_zeros(0),)
    _, pull, *_ = torch.func.vjp(lambda *p: tuple(program.call(t, u, p)), *p)
    return pull(tuple(v))


def _both(program, t, u, p, v):
    k = len(u)
    _, pull, *_ = torch.func.vjp(lambda *xs: tuple(program.call(t, xs[:k], xs[k:])), *u, *p)
    return pull(tuple(v))


def _jac(program, t, u, p, v):
    f, flat = _of_flat_state(program, t, u, p)
    return (_rows(f, flat),)


def _nonzeros(program, t, u, p, v, places: Sparsity):
    """The entries at some places, from one product for each color of rows."""
    f, flat = _of_flat_state(program, t, u, p)
    _, pull, *_ = torch.func.vjp(f, flat)
    seeds = torch.from_numpy(places.seeds()).to(flat)
    try:
        products = torch.func.vmap(lambda v: pull(v)[0])(seeds)
    except (RuntimeError, NotImplementedError):
        products = torch.stack([pull(row)[0] for row in seeds])
    index = torch.from_numpy(places.colors[places.rows] * flat.numel() + places.cols).to(flat.device)
    return (products.reshape(-1)[index],)


def _of_flat_state(program, t, u, p):
    sizes = program.u_layout.sizes

    def f(flat):
        leaves = [x.reshape(s) for x, s in zip(flat.split(sizes), program.u_layout.shapes, strict=True)]
        return torch.cat([x.reshape(-1) for x in program.call(t, leaves, p)])

    return f, torch.cat([x.reshape(-1) for x in u])


def _tgrad(program, t, u, p, v):
    return (_rows(lambda t: torch.cat([x.reshape(-1) for x in program.call(t, u, p)]), t),)


def _rows(f: Callable, x: torch.Tensor) -> torch.Tensor:
    """The Jacobian of f, one pull a row where an operation cannot be mapped over them all at once."""
    try:
        return torch.func.jacrev(f)(x)
    except (RuntimeError, NotImplementedError):  # a torch.autograd.Function without a vmap rule, for one
        out, pull, *_ = torch.func.vjp(f, x)
        return torch.stack([pull(row)[0] for row in torch.eye(out.numel(), dtype=out.dtype, device=out.device)])


KINDS_IN_TORCH = dict(zip(KINDS, (_f, _vjp, _vjp_p, _both, _jac, _tgrad), strict=True))


def check_against_torch(program: Program, graph: Graph) -> None:
    """Holds the compiled f against f itself, at the recorded point and beside it.

    Raises:
        TraceError: they differ, so f computes something that torch does not show.
    """
    generator = torch.Generator().manual_seed(0)
    for spread in (0.0, 1e-2):
        nudge = [
            spread * torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
            for x in (program.t, *program.u)
        ]
        t, *u = (x + d * (1 + x.abs()) for x, d in zip((program.t, *program.u), nudge, strict=True))
        with torch.no_grad():
            truth = torch.cat([x.reshape(-1) for x in _derivative(program.apply(t, u, program.p), program.u_layout)])
        flat = [
            torch.cat([*(x.detach().reshape(-1) for x in xs), truth.new_zeros(0)]) for xs in (u, program.parameters)
        ]
        ours = evaluate(graph, t=t.cpu(), u=flat[0].cpu(), p=flat[1].cpu())
        if not torch.allclose(
            ours, truth.cpu().double(), rtol=_tolerance(program), atol=_tolerance(program), equal_nan=True
        ):
            raise _differs(program, ours, truth)


def _differs(program: Program, ours: torch.Tensor, truth: torch.Tensor) -> TraceError:
    u, p = ([x.detach() for x in xs] for xs in (program.u, program.p))
    again = _record(program.f, program.t, Inputs(u, program.u_layout, p, program.p_layout, program.inputs[0]))[0]
    changes = again.signature != program.signature
    location, source = definition(program.f)
    return TraceError(
        "the right-hand side does something else at each call; an ODE's right-hand side must be a function." if changes
        else "the compiled right-hand side differs from f: it computes something torch cannot see.",
        op="check", location=location, source=source,
        got=f"compiled {ours.tolist()!r:.60}, f {truth.tolist()!r:.60}",
        fix="take counters, Python's or NumPy's random numbers and other changing state out of f" if changes
        else 'solve it with eager torch: pysciml.solve(prob, pysciml.DP5(), route="callback")',
    )  # fmt: skip


def check_gradient(program: Program, rhs: CompiledRHS) -> None:
    """Holds torch's gradient of f against the derivative of what f computes, which is what solvers need.

    Raises:
        TraceError: they differ: f has a `detach`, a `no_grad` or a custom backward that is not its derivative.
    """
    flat = [torch.cat([*(x.detach().reshape(-1).cpu().double() for x in xs), torch.zeros(0, dtype=torch.float64)])
            for xs in (program.u, program.parameters)]  # fmt: skip
    u, p = (x.requires_grad_() for x in flat)
    t, v = program.t.detach().cpu().double(), torch.linspace(1.0, 2.0, u.numel(), dtype=torch.float64)
    with torch.enable_grad():  # the caller may be solving under torch.no_grad()
        out = evaluate(rhs.graph("f"), t=t, u=u, p=p)
    true = torch.autograd.grad(out, (u, p), v, allow_unused=True) if out.requires_grad else (None, None)
    for kind, x, d in zip(("vjp", "vjp_p"), (u, p), true, strict=True):
        with torch.no_grad():
            given = evaluate(rhs.graph(kind, program), t=t, u=u, p=p, v=v)
        d = torch.zeros_like(x) if d is None else d
        if not torch.allclose(given, d, rtol=_tolerance(program), atol=_tolerance(program), equal_nan=True):
            location, source = definition(program.f)
            raise TraceError(
                "the gradient that torch gives the right-hand side is not the derivative of what it computes.",
                op=program.cuts[0],
                location=location,
                source=source,
                got=f"{', '.join(sorted(set(program.cuts)))} in f",
                fix="take it out of f (to solve without gradients, call solve under torch.no_grad()), or solve with "
                'eager torch: pysciml.solve(prob, pysciml.DP5(), route="callback")',
            )


def _tolerance(program: Program) -> float:
    single = any(x.dtype == torch.float32 for x in (*program.u, *program.parameters))
    return 2e-3 if single else 1e-8


def _derivative(out: Any, layout: Layout) -> list[torch.Tensor]:
    """What f returned, as leaves in the state's order; a dict may come in any order."""
    like = pytree.tree_unflatten(list(range(len(layout.shapes))), layout.spec)
    ordered: list[Any] = [None] * len(layout.shapes)
    if not _match(like, out, ordered):
        raise InvalidInputError(
            "f must return the same structure as u0.", got=_sketch(out), expected=_sketch(like, layout),
            fix="return one derivative per part of the state, in the same containers",
        )  # fmt: skip
    return ordered


def _match(like: Any, out: Any, ordered: list) -> bool:
    if isinstance(like, int):
        ordered[like] = out
        return isinstance(out, torch.Tensor)
    if isinstance(like, dict):
        return (
            isinstance(out, dict) and like.keys() == out.keys() and all(_match(like[k], out[k], ordered) for k in like)
        )
    same = isinstance(out, (tuple, list)) and len(out) == len(like)
    return same and all(_match(a, b, ordered) for a, b in zip(like, out, strict=True))


def _sketch(tree: Any, layout: Layout | None = None) -> str:
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{k!r}: {_sketch(v, layout)}" for k, v in tree.items()) + "}"
    if isinstance(tree, (tuple, list)):
        return "(" + ", ".join(_sketch(x, layout) for x in tree) + ")"
    if layout is not None:
        return f"tensor{list(layout.shapes[tree])}"
    return f"tensor{list(tree.shape)}" if isinstance(tree, torch.Tensor) else type(tree).__name__


def _check_derivative(leaves: Sequence[torch.Tensor], u: Sequence[torch.Tensor]) -> None:
    for du, x in zip(leaves, u, strict=True):
        if du.shape != x.shape:
            raise InvalidInputError(
                "f must return a derivative of the state's shape.",
                got=f"{list(du.shape)} for a state {list(x.shape)}",
                fix="check reshapes and sums in f; torch.stack joins scalars into a vector",
            )
        if du.dtype != x.dtype:
            raise InvalidInputError(
                "f must return the state's dtype.",
                got=f"{du.dtype} for a state of {x.dtype}",
                fix="model.double(), or u0.float(), so that both agree",
            )
