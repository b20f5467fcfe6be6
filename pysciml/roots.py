"""Solutions of equations as operations, differentiable to any order by the implicit function theorem.

Where 0 = F(u, x) has the solution u(x), and J is the Jacobian of F in u, a cotangent c of u is pulled back to
-(dF/dx)' y with J' y = c, and a tangent w of x is pushed forward to -J^-1 (dF/dx) w. Solves with J and J' are
operations in turn, whose derivatives are solves with J and J' again.

Reference: Krantz and Parks, "The implicit function theorem", Birkhäuser (2002); Bai, Kolter and Koltun, "Deep
equilibrium models", NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pysciml.errors import SolveError
from pysciml.rhs.parameters import to_numpy
from pysciml.solution import ReturnCode
from pysciml.transforms import Operation, Tensors, apply

_SINGULAR = 1e-14  # the inverse of a condition number, after scaling, below which no digit of a gradient is right
_ITERATIONS, _CLOSE = 500, 1e-10  # of GMRES, and how small it makes the residual


@dataclass(eq=False)
class Equations:
    """0 = F(u, *xs), n equations for n unknowns; all vectors are flat and float64.

    Attributes:
        function: F in torch, differentiable: u (n,) and xs to (n,).
        solve: the solution (n,) for a guess (n,) and values xs, in numbers.
        jacobian: the matrix dF/du at u and xs, (n, n) as numpy or a sparse matrix of scipy; None where it is too large
            to be made: then its products with vectors are taken.
        name: of what is solved, for messages.
        singular: the inverse of a condition number, below which a Jacobian is singular, as far as it is known.
    """

    function: Callable[..., torch.Tensor]
    solve: Callable[..., np.ndarray]
    jacobian: Callable[..., Any]
    name: str
    singular: float = _SINGULAR
    solved: dict[tuple, np.ndarray] = field(default_factory=dict)
    factors: dict[tuple, _Factors] = field(default_factory=dict)

    def solution(self, guess: np.ndarray, xs: Sequence[np.ndarray]) -> np.ndarray:
        """Solves once for each set of values."""
        key = _key(guess, *xs)
        if key not in self.solved:
            self.solved[key] = self.solve(guess, *xs)
        return self.solved[key]

    def factored(self, u: torch.Tensor, xs: Tensors) -> _Factors:
        """What solves with the Jacobian at these values, made once for each."""
        key = _key(*(to_numpy(x) for x in (u, *xs)))
        if key not in self.factors:
            matrix = self.jacobian(*(to_numpy(x) for x in (u, *xs)))
            made = _Products(self, u, xs) if matrix is None else _Matrix(self, matrix)
            self.factors[key] = made
        return self.factors[key]


def solution(equations: Equations, guess: torch.Tensor, *xs: torch.Tensor) -> torch.Tensor:
    """The solution (n,) near a guess, differentiable in xs; in the guess its gradient is zero, as it should be."""
    return apply(Root(equations), guess, *xs)[0]


class Root(Operation):
    """A guess and xs to the solution."""

    def __init__(self, equations: Equations):
        self.equations = equations

    def run(self, *xs: torch.Tensor) -> Tensors:
        guess, *values = (to_numpy(x).copy() for x in xs)
        return (torch.from_numpy(self.equations.solution(guess, values).copy()),)

    def pull(self, xs: Tensors, cotangents: Tensors, needs: Sequence[bool]) -> Sequence[torch.Tensor | None]:
        guess, *values = xs
        (u,) = apply(self, *xs)
        (y,) = apply(Solve(self.equations, transposed=True), cotangents[0], u, *values)
        _, pull, *_ = torch.func.vjp(lambda *values: self.equations.function(u, *values), *values)
        return torch.zeros_like(guess), *(-g for g in pull(y))

    def push(self, xs: Tensors, tangents: Sequence[torch.Tensor | None]) -> Tensors:
        _, *values = xs
        (u,) = apply(self, *xs)
        along = [torch.zeros_like(x) if w is None else w for x, w in zip(values, tangents[1:], strict=True)]
        moved = _along(lambda *values: self.equations.function(u, *values), values, along)
        return (-apply(Solve(self.equations, transposed=False), moved, u, *values)[0],)


class Solve(Operation):
    """b, u and xs to J^-1 b, or J'^-1 b, with the Jacobian J of F at (u, xs)."""

    def __init__(self, equations: Equations, transposed: bool):
        self.equations, self.transposed = equations, transposed

    def run(self, *xs: torch.Tensor) -> Tensors:
        b, u, *values = (x.double() for x in xs)
        factors = self.equations.factored(u, values)
        return (torch.from_numpy(factors.solve(to_numpy(b).copy(), self.transposed)),)

    def pull(self, xs: Tensors, cotangents: Tensors, needs: Sequence[bool]) -> Sequence[torch.Tensor | None]:
        _, *at = xs
        (x,), (w,) = apply(self, *xs), apply(Solve(self.equations, not self.transposed), cotangents[0], *at)
        return w, *(-g for g in self._of_matrix(x, w, at))

    def push(self, xs: Tensors, tangents: Sequence[torch.Tensor | None]) -> Tensors:
        at = xs[1:]
        along = [torch.zeros_like(x) if w is None else w for x, w in zip(xs, tangents, strict=True)]
        (x,) = apply(self, *xs)
        moved = _along(self._product(x), at, along[1:])
        return (apply(self, along[0] - moved, *at)[0],)

    def _product(self, x: torch.Tensor) -> Callable[..., torch.Tensor]:
        """u and xs to J x, or J' x."""

        def product(u: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
            def f(u: torch.Tensor) -> torch.Tensor:
                return self.equations.function(u, *values)

            return torch.func.vjp(f, u)[1](x)[0] if self.transposed else _along(f, [u], [x])

        return product

    def _of_matrix(self, x: torch.Tensor, w: torch.Tensor, at: Tensors) -> tuple[torch.Tensor, ...]:
        """The gradients of w (J x), or of w (J' x), in u and xs."""
        left, right = (x, w) if self.transposed else (w, x)

        def form(u: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
            _, pull, *_ = torch.func.vjp(lambda u: self.equations.function(u, *values), u)
            return (pull(left)[0] * right).sum()

        value, pull, *_ = torch.func.vjp(form, *at)
        return pull(torch.ones_like(value))


def _along(function: Callable, xs: Tensors, tangents: Tensors) -> torch.Tensor:
    """The derivative of a function along tangents: a vjp is linear, and its vjp is the jvp, in any nesting."""
    y, pull, *_ = torch.func.vjp(function, *xs)
    return torch.func.vjp(pull, torch.zeros_like(y))[1](tuple(tangents))[0]


class _Factors:
    """What solves J x = b and J' x = b."""

    def solve(self, b: np.ndarray, transposed: bool) -> np.ndarray:
        raise NotImplementedError


class _Matrix(_Factors):
    """LU factors of a dense or a sparse Jacobian, scaled, and known to be regular."""

    def __init__(self, equations: Equations, matrix: Any):
        from scipy import sparse

        rows = _scales(abs(matrix).max(axis=1))
        matrix = sparse.diags_array(rows) @ matrix if sparse.issparse(matrix) else rows[:, None] * matrix
        columns = _scales(abs(matrix).max(axis=0))
        matrix = matrix @ sparse.diags_array(columns) if sparse.issparse(matrix) else matrix * columns
        self._rows, self._columns = rows, columns
        inverse = None
        if np.isfinite(matrix.data if sparse.issparse(matrix) else matrix).all():
            inverse = _sparse_factors(matrix) if sparse.issparse(matrix) else _dense_factors(matrix)
        if inverse is None or _inverse_condition(matrix, inverse) < equations.singular:
            raise _singular(equations.name)
        self._inverse = inverse

    def solve(self, b: np.ndarray, transposed: bool) -> np.ndarray:
        before, after = (self._columns, self._rows) if transposed else (self._rows, self._columns)
        return after * self._inverse(before * b, transposed)


def _scales(largest: Any) -> np.ndarray:
    """Powers of two that bring the largest entries near 1."""
    largest = np.asarray(largest.todense() if hasattr(largest, "todense") else largest).ravel()
    usable = np.isfinite(largest) & (largest > 0)
    return np.exp2(-np.round(np.log2(np.where(usable, largest, 1.0))))


Inverse = Callable[[np.ndarray, bool], np.ndarray]


def _dense_factors(matrix: np.ndarray) -> Inverse | None:
    from scipy.linalg import lapack

    lu, pivots, failed = lapack.dgetrf(matrix)
    return None if failed else lambda b, transposed: lapack.dgetrs(lu, pivots, b, trans=int(transposed))[0]


def _sparse_factors(matrix: Any) -> Inverse | None:
    from scipy.sparse.linalg import splu

    try:
        lu = splu(matrix.tocsc())
    except RuntimeError:  # exactly singular
        return None
    return lambda b, transposed: lu.solve(b, "T" if transposed else "N")


def _inverse_condition(matrix: Any, inverse: Inverse) -> float:
    """1 / (|A| |A^-1|) in the 1-norm, the second estimated by Hager's method (Higham, 1988) from one vector."""
    from scipy.sparse.linalg import LinearOperator, onenormest

    operator = LinearOperator(
        matrix.shape, dtype=np.float64, matvec=lambda b: inverse(np.ravel(b), False),
        rmatvec=lambda b: inverse(np.ravel(b), True),
    )  # fmt: skip
    size = float(abs(matrix).sum(axis=0).max()) * onenormest(operator, t=1)
    return 1.0 / size if np.isfinite(size) and size > 0 else 0.0


class _Products(_Factors):
    """Products with a Jacobian that is never made, for GMRES."""

    def __init__(self, equations: Equations, u: torch.Tensor, xs: Tensors):
        self._name, self._size = equations.name, u.numel()
        y, self._pull, *_ = torch.func.vjp(lambda u: equations.function(u, *xs), u)
        _, self._push, *_ = torch.func.vjp(lambda v: self._pull(v)[0], torch.zeros_like(y))

    def solve(self, b: np.ndarray, transposed: bool) -> np.ndarray:
        from scipy.sparse.linalg import LinearOperator, gmres

        times = self._pull if transposed else self._push

        def product(x: np.ndarray) -> np.ndarray:
            return to_numpy(times(torch.from_numpy(np.ravel(x).copy()))[0])

        operator = LinearOperator((self._size, self._size), matvec=product, dtype=np.float64)
        x, _ = gmres(operator, b, rtol=_CLOSE / 10, atol=0.0, restart=min(self._size, 60), maxiter=_ITERATIONS)
        if not np.linalg.norm(product(x) - b) <= _CLOSE * np.linalg.norm(b):
            raise _singular(self._name, f"GMRES, which did not converge within {_ITERATIONS} restarts")
        return x


def _singular(name: str, got: str = "a Jacobian that is singular, as exactly as it is known") -> SolveError:
    return SolveError(
        f"the {name} has no derivative: the equations do not determine it near the solution.\nLikely cause: a quantity "
        "that f conserves, so that the solution depends on the guess; a solution where two meet; or a state that f "
        "does not depend on.",
        retcode=ReturnCode.ConvergenceFailure, direction="backward", got=got,
        expected="a Jacobian that can be inverted",
        fix="put a conserved quantity in the place of one equation, as u.sum() - total; or solve under torch.no_grad()",
    )  # fmt: skip


def _key(*values: np.ndarray) -> tuple:
    return tuple(x.tobytes() for x in values)
