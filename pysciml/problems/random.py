"""The random ordinary differential equation: one that noise enters as an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError
from pysciml.problems.ode import Time, _check_tspan
from pysciml.problems.stochastic import _check_function
from pysciml.rhs.functorch import number
from pysciml.rhs.parameters import Inputs, as_floating
from pysciml.under_compile import made_outside


@made_outside
@dataclass(frozen=True, eq=False)
class RODEProblem:
    """du/dt = f(t, u, W(t)), with u(t0) = u0 and Brownian motions W: along each path of W an ordinary equation.

    Args:
        f: a torch function or module `f(t, u, w)`, or `f(t, u, w, p)` when `p` is given, where w is the value of the
            noise at t, (noise_size,) in the dtype of u. It returns du/dt in the structure and shapes of u.
        u0: the state at `tspan[0]`, a real tensor or a pytree of them. tspan: `(t0, t1)` with t0 < t1. p: parameters,
            a pytree of tensors; those of modules, and tensors that f captures, are found by themselves.
        noise_size: how many Brownian motions there are; None takes one for each state, as Julia does. They are zero at
            t0, but for those of a `NoisePath` that is given.

    `solve` of it, with `RandomEM`, `RandomHeun` or `RandomTamedEM`, takes `dt`, `saveat`, `maxiters`, `seed`, `noise`,
    `engine` and `route`, in Julia. The solution is one path, an `SDESolution`. Gradients are pathwise: the derivative
    of the solver's own steps along the noise. Many paths: `solve_ensemble(EnsembleProblem(prob, trajectories=1000))`.

    Raises:
        InvalidInputError: what `ODEProblem` refuses; a span that does not go forwards; no positive noise_size.

    Reference: Han and Kloeden, "Random Ordinary Differential Equations and Their Numerical Solution", Springer (2017).

    Example:
        >>> import torch, pysciml as ps
        >>> prob = ps.RODEProblem(lambda t, u, w: 2 * u * torch.sin(w), torch.ones(1, dtype=torch.float64), (0.0, 1.0))
        >>> prob
        RODEProblem(<lambda>, u0: [1] torch.float64, tspan=(0, 1), 1 motions)

    With Julia there, `ps.solve(prob, ps.RandomHeun(), dt=0.001, seed=1)` solves it.
    """

    f: Callable
    u0: Any
    tspan: tuple[Time, Time]
    p: Any = None
    noise_size: int | None = None

    def __post_init__(self):
        _check_function(self.f, "f")
        object.__setattr__(self, "u0", as_floating(self.u0, "u0"))
        object.__setattr__(self, "tspan", _check_tspan(self.tspan))
        if self.p is not None:
            object.__setattr__(self, "p", as_floating(self.p, "p"))
        if self.span[1] < self.span[0]:
            raise InvalidInputError("a random equation is solved forwards in time.", got=f"tspan={self.span}",
                                    fix="tspan=(0.0, 1.0)")  # fmt: skip
        size = self.noise_size
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
            raise InvalidInputError("noise_size is the number of Brownian motions.", got=f"noise_size={size!r}",
                                    expected="a positive integer", fix="noise_size=1")  # fmt: skip

    @cached_property
    def inputs(self) -> Inputs:
        """The tensors of the state and of p, and their structures."""
        return Inputs.of(self.u0, self.p)

    @property
    def span(self) -> tuple[float, float]:
        """`tspan` as plain numbers."""
        return number(self.tspan[0]), number(self.tspan[1])

    @property
    def motions(self) -> int:
        """The number of Brownian motions."""
        return self.inputs.u_layout.size if self.noise_size is None else self.noise_size

    def slope(self, t: torch.Tensor, x: torch.Tensor, *p: Any) -> torch.Tensor:
        """f as a function of one vector, the state and then the noise, to one."""
        n = self.inputs.u_layout.size
        du = self.f(t, self.inputs.u_layout.unflatten(x[:n]), x[n:], *p)
        leaves, shapes = pytree.tree_leaves(du), self.inputs.u_layout.shapes
        if any(not isinstance(y, torch.Tensor) for y in leaves) or tuple(tuple(y.shape) for y in leaves) != shapes:
            raise InvalidInputError("f must return du/dt in the structure and shapes of u.",
                                    got=", ".join(str(list(getattr(y, "shape", [type(y).__name__]))) for y in leaves),
                                    expected=", ".join(str(list(s)) for s in shapes),
                                    fix="return torch.zeros_like(u)")  # fmt: skip
        return torch.cat([y.reshape(-1) for y in leaves])

    def remake(self, **changes: Any) -> RODEProblem:
        """The same problem with some fields changed: `prob.remake(u0=...)`."""
        unknown = changes.keys() - self.__dataclass_fields__.keys()
        if unknown:
            raise InvalidInputError(f"a RODEProblem has no field {sorted(unknown)[0]!r}.",
                                    got=", ".join(sorted(unknown)),
                                    expected=", ".join(self.__dataclass_fields__))  # fmt: skip
        return replace(self, **changes)

    def __repr__(self) -> str:
        name = getattr(self.f, "__name__", type(self.f).__name__)
        shapes = ", ".join(str(list(x.shape)) for x in self.inputs.u)
        return (f"RODEProblem({name}, u0: {shapes} {self.inputs.u[0].dtype}, tspan=({self.span[0]:g}, {self.span[1]:g}"
                f"), {self.motions} motions)")  # fmt: skip
