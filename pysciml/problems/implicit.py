"""Fully implicit equations, 0 = f(t, u, du/dt)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError
from pysciml.problems.ode import ODEProblem, Time
from pysciml.problems.plain import plain
from pysciml.problems.systems import System, beside, check_same_shapes
from pysciml.rhs import functorch


class Implicit(System):
    """M d(du, u)/dt = (f(t, u, du), du), for the state (du, u), with M = (0, 1 where u is differential, else 0).

    The rows of f say what du is; where u is algebraic, du is zero by its own row.
    """

    kind = "dae"

    def __init__(self, f: Callable):
        super().__init__(f, f)
        self.inner_functions = (f,)

    def __call__(self, t: torch.Tensor, state: tuple, *p: Any) -> tuple:
        du, u = state
        return self.f1(t, u, du, *p), du

    @property
    def __name__(self) -> str:
        return f"Implicit({getattr(self.f1, '__name__', type(self.f1).__name__)})"


def DAEProblem(  # noqa: N802 - SciML's name for a way to make an ODEProblem
    f: Callable, du0: Any, u0: Any, tspan: tuple[Time, Time], p: Any = None, differential_vars: Any = None
) -> ODEProblem:
    """A fully implicit problem, 0 = f(t, u, du/dt), of index 1: differential equations that are not solved for du/dt,
    algebraic ones, or both.

    Taken as the system M d(du, u)/dt = (f, du), of twice the size, in which du is what makes f zero. So every solver
    of a mass matrix takes it (`Rodas5P`, `FBDF`), `IDA` and `DFBDF` among them, which solve it by its
    residual, and gradients are those of that system. At the start du, and of u what is algebraic, are found such that
    f is zero; du0 and these entries of u0 are guesses, with a gradient of zero.

    Args:
        f: a torch function or module `f(t, u, du)`, or `f(t, u, du, p)` when `p` is given; returns the residual, in
            the structure, shapes and dtype of u.
        du0, u0: du/dt and u at the start, of one structure, shape and dtype. tspan, p: as of `ODEProblem`.
        differential_vars: a boolean tensor (or a pytree of them) like u0: True where du/dt occurs in f, False where u
            is algebraic. None finds out, by the derivative of f in du at a point beside the start.

    Returns:
        An `ODEProblem` with the state `(du, u)`, so `sol.u` is the pair of both; du of an algebraic variable is zero.

    Raises:
        InvalidInputError: du0 and u0, or differential_vars, of different shapes; what `ODEProblem` refuses.
        SolveError: from `solve`: no consistent start was found, as where the index is above 1.

    Reference: Brenan, Campbell and Petzold, "Numerical Solution of Initial-Value Problems in Differential-Algebraic
    Equations", SIAM (1996); for the start: Brown, Hindmarsh and Petzold, "Consistent initial condition calculation for
    differential-algebraic systems", SIAM J. Sci. Comput. 19 (1998).

    Example:
        >>> import torch, pysciml as ps
        >>> k = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        >>> def f(t, u, du):  # u[0] decays at the rate u[1], which is k u[0]
        ...     return torch.stack([du[0] + u[1], u[1] - k * u[0]])
        >>> u0 = torch.tensor([1.0, 0.0], dtype=torch.float64)
        >>> prob = ps.DAEProblem(f, torch.zeros_like(u0), u0, (0.0, 1.0))
        >>> du, u = ps.solve(prob, ps.IDA(), saveat=[1.0], reltol=1e-8, abstol=1e-8, engine="embedded").u
        >>> u[0, 0].backward()
        >>> abs(k.grad.item() + torch.exp(-k).item()) < 1e-5
        True
    """
    check_same_shapes(du0, u0, "du0")
    prob = ODEProblem(Implicit(f), (du0, u0), tspan, p)
    if differential_vars is None:
        differential_vars = _found(plain(prob) if functorch.transforming() else prob)
    mass = _mass(differential_vars, prob.u0[1])
    return prob.remake(mass_matrix=(pytree.tree_map(torch.zeros_like, mass), mass))


def _mass(differential: Any, u0: Any) -> Any:
    (flags, spec), (u, u_spec) = pytree.tree_flatten(differential), pytree.tree_flatten(u0)
    flags = [torch.as_tensor(x) for x in flags]
    if spec != u_spec or any(x.dtype != torch.bool or x.shape != y.shape for x, y in zip(flags, u, strict=True)):
        raise InvalidInputError(
            "differential_vars must be true or false for each state, in the structure and shape of u0.",
            got=", ".join(f"{list(x.shape)} {x.dtype}" for x in flags),
            expected=", ".join(f"{list(x.shape)} torch.bool" for x in u), fix="differential_vars=None, which finds out",
        )  # fmt: skip
    with functorch.outside():
        made = [x.to(functorch.example(y).dtype).to(functorch.example(y).device)
                for x, y in zip(flags, u, strict=True)]  # fmt: skip
    return pytree.tree_unflatten(made, spec)


def _found(prob: ODEProblem) -> Any:
    """Which entries of du f depends on, as a product of its Jacobian with a random vector tells, beside the start."""
    random = torch.Generator().manual_seed(0)
    with functorch.outside(), torch.enable_grad():
        du, u = beside(prob.u0, random)
        leaves, spec = pytree.tree_flatten(du)
        leaves = [x.requires_grad_() for x in leaves]
        t = torch.as_tensor(prob.span[0], dtype=leaves[0].dtype, device=leaves[0].device)
        p = () if prob.p is None else (pytree.tree_map(torch.Tensor.detach, prob.p),)
        residual = pytree.tree_leaves(prob.f(t, (pytree.tree_unflatten(leaves, spec), u), *p)[0])
        total = sum((torch.rand(x.shape, generator=random).to(x) * x).sum() for x in residual)
        grads = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else [None] * len(leaves)
    flags = [torch.zeros_like(x, dtype=torch.bool) if g is None else g != 0 for x, g in zip(leaves, grads, strict=True)]
    return pytree.tree_unflatten(flags, spec)
