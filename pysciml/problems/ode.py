"""The ordinary differential equation, with an optional diagonal mass matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError
from pysciml.rhs.functorch import active, depends, example, number
from pysciml.rhs.parameters import Inputs, as_floating, leaf_names
from pysciml.under_compile import made_outside

Time = float | torch.Tensor


@made_outside
@dataclass(frozen=True, eq=False)
class ODEProblem:
    """M du/dt = f(t, u) or f(t, u, p), with u(t0) = u0.

    A training loop makes it once, before it begins: what solving it comes to is kept with the problem, while the values
    of all tensors may change.

    Args:
        f: a torch function or module, `f(t, u)`, or `f(t, u, p)` when `p` is given. `t` is a scalar tensor of the
            state's dtype (real where that is complex); f returns du/dt in the structure, shapes and dtype of `u`.
        u0: the state at `tspan[0]`: a float32 or float64 tensor of any shape, or a pytree (tuple, list, dict) of them;
            or complex, which is called back or solved in eager torch: complex numbers have no compiled form.
        tspan: `(t0, t1)`, floats or scalar tensors; `t1 < t0` solves backwards in time.
        p: parameters, a pytree of floating tensors. Parameters of a module and tensors f captures need not be here:
            they are found, and get their gradients, by themselves.
        mass_matrix: the diagonal of M as a tensor (or a pytree of them) like u0; a 0 makes that row an algebraic
            equation 0 = f. None is the identity.

    Raises:
        InvalidInputError: an integer, NaN or infinite u0 or p; t0 == t1 or a time that is not finite; a mass matrix of
            another size.

    Example:
        >>> import torch, pysciml as ps
        >>> k = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        >>> prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(1, dtype=torch.float64), (0.0, 2.0))
        >>> ps.solve(prob, ps.CVODE_BDF(), saveat=[1.0, 2.0]).u.sum().backward()
        >>> round(k.grad.item(), 4)
        -1.3423
    """

    f: Callable
    u0: Any
    tspan: tuple[Time, Time]
    p: Any = None
    mass_matrix: Any = None

    def __post_init__(self):
        if not callable(self.f):
            raise InvalidInputError("f must be callable.", got=type(self.f).__name__, fix="def f(t, u): ...")
        object.__setattr__(self, "u0", as_floating(self.u0, "u0"))
        object.__setattr__(self, "tspan", _check_tspan(self.tspan))
        if self.p is not None:
            object.__setattr__(self, "p", as_floating(self.p, "p"))
        if self.mass_matrix is not None:
            object.__setattr__(self, "mass_matrix", _check_mass_matrix(self.mass_matrix, self.u0))

    @cached_property
    def inputs(self) -> Inputs:
        """The tensors of the state and of p, and their structures."""
        return Inputs.of(self.u0, self.p)

    def __getstate__(self) -> dict[str, Any]:
        """Its fields alone: what is remembered of solves stays here."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    def remake(self, **changes: Any) -> ODEProblem:
        """The same problem with some fields changed: `prob.remake(u0=..., tspan=...)`."""
        unknown = changes.keys() - self.__dataclass_fields__.keys()
        if unknown:
            raise InvalidInputError(
                f"an ODEProblem has no field {sorted(unknown)[0]!r}.",
                got=", ".join(sorted(unknown)),
                expected=", ".join(self.__dataclass_fields__),
            )
        return replace(self, **changes)

    @property
    def span(self) -> tuple[float, float]:
        """`tspan` as plain numbers."""
        return number(self.tspan[0]), number(self.tspan[1])

    def __repr__(self) -> str:
        leaves = pytree.tree_leaves(self.u0)
        names = leaf_names(self.u0, "u0")
        state = ", ".join(f"{n}: {list(x.shape)}" for n, x in zip(names, leaves, strict=True))
        kind = "" if self.mass_matrix is None else ", mass_matrix=diagonal"
        f = getattr(self.f, "__name__", type(self.f).__name__)
        return f"ODEProblem({f}, {state} {leaves[0].dtype}, tspan=({self.span[0]:g}, {self.span[1]:g}){kind})"


def _check_tspan(tspan: Any) -> tuple[Time, Time]:
    try:
        t0, t1 = tspan
        ends = number(t0), number(t1)
    except (TypeError, ValueError):
        raise InvalidInputError("tspan must be two times.", got=repr(tspan), fix="tspan=(0.0, 10.0)") from None
    if not all(map(math.isfinite, ends)):
        raise InvalidInputError("both ends of tspan must be finite.", got=f"tspan={ends}",
                                fix="tspan=(0.0, 10.0); an event can end a solve early")  # fmt: skip
    if ends[0] == ends[1]:
        raise InvalidInputError("tspan must not be empty.", got=f"t0 == t1 == {ends[0]:g}", fix="tspan=(0.0, 10.0)")
    return tuple(t if isinstance(t, torch.Tensor) else float(t) for t in (t0, t1))  # type: ignore[return-value]


def _check_mass_matrix(mass: Any, u0: Any) -> Any:
    mass = as_floating(mass, "mass_matrix")
    if any(m.is_complex() for m in pytree.tree_leaves(mass)):
        raise InvalidInputError("mass_matrix must be real.", got=str(pytree.tree_leaves(mass)[0].dtype),
                                fix="mass_matrix=torch.tensor([1.0, 1.0, 0.0])")  # fmt: skip
    (m_leaves, m_spec), (u_leaves, u_spec) = pytree.tree_flatten(mass), pytree.tree_flatten(u0)
    if m_spec != u_spec or any(m.shape != u.shape for m, u in zip(m_leaves, u_leaves, strict=True)):
        raise InvalidInputError(
            "mass_matrix must be the diagonal of M, in the structure and shape of u0.",
            got=f"shapes {[list(m.shape) for m in m_leaves]} for a state {[list(u.shape) for u in u_leaves]}",
            fix="mass_matrix=torch.tensor([1.0, 1.0, 0.0])",
        )
    if any(map(depends, m_leaves)):
        raise InvalidInputError("mass_matrix cannot be differentiated or mapped.", got="a tensor that requires grad",
                                fix="mass_matrix.detach(), or divide f by it where it is not zero")  # fmt: skip
    return pytree.tree_map(example, mass) if active() else mass
