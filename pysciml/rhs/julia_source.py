"""The Julia-source route: a right-hand side in the user's own Julia, with torch modules in its holes.

The text goes to Julia as it is and is parsed there. Its parameters are torch tensors, its derivatives those of
SciMLSensitivity's own automatic differentiation. A torch module in a hole is traced and compiled as on the compiled
route; Julia's AD meets it as one function whose products torch derived.
"""

from __future__ import annotations

import copy
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.rhs import functorch
from pysciml.rhs.base import CompiledRHS
from pysciml.rhs.parameters import Layout, flatten
from pysciml.rhs.trace import Program, prepare

_AUTODIFF = ("AutoForwardDiff", "AutoFiniteDiff")
_CACHE_SIZE = 64
_cache: OrderedDict[Any, SourceRHS] = OrderedDict()


class JuliaFunction:
    """A right-hand side written in Julia, in the place of `f` in an `ODEProblem`; solved by the julia engine.

    It has Julia's own order: `(du, u, p, t)` in place, or `(u, p, t)` returning du. In it `u` and `p` are vectors: the
    leaves of `u0` and of `p`, each row by row, one after another (a dict's in the order of its keys as pytrees sort
    them). LinearAlgebra is there; other packages of Julia's project come by `using` in the text.

    Gradients are SciMLSensitivity's: `sensealg=GaussAdjoint(autojacvec="ZygoteVJP")` chooses the AD, and
    "ReverseDiffVJP" is the default. `"ReverseDiffVJP(true)"` compiles its tape once: faster, and wrong without a word
    where the text branches on values. Julia compiles the text at its first solve and at its first gradient, which
    takes seconds.

    Args:
        source: Julia text, or the path of a file of it. Its last expression is the function, or else `f!` or `f` in it.
        nn: a torch module that the text calls as `nn(x, p)`: x a vector, p all of p as the function got it; a vector
            comes back. Its parameters need not be in `p`: they are found, and get their gradients. The module takes a
            1-d tensor of as many numbers as its first layer says; `(module, 3)` says so for one that does not.
        holes: more of them by name, {"growth": module, "decay": (function, 2)}.
        autodiff: what implicit solvers take Jacobians from: "AutoForwardDiff", or "AutoFiniteDiff" for a text that dual
            numbers cannot pass through.

    Raises:
        InvalidInputError: no text, no such file, a hole whose size is not known or whose result is not a vector; and
            from `solve`, a text that Julia cannot load, with Julia's words and line.

    Example:
        >>> import torch, pysciml as ps
        >>> source = '''
        ... function (du, u, p, t)
        ...     du[1] = p[1] * u[1] - p[2] * u[1] * u[2]
        ...     du[2] = p[2] * u[1] * u[2] - u[2]
        ... end
        ... '''
        >>> p = torch.tensor([1.5, 1.0], dtype=torch.float64, requires_grad=True)
        >>> prob = ps.ODEProblem(ps.JuliaFunction(source), torch.ones(2, dtype=torch.float64), (0.0, 3.0), p)
        >>> prob
        ODEProblem(JuliaFunction, u0: [2] torch.float64, tspan=(0, 3))

    With Julia there, `ps.solve(prob, ps.Tsit5(), sensealg=ps.InterpolatingAdjoint(autojacvec="ZygoteVJP"))`.
    """

    def __init__(self, source: str | os.PathLike, *, nn: Any = None, holes: Mapping[str, Any] | None = None,
                 autodiff: str = "AutoForwardDiff"):  # fmt: skip
        self.text, self.file = _read(source)
        if autodiff not in _AUTODIFF:
            raise InvalidInputError(f"there is no autodiff {autodiff!r} for a Julia source.", got=f"{autodiff!r:.80}",
                                    expected=" or ".join(_AUTODIFF), fix='autodiff="AutoForwardDiff"')  # fmt: skip
        self.autodiff = autodiff
        named = dict(holes or {}) | ({} if nn is None else {"nn": nn})
        self.holes = {name: _hole(name, value) for name, value in named.items()}

    def plain(self) -> JuliaFunction:
        """The same with plain tensors in the place of those that its holes captured in wrappers of torch.func."""
        other = copy.copy(self)
        other.holes = {name: hole.plain() for name, hole in self.holes.items()}
        return other

    def __call__(self, *args: Any) -> Any:
        raise UnsupportedError("a JuliaFunction is called by Julia alone.", got="a call from Python, or another engine",
                               expected='engine="julia"', fix='pysciml.solve(prob, engine="julia")')  # fmt: skip

    def __repr__(self) -> str:
        holes = f", holes: {', '.join(self.holes)}" if self.holes else ""
        return f"JuliaFunction({self.file}, {len(self.text.splitlines())} lines{holes})"


def _read(source: Any) -> tuple[str, str]:
    """The text, and what to call it in messages."""
    if isinstance(source, os.PathLike):
        path = Path(source)
        if not path.is_file():
            raise InvalidInputError("there is no such Julia source.", got=str(path), fix=f"check {path.absolute()}")
        return path.read_text("utf-8"), str(path)
    if not isinstance(source, str) or not source.strip():
        raise InvalidInputError("a JuliaFunction needs source text or a path.", got=f"{source!r:.80}",
                                fix='JuliaFunction("f(u, p, t) = -p .* u"), or pathlib.Path("model.jl")')  # fmt: skip
    if source.strip().endswith(".jl") and len(source.split()) == 1:
        raise InvalidInputError("a string is Julia text, not the name of a file.", got=repr(source),
                                fix=f"JuliaFunction(pathlib.Path({source!r}))")  # fmt: skip
    return source, "source"


@dataclass(eq=False)
class Hole:
    """A torch function of `inputs` to `outputs` numbers, as a right-hand side whose state is the longer of the two."""

    module: Callable
    inputs: int
    outputs: int
    dtype: torch.dtype
    device: torch.device

    @property
    def n(self) -> int:
        return max(self.inputs, self.outputs)

    def __call__(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        y = self.module(z[: self.inputs] if self.inputs < self.n else z)
        return y if self.outputs == self.n else torch.cat([y, y.new_zeros(self.n - self.outputs)])

    def plain(self) -> Hole:
        with functorch.outside():
            x = torch.full((self.inputs,), 0.5, dtype=self.dtype, device=self.device)
        return replace(self, module=functorch.plain(self.module, x))

    def prepare(self) -> tuple[Program, CompiledRHS]:
        return prepare(self, 0.0, torch.full((self.n,), 0.5, dtype=self.dtype, device=self.device))


def _hole(name: Any, value: Any) -> Hole:
    if not (isinstance(name, str) and name.isidentifier()):
        raise InvalidInputError("a hole's name is that of a function in the Julia text.", got=repr(name),
                                fix='holes={"nn": module}')  # fmt: skip
    module, inputs = value if isinstance(value, tuple) else (value, _first_layer(value))
    if not callable(module) or not isinstance(inputs, int) or inputs < 1:
        raise InvalidInputError(
            f"the hole `{name}` needs a module and the number of its inputs.", got=f"{value!r:.80}",
            expected="a module whose first layer has in_features, or a pair (module, inputs)",
            fix=f'holes={{"{name}": (module, 2)}}',
        )  # fmt: skip
    like = next(iter(module.parameters()), None) if isinstance(module, torch.nn.Module) else None
    dtype, device = (torch.get_default_dtype(), torch.device("cpu")) if like is None else (like.dtype, like.device)
    with torch.no_grad():
        y = module(torch.full((inputs,), 0.5, dtype=dtype, device=device))
    if not isinstance(y, torch.Tensor) or y.dim() != 1:
        got = f"shape {list(y.shape)}" if isinstance(y, torch.Tensor) else type(y).__name__
        raise InvalidInputError(f"the hole `{name}` must return a vector.", got=got,
                                expected=f"a 1-d tensor for a 1-d tensor of {inputs}",
                                fix="torch.nn.Sequential(net, torch.nn.Flatten(0))")  # fmt: skip
    return Hole(module, inputs, y.numel(), dtype, device)


def _first_layer(module: Any) -> int | None:
    layers = module.modules() if isinstance(module, torch.nn.Module) else ()
    sizes = (getattr(layer, "in_features", None) for layer in layers)
    return next((n for n in sizes if isinstance(n, int)), None)


@dataclass(eq=False)
class SourceProgram:
    """What a Julia source is solved with. Attributes as of `trace.Program`; captured tensors are those of the holes."""

    f: JuliaFunction
    u: list[torch.Tensor]
    p: list[torch.Tensor]
    u_layout: Layout
    captured: list[torch.Tensor]
    holes: list[tuple[str, Program, CompiledRHS]]
    signature: Any = None

    @property
    def parameters(self) -> list[torch.Tensor]:
        return [*self.p, *self.captured]


class SourceRHS:
    """A Julia source with its compiled holes.

    Attributes:
        n, m: sizes of the flat state and of the flat parameter vector, holes' parameters at its end.
        f: the source. holes: name, sizes and compiled form of each, with the place of its parameters in the vector.
        lowered: an engine's own forms of it.
    """

    def __init__(self, program: SourceProgram):
        self.n, self.m = program.u_layout.size, sum(x.numel() for x in program.parameters)
        self.f, self.signature = program.f, program.signature
        self.lowered: dict[Any, Any] = {}
        self.holes: list[tuple[str, Hole, CompiledRHS, int]] = []
        offset = sum(x.numel() for x in program.p)
        for name, _, rhs in program.holes:
            self.holes.append((name, program.f.holes[name], rhs, offset))
            offset += rhs.m


def prepare_julia(prob: Any) -> tuple[SourceProgram, SourceRHS]:
    """A problem whose f is a `JuliaFunction`, as an engine takes it; what `trace.prepare` is to the compiled route.

    Raises:
        TraceError: a module in a hole cannot be compiled; says why.
    """
    u, u_layout = flatten(prob.u0)
    p = [] if prob.p is None else pytree.tree_leaves(prob.p)
    holes = [(name, *hole.prepare()) for name, hole in prob.f.holes.items()]
    captured = [x for _, program, _ in holes for x in program.captured]
    shape = u_layout.size, sum(x.numel() for x in p)
    kinds = tuple((name, prob.f.holes[name].inputs, rhs.signature) for name, _, rhs in holes)
    signature = (prob.f.text, prob.f.file, prob.f.autodiff, shape, kinds)
    program = SourceProgram(prob.f, u, p, u_layout, captured, holes, signature)
    if signature not in _cache:
        _cache[signature] = SourceRHS(program)
        if len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
    _cache.move_to_end(signature)
    return program, _cache[signature]
