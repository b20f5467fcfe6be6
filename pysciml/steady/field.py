"""What of f a steady state asks for, on every route: f and its Jacobian in numbers, and f as a torch function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.rhs import functorch
from pysciml.rhs.base import CompiledRHS
from pysciml.rhs.callback import CallbackRHS
from pysciml.rhs.graph import evaluate
from pysciml.rhs.parameters import to_numpy
from pysciml.rhs.tangent import field
from pysciml.transforms import InTorch, Operation, Pullback, Tensors, apply

_DENSE = 500  # states whose Jacobian is made whole
_ENTRIES = 5_000_000  # of a sparse one
_NOW = torch.zeros((), dtype=torch.float64)


@dataclass(eq=False)
class Field:
    """f of (u, p), flat float64 vectors, at time zero.

    Attributes:
        torch: differentiable. value: in numbers (n,). jacobian: in u, in numbers, dense or sparse; None where it is
            too large to be made.
    """

    torch: Callable[..., torch.Tensor]
    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    jacobian: Callable[[np.ndarray, np.ndarray], Any]


def field_of(program: Any, rhs: Any, in_engine: Callable[..., np.ndarray], u0: np.ndarray, p: np.ndarray) -> Field:
    """The field of a right-hand side of any route.

    Args:
        in_engine: evaluates a Julia source: a kind, t, u and p to numbers. u0, p: where f is looked at.

    Raises:
        InvalidInputError: f depends on t.
    """
    if isinstance(rhs, CompiledRHS):
        if rhs.graph("f", program).depends_on("t"):
            raise _depends_on_time()
        with functorch.outside():
            return _compiled(program, rhs)
    made = _called_back(program, rhs) if isinstance(rhs, CallbackRHS) else _in_julia(in_engine)
    at = rhs.f if isinstance(rhs, CallbackRHS) else lambda t, u, p: in_engine("f", t, u, p)
    with functorch.outside():
        if not np.array_equal(at(0.0, u0, p), at(1.0, u0, p), equal_nan=True):
            raise _depends_on_time()
    return made


def _compiled(program: Any, rhs: CompiledRHS) -> Field:
    f = rhs.graph("f", program)

    def numbers(kind: str, u: np.ndarray, p: np.ndarray) -> np.ndarray:
        with functorch.outside(), torch.no_grad():
            graph = rhs.graph(kind, program)
            return to_numpy(evaluate(graph, t=_NOW, u=torch.from_numpy(u), p=torch.from_numpy(p)))

    def jacobian(u: np.ndarray, p: np.ndarray) -> Any:
        if rhs.n <= _DENSE:
            return numbers("jac", u, p).reshape(rhs.n, rhs.n)
        if rhs.sparsity.size > min(_ENTRIES, rhs.n**2 // 5):
            return None
        from scipy import sparse

        places = rhs.sparsity
        return sparse.csc_array((numbers("nonzeros", u, p), places.rows, places.pointers), shape=(rhs.n, rhs.n))

    return Field(lambda u, p: evaluate(f, t=_NOW, u=u, p=p), lambda u, p: numbers("f", u, p), jacobian)


def _called_back(program: Any, rhs: CallbackRHS) -> Field:
    in_torch = field(program, rhs)

    def whole(u: torch.Tensor, p: torch.Tensor) -> Tensors:
        return (in_torch(_NOW, u, p),)  # type: ignore[misc] # there is one

    def numbers(kind: str, *args: np.ndarray) -> np.ndarray:
        with functorch.outside():
            return getattr(rhs, kind)(0.0, *args)

    return Field(
        lambda u, p: apply(_CalledBack(whole, numbers), u, p)[0], lambda u, p: numbers("f", u, p),
        lambda u, p: numbers("jac", u, p) if rhs.n <= _DENSE else None,
    )  # fmt: skip


class _CalledBack(InTorch):
    """f called back: its first derivatives are the route's own, which sees more than torch functions."""

    def __init__(self, function: Callable[..., Tensors], numbers: Callable[..., np.ndarray]):
        super().__init__(function)
        self.numbers = numbers

    def pull(self, xs: Tensors, cotangents: Tensors, needs: Any) -> Tensors:
        return apply(_PulledBack(self.function, self.numbers), *xs, *cotangents)


class _PulledBack(InTorch):
    """Its products with a vector from the left, in u and in p."""

    def __init__(self, function: Callable[..., Tensors], numbers: Callable[..., np.ndarray]):
        super().__init__(Pullback(function, 2))
        self.numbers = numbers

    def run(self, *xs: torch.Tensor) -> Tensors:
        at = [to_numpy(x).copy() for x in xs]
        return tuple(torch.from_numpy(self.numbers(kind, *at)) for kind in ("vjp", "vjp_p"))


def _in_julia(evaluate: Callable[..., np.ndarray]) -> Field:
    def f(u: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
        return apply(_Source(evaluate), u, p)[0]

    return Field(f, lambda u, p: evaluate("f", 0.0, u, p), lambda u, p: evaluate("jac", 0.0, u, p))


class _Source(Operation):
    """f in Julia's own text."""

    def __init__(self, evaluate: Callable[..., np.ndarray]):
        self.evaluate = evaluate

    def run(self, *xs: torch.Tensor) -> Tensors:
        return (torch.from_numpy(self.evaluate("f", 0.0, *(to_numpy(x).copy() for x in xs))),)

    def pull(self, xs: Tensors, cotangents: Tensors, needs: Any) -> Tensors:
        return apply(_Pulled(self.evaluate), *xs, *cotangents)

    def push(self, xs: Tensors, tangents: Any) -> Tensors:
        raise _first_order_only()


class _Pulled(Operation):
    """Its products with a vector from the left, in u and in p."""

    def __init__(self, evaluate: Callable[..., np.ndarray]):
        self.evaluate = evaluate

    def run(self, *xs: torch.Tensor) -> Tensors:
        u, p, v = (to_numpy(x).copy() for x in xs)
        return tuple(torch.from_numpy(v @ self.evaluate(kind, 0.0, u, p)) for kind in ("jac", "jac_p"))

    def pull(self, xs: Tensors, cotangents: Tensors, needs: Any) -> Tensors:
        raise _first_order_only()

    def push(self, xs: Tensors, tangents: Any) -> Tensors:
        raise _first_order_only()


def _depends_on_time() -> InvalidInputError:
    return InvalidInputError(
        "f must not depend on t: what moves by itself has no steady state.", got="an f(t, u) that uses t",
        expected="an f of u and p alone", fix="lambda t, u: f(t_end, u), for the forces at one time",
    )  # fmt: skip


def _first_order_only() -> UnsupportedError:
    return UnsupportedError(
        "second derivatives and forward mode through a JuliaFunction are not available.",
        got="create_graph=True and a second backward(), or torch.func.jvp, jacfwd or hessian",
        expected="f in torch, on any route; or backward(), torch.func.grad, vjp, jacrev and vmap",
        fix="def f(t, u, p): ...  in torch operations, and pysciml.SteadyStateProblem(f, u0, p)",
    )  # fmt: skip
