"""Stochastic delay differential equations, whose drift and diffusion ask for states of the past."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.problems.delay import _check_constants
from pysciml.problems.ode import Time, _check_tspan
from pysciml.problems.stochastic import INTERPRETATIONS, _check_function
from pysciml.rhs.functorch import number
from pysciml.rhs.parameters import Inputs, as_floating
from pysciml.under_compile import made_outside


@made_outside
@dataclass(frozen=True, eq=False)
class SDDEProblem:
    """du = f(t, u, h) dt + g(t, u, h) dW, where h(t - lag) is the state at an earlier time; u(t0) = u0.

    Args:
        f, g: drift and diffusion, torch functions or modules `f(t, u, h)`, or `f(t, u, h, p)` when `p` is given, as f
            of `DDEProblem`. Each state has a Brownian motion of its own: g returns the structure and shapes of u. One
            of them asks for the past.
        u0: the state at `tspan[0]`, a real tensor or a pytree of them. h: the state before, as of `DDEProblem`: a
            function `h(s)`, or `h(s, p)` when `p` is given, or constants like u0.
        tspan: `(t0, t1)` with t0 < t1. p: parameters, a pytree of tensors; those of modules, and tensors that f, g and
            h capture, are found by themselves. interpretation: "ito" or "stratonovich".

    `solve` of it takes explicit solvers of an `SDEProblem` (`EM`, `LambaEM`, `EulerHeun`, `RKMil`, `SOSRI`, ...; None
    takes `EM` or `EulerHeun`) with steps of `dt`, and `saveat`, `maxiters`, `seed`, `noise`, `engine` and `route`, in
    Julia. The solution is one path, an `SDESolution`; between steps the past is linear. There
    are no gradients: backward raises.

    Raises:
        InvalidInputError: what `DDEProblem` and `SDEProblem` refuse. From `solve`: neither f nor g asks for the past.
        UnsupportedError: the embedded engine; implicit solvers. In backward: anything that requires grad.

    Reference: Buckwar, "Introduction to the numerical analysis of stochastic delay differential equations", J. Comput.
    Appl. Math. 125 (2000).

    Example:
        >>> import torch, pysciml as ps
        >>> f = lambda t, u, h: -h(t - 1.0)
        >>> g = lambda t, u, h: 0.1 * torch.ones_like(u)
        >>> prob = ps.SDDEProblem(f, g, torch.ones(1, dtype=torch.float64), 1.0, (0.0, 5.0))
        >>> prob
        SDDEProblem(<lambda>, <lambda>, u0: [1] torch.float64, tspan=(0, 5), ito)

    With Julia there, `ps.solve(prob, ps.EM(), dt=0.01, seed=1)` solves it.
    """

    f: Callable
    g: Callable
    u0: Any
    h: Any
    tspan: tuple[Time, Time]
    p: Any = None
    interpretation: str = "ito"

    def __post_init__(self):
        for name in ("f", "g"):
            _check_function(getattr(self, name), name)
        if self.interpretation not in INTERPRETATIONS:
            raise InvalidInputError("there is no such interpretation.", got=f"interpretation={self.interpretation!r}",
                                    expected=", ".join(INTERPRETATIONS), fix='interpretation="ito"')  # fmt: skip
        object.__setattr__(self, "u0", as_floating(self.u0, "u0"))
        object.__setattr__(self, "tspan", _check_tspan(self.tspan))
        if self.p is not None:
            object.__setattr__(self, "p", as_floating(self.p, "p"))
        if self.span[1] < self.span[0]:
            raise InvalidInputError("a stochastic equation is solved forwards in time.", got=f"tspan={self.span}",
                                    fix="tspan=(0.0, 1.0)")  # fmt: skip
        if not callable(self.h):
            object.__setattr__(self, "h", _check_constants(self.h, self.u0))
        if any(x.is_complex() for x in (*self.inputs.u, *self.inputs.p)):
            raise UnsupportedError("a stochastic equation has real states and parameters.", got="a complex u0 or p",
                                   expected="pairs of real numbers", fix="torch.view_as_real(u0)")  # fmt: skip

    noise_type = "diagonal"

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
        return self.inputs.u_layout.size

    def remake(self, **changes: Any) -> SDDEProblem:
        """The same problem with some fields changed: `prob.remake(u0=...)`."""
        unknown = changes.keys() - self.__dataclass_fields__.keys()
        if unknown:
            raise InvalidInputError(f"an SDDEProblem has no field {sorted(unknown)[0]!r}.",
                                    got=", ".join(sorted(unknown)),
                                    expected=", ".join(self.__dataclass_fields__))  # fmt: skip
        return replace(self, **changes)

    def __repr__(self) -> str:
        names = ", ".join(getattr(x, "__name__", type(x).__name__) for x in (self.f, self.g))
        shapes = ", ".join(str(list(x.shape)) for x in pytree.tree_leaves(self.u0))
        return (f"SDDEProblem({names}, u0: {shapes} {self.inputs.u[0].dtype}, tspan=({self.span[0]:g}, "
                f"{self.span[1]:g}), {self.interpretation})")  # fmt: skip
