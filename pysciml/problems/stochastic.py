"""The stochastic differential equation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.problems.ode import Time, _check_tspan
from pysciml.rhs.functorch import number
from pysciml.rhs.julia_source import JuliaFunction
from pysciml.rhs.parameters import Inputs, as_floating
from pysciml.under_compile import made_outside

NOISE_TYPES = ("diagonal", "scalar", "general", "additive")
INTERPRETATIONS = ("ito", "stratonovich")


@made_outside
@dataclass(frozen=True, eq=False)
class SDEProblem:
    """du = f(t, u) dt + g(t, u) dW, with u(t0) = u0 and Brownian motions W.

    Args:
        f: the drift, a torch function or module `f(t, u)`, or `f(t, u, p)` when `p` is given, as of `ODEProblem`.
        g: the diffusion, called like f. With diagonal noise it returns the structure and shapes of u: each state has a
            Brownian motion of its own. With general and additive noise u is one tensor (*batch, d), and g returns
            (*batch, d, k): k motions for each entry of the batch, as in torchsde. With scalar noise g returns the shape
            of u, and there is one motion for each entry of the batch.
        u0: the state at `tspan[0]`, a real tensor or a pytree of them. tspan: `(t0, t1)` with t0 < t1. p: parameters,
            a pytree of tensors; those of modules, and tensors that f and g capture, are found by themselves.
        noise_type: "diagonal", "scalar", "general" or "additive". Additive is general with a g that does not depend on
            u; solvers made for it (`SOSRA`) take diagonal noise too, where g does not.
        interpretation: "ito" or "stratonovich", what the equation means.

    `solve` of it takes `saveat`, `reltol`, `abstol`, `dt`, `dtmax`, `adaptive`, `maxiters`, `seed`, `noise`, `engine`,
    `route` and `sensealg`. The solution is one path; it knows its `seed` and its `noise`. Gradients are pathwise: the
    derivative of the solver's own steps along the Brownian motion it drew. Many paths in one call:
    `solve(EnsembleProblem(prob, trajectories=1000))`.

    Raises:
        InvalidInputError: what `ODEProblem` refuses; a span that does not go forwards; no such noise type or
            interpretation; a g of another shape.

    Reference: Oksendal, "Stochastic Differential Equations", Springer (2003); Kloeden and Platen, "Numerical Solution
    of Stochastic Differential Equations", Springer (1992). Pathwise gradients: Giles and Glasserman, "Smoking
    adjoints", Risk (2006).

    Example:
        >>> import torch, pysciml as ps
        >>> mu = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> prob = ps.SDEProblem(lambda t, u: mu * u, lambda t, u: 0.2 * u, one, (0.0, 1.0))
        >>> sol = ps.solve(prob, ps.EM(), dt=0.01, seed=1, engine="embedded")
        >>> sol.u[-1].sum().backward()  # u(1) = exp(mu + ...), so its derivative in mu is itself
        >>> abs(mu.grad.item() / sol.u[-1].item() - 1) < 0.01
        True
    """

    f: Callable
    g: Callable
    u0: Any
    tspan: tuple[Time, Time]
    p: Any = None
    noise_type: str = "diagonal"
    interpretation: str = "ito"

    def __post_init__(self):
        for name in ("f", "g"):
            _check_function(getattr(self, name), name)
        for name, choices in (("noise_type", NOISE_TYPES), ("interpretation", INTERPRETATIONS)):
            if getattr(self, name) not in choices:
                raise InvalidInputError(f"there is no such {name}.", got=f"{name}={getattr(self, name)!r}",
                                        expected=", ".join(choices), fix=f'{name}="{choices[0]}"')  # fmt: skip
        object.__setattr__(self, "u0", as_floating(self.u0, "u0"))
        object.__setattr__(self, "tspan", _check_tspan(self.tspan))
        if self.p is not None:
            object.__setattr__(self, "p", as_floating(self.p, "p"))
        if self.span[1] < self.span[0]:
            raise InvalidInputError("a stochastic equation is solved forwards in time.", got=f"tspan={self.span}",
                                    fix="tspan=(0.0, 1.0)")  # fmt: skip
        leaves = pytree.tree_leaves(self.u0)
        if self.noise_type != "diagonal" and (len(leaves) != 1 or leaves[0].dim() == 0):
            raise InvalidInputError(f"{self.noise_type} noise needs a state that is one tensor, (*batch, d).",
                                    got=f"{len(leaves)} tensors of shapes {[list(x.shape) for x in leaves]}",
                                    fix='u0=torch.cat([...]), or noise_type="diagonal"')  # fmt: skip

    @cached_property
    def inputs(self) -> Inputs:
        """The tensors of the state and of p, and their structures."""
        return Inputs.of(self.u0, self.p)

    @property
    def span(self) -> tuple[float, float]:
        """`tspan` as plain numbers."""
        return number(self.tspan[0]), number(self.tspan[1])

    @cached_property
    def blocks(self) -> tuple[int, int, int]:
        """How noise enters: so many blocks, of so many states and so many motions each."""
        if self.noise_type == "diagonal":
            return self.inputs.u_layout.size, 1, 1
        leaf = self.inputs.u[0]
        d = leaf.shape[-1]
        return leaf.numel() // d, d, 1 if self.noise_type == "scalar" else self._columns()

    @property
    def motions(self) -> int:
        """The number of Brownian motions."""
        return self.blocks[0] * self.blocks[2]

    def diffusion(self, t: torch.Tensor, u: Any, *p: Any) -> torch.Tensor:
        """g as one tensor: of each block row by row."""
        return torch.cat([x.reshape(-1) for x in pytree.tree_leaves(self.g(t, u, *p))])

    def _columns(self) -> int:
        """The number of motions of a block, as g has it."""
        leaf = self.inputs.u[0]
        with torch.no_grad():
            t = torch.as_tensor(self.span[0], dtype=leaf.dtype, device=leaf.device)
            out = self.g(t, self.u0, *(() if self.p is None else (self.p,)))
        shape = list(out.shape) if isinstance(out, torch.Tensor) else None
        if shape is None or len(shape) != leaf.dim() + 1 or shape[:-1] != list(leaf.shape):
            raise InvalidInputError(
                f"g of {self.noise_type} noise must return the shape of u and one more dimension, of its motions.",
                got=f"shape {shape}", expected=f"{[*leaf.shape, 'k']}", fix='noise_type="diagonal", or g[..., None]',
            )  # fmt: skip
        return shape[-1]

    def remake(self, **changes: Any) -> SDEProblem:
        """The same problem with some fields changed: `prob.remake(u0=...)`."""
        unknown = changes.keys() - self.__dataclass_fields__.keys()
        if unknown:
            raise InvalidInputError(
                f"an SDEProblem has no field {sorted(unknown)[0]!r}.",
                got=", ".join(sorted(unknown)),
                expected=", ".join(self.__dataclass_fields__),
                fix="prob.remake(u0=...)",
            )
        return replace(self, **changes)

    def __repr__(self) -> str:
        names = ", ".join(getattr(x, "__name__", type(x).__name__) for x in (self.f, self.g))
        shapes = ", ".join(str(list(x.shape)) for x in self.inputs.u)
        return (f"SDEProblem({names}, u0: {shapes} {self.inputs.u[0].dtype}, tspan=({self.span[0]:g}, "
                f"{self.span[1]:g}), {self.noise_type} noise, {self.interpretation})")  # fmt: skip


def _check_function(f: Any, name: str) -> None:
    if isinstance(f, JuliaFunction):
        raise UnsupportedError(
            "drift and diffusion must be torch functions or modules.",
            got=f"a JuliaFunction as {name}",
            expected=f"def {name}(t, u): ...",
            fix="write both in torch",
        )
    if not callable(f):
        raise InvalidInputError(f"{name} must be callable.", got=type(f).__name__, fix=f"def {name}(t, u): ...")
