"""Right-hand sides in two parts, which some solvers take apart: positions from velocities, stiff from not stiff.

As in SciML, each comes in an ordinary `ODEProblem`, whose f is the whole, so that any other solver solves it too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.algorithms import Algorithm
from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.problems.ode import ODEProblem, Time
from pysciml.problems.plain import plain
from pysciml.rhs import functorch
from pysciml.rhs.julia_source import JuliaFunction


class System:
    """A right-hand side made of two.

    Attributes:
        kind: what it is, a key of `pysciml.algorithms.PROBLEMS`. f1, f2: its parts. inner_functions: both.
    """

    kind = "ode"

    def __init__(self, f1: Callable, f2: Callable):
        for f in (f1, f2):
            if isinstance(f, JuliaFunction) or not callable(f):
                raise InvalidInputError("the parts of a right-hand side must be torch functions or modules.",
                                        got=type(f).__name__, expected="def f1(t, v, u): ...",
                                        fix="write the whole in Julia, as the f of an ODEProblem")  # fmt: skip
        self.f1, self.f2 = f1, f2
        self.inner_functions: tuple[Callable, ...] = (f1, f2)

    @property
    def __name__(self) -> str:
        names = (getattr(f, "__name__", type(f).__name__) for f in (self.f1, self.f2))
        return f"{type(self).__name__}({', '.join(names)})"


class Dynamical(System):
    """d(v, u)/dt = (f1(t, v, u), f2(t, v, u)), for the state (v, u)."""

    kind = "dynamical"

    def __call__(self, t: torch.Tensor, state: tuple, *p: Any) -> tuple:
        return self.f1(t, *state, *p), self.f2(t, *state, *p)


class SecondOrder(System):
    """d(du, u)/dt = (f(t, u, du), du), for the state (du, u)."""

    kind = "second_order"

    def __init__(self, f: Callable):
        super().__init__(f, _velocity)

    def __call__(self, t: torch.Tensor, state: tuple, *p: Any) -> tuple:
        du, u = state
        return self.f1(t, u, du, *p), du


class Split(System):
    """du/dt = f1(t, u) + f2(t, u)."""

    kind = "split"

    def __call__(self, t: torch.Tensor, u: Any, *p: Any) -> Any:
        return pytree.tree_map(torch.add, self.f1(t, u, *p), self.f2(t, u, *p))


def _velocity(t: torch.Tensor, v: Any, u: Any, *p: Any) -> Any:
    return v


def kind(f: Any) -> str:
    """What a right-hand side is: "ode", or the kind of a `System`."""
    return f.kind if isinstance(f, System) else "ode"


def DynamicalODEProblem(  # noqa: N802 - SciML's name for a way to make an ODEProblem
    f1: Callable, f2: Callable, v0: Any, u0: Any, tspan: tuple[Time, Time], p: Any = None
) -> ODEProblem:
    """A problem in two halves, dv/dt = f1(t, v, u) and du/dt = f2(t, v, u), as symplectic solvers take it.

    In a Hamiltonian system u are the positions, v the momenta, f1 the force and f2 the velocity. Symplectic solvers are
    so where f1 depends on u and f2 on v alone, and refuse others. Any solver of an `ODEProblem` solves it too.

    Args:
        f1, f2: torch functions or modules `f(t, v, u)`, or `f(t, v, u, p)` when `p` is given.
        v0, u0: the halves of the state, of one structure, shape and dtype. tspan, p: as of `ODEProblem`.

    Returns:
        An `ODEProblem` with the state `(v, u)`, so `sol.u` is the pair of both.

    Raises:
        InvalidInputError: halves of different shapes; a part that is not a torch function; what `ODEProblem` refuses.

    Reference: Hairer, Lubich and Wanner, "Geometric Numerical Integration", Springer (2006).

    Example:
        >>> import torch, pysciml as ps
        >>> k = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> prob = ps.DynamicalODEProblem(lambda t, v, u: -k * u, lambda t, v, u: v, 0 * one, one, (0.0, 1.0))
        >>> v, u = ps.solve(prob, ps.CVODE_Adams(), saveat=[1.0], engine="embedded").u
        >>> abs(u.item() - torch.cos(k.sqrt()).item()) < 1e-5
        True

    With Julia there, `ps.solve(prob, ps.KahanLi8(), dt=0.05)`.
    """
    check_same_shapes(v0, u0, "v0")
    return ODEProblem(Dynamical(f1, f2), (v0, u0), tspan, p)


def SecondOrderODEProblem(  # noqa: N802 - SciML's name for a way to make an ODEProblem
    f: Callable, du0: Any, u0: Any, tspan: tuple[Time, Time], p: Any = None
) -> ODEProblem:
    """A problem of second order, d2u/dt2 = f(t, u, du/dt), as Nyström's and symplectic solvers take it.

    Most of those are right only where f does not depend on du/dt, and refuse others. Any solver of an `ODEProblem`
    solves it too, as a system of first order.

    Args:
        f: a torch function or module `f(t, u, du)`, or `f(t, u, du, p)` when `p` is given; returns d2u/dt2.
        du0, u0: velocity and position at the start, of one structure, shape and dtype. tspan, p: as of `ODEProblem`.

    Returns:
        An `ODEProblem` with the state `(du, u)`, so `sol.u` is the pair of both, in this order.

    Raises:
        InvalidInputError: du0 and u0 of different shapes; what `ODEProblem` refuses.

    Reference: Hairer, Norsett and Wanner, "Solving Ordinary Differential Equations I", Springer (1993), II.14.

    Example:
        >>> import torch, pysciml as ps
        >>> u0 = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
        >>> prob = ps.SecondOrderODEProblem(lambda t, u, du: -u, torch.zeros_like(u0), u0, (0.0, 3.0))
        >>> du, u = ps.solve(prob, ps.CVODE_Adams(), saveat=[3.0], reltol=1e-8, abstol=1e-8, engine="embedded").u
        >>> u.sum().backward()
        >>> abs(u0.grad.item() - torch.cos(torch.tensor(3.0)).item()) < 1e-5
        True

    With Julia there, `ps.solve(prob, ps.DPRKN6())` or `ps.solve(prob, ps.VelocityVerlet(), dt=0.01)`.
    """
    check_same_shapes(du0, u0, "du0")
    return ODEProblem(SecondOrder(f), (du0, u0), tspan, p)


def SplitODEProblem(  # noqa: N802 - SciML's name for a way to make an ODEProblem
    f1: Callable, f2: Callable, u0: Any, tspan: tuple[Time, Time], p: Any = None
) -> ODEProblem:
    """A problem du/dt = f1(t, u) + f2(t, u) of which f1 is stiff, or linear, and f2 is not.

    `KenCarp3` to `KenCarp58`, `ARKODE` and the implicit-explicit solvers (`SBDF2`, `ARS343`, ...) are implicit in f1
    alone, exponential ones (`ETDRK4`, ...) take an f1 that is linear in u by the exponential of its matrix. Any other
    solver solves the sum. Gradients are adjoints of the sum along the solution.

    Args:
        f1, f2: torch functions or modules, `f(t, u)`, or `f(t, u, p)` when `p` is given.
        u0, tspan, p: as of `ODEProblem`.

    Raises:
        InvalidInputError: a part that is not a torch function; what `ODEProblem` refuses.

    Reference: Kennedy and Carpenter, "Additive Runge-Kutta schemes for convection-diffusion-reaction equations", Appl.
    Numer. Math. 44 (2003); Cox and Matthews, "Exponential time differencing for stiff systems", JCP 176 (2002).

    Example:
        >>> import torch, pysciml as ps
        >>> k = torch.tensor(100.0, dtype=torch.float64, requires_grad=True)
        >>> u0 = torch.zeros(1, dtype=torch.float64)
        >>> prob = ps.SplitODEProblem(lambda t, u: -k * u, lambda t, u: torch.cos(t) + 0 * u, u0, (0.0, 1.0))
        >>> ps.solve(prob, ps.CVODE_BDF(), saveat=[1.0], engine="embedded").u.sum().backward()
        >>> k.grad.item() < 0
        True

    With Julia there, `ps.solve(prob, ps.KenCarp4())` or `ps.solve(prob, ps.ETDRK4(), dt=0.01)`.
    """
    return ODEProblem(Split(f1, f2), u0, tspan, p)


def beside(state: Any, random: torch.Generator) -> Any:
    """A random point near a state, where what depends on it is not zero by chance."""

    def moved(x: torch.Tensor) -> torch.Tensor:
        return x.detach() + 0.1 * (1 + x.detach().abs()) * torch.rand(x.shape, generator=random).to(x)

    return pytree.tree_map(moved, state)


def check_same_shapes(v0: Any, u0: Any, name: str) -> None:
    """Raises `InvalidInputError` unless both have one structure and the same shapes."""
    (v, v_spec), (u, u_spec) = pytree.tree_flatten(v0), pytree.tree_flatten(u0)
    shapes = [[list(torch.as_tensor(x).shape) for x in xs] for xs in (v, u)]
    if v_spec != u_spec or shapes[0] != shapes[1]:
        raise InvalidInputError(
            f"{name} and u0 must have one structure and the same shapes.", got=f"{name}: {shapes[0]}, u0: {shapes[1]}",
            fix=f"{name} = torch.zeros_like(u0)",
        )  # fmt: skip


def check_halves(alg: Algorithm, prob: ODEProblem) -> None:
    """Raises `UnsupportedError` where a solver for problems in halves would be wrong without a word."""
    if alg.problem not in ("dynamical", "second_order") or alg.velocity:
        return
    given, prob = prob, plain(prob) if functorch.transforming() else prob
    with functorch.outside():
        of_v, of_u = depends_on_itself(prob)
    if of_v or of_u:
        raise UnsupportedError(
            f"`{alg.name}` is right only where the {'acceleration' if of_v else 'velocity'} does not depend on the "
            f"{'velocity' if of_v else 'position'}.", got=f"an {'f1 that uses v' if of_v else 'f2 that uses u'}",
            expected="FineRKN5 or Nystrom4 for d2u/dt2 = f(t, u, du), or a solver of first-order systems: Vern7, Tsit5",
            fix=f"pysciml.solve(prob, pysciml.{'FineRKN5' if kind(given.f) == 'second_order' else 'Vern7'}())",
        )  # fmt: skip


def depends_on_itself(prob: ODEProblem) -> tuple[bool, bool]:
    """Whether f1 depends on v, and f2 on u, as a product with a random vector at a point beside the start tells."""
    random = torch.Generator().manual_seed(0)
    v, u = beside(prob.u0, random)
    t = torch.as_tensor(prob.tspan[0], dtype=prob.inputs.u[0].dtype).detach()
    p = () if prob.p is None else (pytree.tree_map(torch.Tensor.detach, prob.p),)
    found = []
    for i, half in enumerate((v, u)):
        leaves = [x.requires_grad_() for x in pytree.tree_leaves(half)]
        with torch.enable_grad():
            slopes = pytree.tree_leaves(prob.f(t, (v, u), *p)[i])
            total = sum((torch.rand(x.shape, generator=random).to(x) * x).sum() for x in slopes)
        grads = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else []
        found.append(any(g is not None and bool((g != 0).any()) for g in grads))
        for x in leaves:
            x.requires_grad_(False)
    return found[0], found[1]
