"""Backward differentiation formulas: multistep methods, for large stiff problems."""

from __future__ import annotations

from dataclasses import dataclass

from pysciml.algorithms.base import check_max_order
from pysciml.algorithms.implicit import ImplicitAlgorithm

_SHAMPINE_REICHELT = 'Shampine and Reichelt, "The MATLAB ODE Suite", SIAM J. Sci. Comput. 18 (1997)'


class BDF(ImplicitAlgorithm, dae=True, package="OrdinaryDiffEqBDF"):
    """Multistep methods for stiff problems."""


@dataclass(frozen=True)
class VariableOrderBDF(BDF, variable_order=True):
    """Backward differentiation formulas that choose their order.

    Args:
        linsolve: LinearSolve.jl's name for how linear systems are solved, as for `Rodas5P`; None chooses by the matrix.
        max_order: the highest order to take, 1 to 5; None for 5.
    """

    max_order: int | None = None

    def __post_init__(self):
        super().__post_init__()
        check_max_order(self, self.max_order)


class FBDF(
    VariableOrderBDF,
    order=5,
    reference='Shampine, "Solving 0 = F(t, y(t), y\'(t)) in Matlab", J. Numer. Math. 10 (2002)',
):
    """Fixed-leading-coefficient BDF of order 1 to 5, for large stiff problems."""


class QNDF(VariableOrderBDF, order=5, reference=_SHAMPINE_REICHELT):
    """Quasi-constant-step numerical differentiation formulas of order 1 to 5; ode15s."""


class QBDF(VariableOrderBDF, order=5, reference=_SHAMPINE_REICHELT):
    """Quasi-constant-step BDF of order 1 to 5: `QNDF` without Shampine's accuracy terms."""


class QNDF1(BDF, order=1, reference=_SHAMPINE_REICHELT):
    """Numerical differentiation formula of order 1, for very stiff problems at very loose tolerances."""


class QNDF2(BDF, order=2, reference=_SHAMPINE_REICHELT):
    """Numerical differentiation formula of order 2, L-stable, for stiff problems at loose tolerances."""


class QBDF1(BDF, order=1, reference=_SHAMPINE_REICHELT):
    """BDF of order 1 with quasi-constant steps, for very stiff problems at very loose tolerances."""


class QBDF2(BDF, order=2, reference=_SHAMPINE_REICHELT):
    """BDF of order 2 with quasi-constant steps, for stiff problems at loose tolerances."""


class ABDF2(
    BDF,
    order=2,
    reference='Celaya, Aguirrezabala and Chatzipantelidis, "Implementation of an adaptive BDF2 formula and comparison '
    'with the MATLAB ode15s", Procedia Comput. Sci. 29 (2014)',
):
    """Fixed-leading-coefficient BDF of order 2, L-stable, for stiff problems at loose tolerances."""


class MEBDF2(
    BDF,
    order=2,
    adaptive=False,
    dae=False,
    reference='Cash, "Modified extended backward differentiation formulae for the numerical solution of stiff initial '
    'value problems in ODEs and DAEs", J. Comput. Appl. Math. 125 (2000)',
):
    """Modified extended BDF of order 2, more stable than BDF of that order, with fixed steps."""


class DFBDF(
    VariableOrderBDF,
    order=5,
    residual=True,
    reference='Shampine, "Solving 0 = F(t, y(t), y\'(t)) in Matlab", J. Numer. Math. 10 (2002)',
):
    """`FBDF` for fully implicit problems: solves a `DAEProblem`, or a mass matrix, by its residual, as `IDA` does."""
