"""What implicit methods share: linear systems to solve, and how."""

from __future__ import annotations

from dataclasses import dataclass

from pysciml.algorithms.base import Algorithm, check_choice

# Those that take a dense matrix or none: KLU and UMFPACK take sparse ones only.
LINSOLVES = (
    "LUFactorization",
    "GenericLUFactorization",
    "QRFactorization",
    "KrylovJL_GMRES",
    "KrylovJL_BICGSTAB",
)


@dataclass(frozen=True)
class ImplicitAlgorithm(Algorithm, implicit=True, stiff=True):
    """Methods that solve linear systems with the Jacobian of f, which pysciml derives from f.

    Args:
        linsolve: LinearSolve.jl's name for how: "LUFactorization", "GenericLUFactorization" (small systems),
            "QRFactorization", "KrylovJL_GMRES" and "KrylovJL_BICGSTAB" (very large ones). None: LinearSolve chooses by
            the matrix.
    """

    linsolve: str | None = None

    def __post_init__(self):
        check_choice(self, "linsolve", LINSOLVES, none=True)
