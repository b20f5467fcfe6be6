"""Delay differential equations, whose right-hand side asks for states of the past."""

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
from pysciml.rhs.parameters import Inputs, as_floating, leaf_names
from pysciml.under_compile import made_outside


@made_outside
@dataclass(frozen=True, eq=False)
class DDEProblem:
    """du/dt = f(t, u, h) or f(t, u, h, p), where h(t - lag) is the state at an earlier time; u(t0) = u0.

    Args:
        f: a torch function or module, `f(t, u, h)`, or `f(t, u, h, p)` when `p` is given. `t` is a scalar tensor, `u`
            the state; `h(s)` gives the state at the time `s`, a number or a tensor of one number, in the structure of
            `u`. f returns du/dt in the structure, shapes and dtype of `u`.

            Lags need not be declared: f is run once to see which times it asks for. So a lag may be a number, a
            tensor that is learned, in `p` or captured, or computed from `t` and `u`; not from another `h(s)`.
        u0: the state at `tspan[0]`: a float32 or float64 tensor of any shape, or a pytree of them.
        h: the state before t0: a torch function or module `h(s)`, or `h(s, p)` when `p` is given, which returns the
            structure of u0; or constants like u0. Parameters in it are learned as those of f are. The state at t0 is
            u0, be it what h says there or not. Where h jumps before t0 is found for gradients, for a pulse of h if it
            is longer than 1/256 of the past that f asks for; a time of a jump is taken as fixed.
        tspan: `(t0, t1)`, floats or scalar tensors; `t1 < t0` solves backwards in time, with `h` of later times.
        p: parameters, a pytree of floating tensors, given to f and to h. Parameters of modules and tensors that f and
            h capture need not be here: they are found, and get their gradients, by themselves.

    Solved by `MethodOfSteps` of an ODE solver, in Julia: an ODE solver given to `solve` alone is taken so. `solve`
    takes `saveat`, `reltol`, `abstol`, `sensealg` (`CollocationAdjoint`), `engine`, `route`, `dt`, `dtmax` and
    `maxiters`.

    Raises:
        InvalidInputError: an integer, NaN or infinite u0 or p; t0 == t1; f or h that cannot be called; constants for h
            in another structure or shape than u0. UnsupportedError: complex numbers.

    From `solve`:
        InvalidInputError: f never asks for the past, or asks for the future; h returns another structure than u0.
        UnsupportedError: a time asked for depends on another delayed state; the embedded engine, which has no library
        for delays; second derivatives and torch.func transforms. TraceError, SolveError: as of `solve`.

    Reference: Bellen and Zennaro, "Numerical Methods for Delay Differential Equations", Oxford (2003); for the example
    Mackey and Glass, "Oscillation and chaos in physiological control systems", Science 197 (1977).

    Example:
        >>> import torch, pysciml as ps
        >>> lag = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        >>> def f(t, u, h):
        ...     past = h(t - lag)
        ...     return 2 * past / (1 + past**9.65) - u
        >>> prob = ps.DDEProblem(f, torch.tensor([0.5], dtype=torch.float64), 0.5, (0.0, 20.0))
        >>> prob
        DDEProblem(f, u0: [1] torch.float64, tspan=(0, 20))

    With Julia there, `ps.solve(prob, saveat=1.0).u.sum().backward()` gives `lag.grad`, and
    `ps.solve(prob, ps.MethodOfSteps(ps.Rodas5P()))` solves it where it is stiff.
    """

    f: Callable
    u0: Any
    h: Any
    tspan: tuple[Time, Time]
    p: Any = None

    def __post_init__(self):
        if not callable(self.f):
            raise InvalidInputError("f must be callable.", got=type(self.f).__name__, fix="def f(t, u, h): ...")
        object.__setattr__(self, "u0", as_floating(self.u0, "u0"))
        object.__setattr__(self, "tspan", _check_tspan(self.tspan))
        if self.p is not None:
            object.__setattr__(self, "p", as_floating(self.p, "p"))
        if not callable(self.h):
            object.__setattr__(self, "h", _check_constants(self.h, self.u0))
        if any(x.is_complex() for x in pytree.tree_leaves((self.u0, self.p)) if isinstance(x, torch.Tensor)):
            raise UnsupportedError("a DDEProblem takes no complex numbers.", got="a complex u0 or p",
                                   expected="pairs of real numbers", fix="u0=torch.view_as_real(u0)")  # fmt: skip

    @cached_property
    def inputs(self) -> Inputs:
        """The tensors of the state and of p, and their structures."""
        return Inputs.of(self.u0, self.p)

    def remake(self, **changes: Any) -> DDEProblem:
        """The same problem with some fields changed: `prob.remake(u0=..., tspan=...)`."""
        unknown = changes.keys() - self.__dataclass_fields__.keys()
        if unknown:
            raise InvalidInputError(
                f"a DDEProblem has no field {sorted(unknown)[0]!r}.", got=", ".join(sorted(unknown)),
                expected=", ".join(self.__dataclass_fields__),
            )  # fmt: skip
        return replace(self, **changes)

    @property
    def span(self) -> tuple[float, float]:
        """`tspan` as plain numbers."""
        return number(self.tspan[0]), number(self.tspan[1])

    def __repr__(self) -> str:
        leaves = pytree.tree_leaves(self.u0)
        state = ", ".join(f"{n}: {list(x.shape)}" for n, x in zip(leaf_names(self.u0, "u0"), leaves, strict=True))
        f = getattr(self.f, "__name__", type(self.f).__name__)
        return f"DDEProblem({f}, {state} {leaves[0].dtype}, tspan=({self.span[0]:g}, {self.span[1]:g}))"


def _check_constants(h: Any, u0: Any) -> Any:
    """Constants for the past as tensors like u0; one number stands for all of one tensor."""
    if isinstance(h, (int, float)) and isinstance(u0, torch.Tensor):
        h = torch.full_like(u0.detach(), h)
    h = as_floating(h, "h")
    (leaves, spec), (u, u_spec) = pytree.tree_flatten(h), pytree.tree_flatten(u0)
    if spec != u_spec or any(x.shape != y.shape or x.dtype != y.dtype for x, y in zip(leaves, u, strict=True)):
        raise InvalidInputError(
            "h must be a function of time, or constants in the structure, shape and dtype of u0.",
            got=", ".join(f"{list(x.shape)} {x.dtype}" for x in leaves),
            expected=", ".join(f"{list(x.shape)} {x.dtype}" for x in u), fix="h=lambda s: u0",
        )  # fmt: skip
    return h
