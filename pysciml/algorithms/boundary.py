"""Methods for boundary value problems: shooting, and collocation."""

from __future__ import annotations

from dataclasses import dataclass, field

from pysciml.algorithms.base import Algorithm, check_adaptive, check_problem
from pysciml.errors import InvalidInputError

_ASCHER = (
    'Ascher, Mattheij and Russell, "Numerical Solution of Boundary Value Problems for Ordinary Differential Equations",'
    " SIAM (1995)"
)
_CASH = (
    'Cash and Singhal, "Mono-implicit Runge-Kutta formulae for the numerical integration of stiff differential systems"'
    ", IMA J. Numer. Anal. 2 (1982); Enright and Muir, SIAM J. Sci. Comput. 17 (1996)"
)


@dataclass(frozen=True)
class ShootingMethod(Algorithm, problem="boundary", embedded="ode"):
    """Methods that solve initial value problems, and change their starts until the conditions are met."""

    def _check_solver(self, alg: Algorithm | None) -> None:
        if alg is None:
            return
        if not isinstance(alg, Algorithm):
            raise InvalidInputError(f"{self.name} needs a solver for ODEs.", got=f"{alg!r:.80}",
                                    fix=f"pysciml.{type(self).__name__}(alg=pysciml.CVODE_BDF())")  # fmt: skip
        check_problem(alg)
        check_adaptive(self.name, alg)


@dataclass(frozen=True)
class Shooting(ShootingMethod, order=0, reference=_ASCHER + ", chapter 4.1"):
    """One initial value problem over the whole span: for short spans, where solutions from nearby starts stay near.

    Args:
        alg: the solver, for an `ODEProblem`; None takes the engine's default.
    """

    alg: Algorithm | None = None

    def __post_init__(self):
        self._check_solver(self.alg)


@dataclass(frozen=True)
class MultiShooting(ShootingMethod, order=0, reference=_ASCHER + ", chapter 4.3"):
    """Initial value problems over parts of the span, joined: for long spans, and where solutions grow.

    (SciML's `MultipleShooting`; that name is here of what `fit` does with data.)

    Args:
        nshoots: how many parts. alg: as of `Shooting`.
    """

    nshoots: int = 10
    alg: Algorithm | None = None

    def __post_init__(self):
        self._check_solver(self.alg)
        if isinstance(self.nshoots, bool) or not isinstance(self.nshoots, int) or self.nshoots < 1:
            raise InvalidInputError("nshoots must be a number of parts.", got=f"nshoots={self.nshoots!r}",
                                    fix="pysciml.MultiShooting(10)")  # fmt: skip


@dataclass(frozen=True)
class Collocation4(
    Algorithm, order=4, problem="boundary", embedded="scipy",
    reference='Kierzenka and Shampine, "A BVP solver based on residual control", ACM TOMS 27 (2001), as in SciPy',
):  # fmt: skip
    """Collocation by cubic splines (the Lobatto IIIA formula) on a mesh that is refined by the residual.

    For a `TwoPointBVProblem`. What it finds is made more exact by `MultiShooting` between points of its mesh.

    Args:
        max_nodes: most points of the mesh.
    """

    max_nodes: int = 10_000

    def __post_init__(self):
        if isinstance(self.max_nodes, bool) or not isinstance(self.max_nodes, int) or self.max_nodes < 2:
            raise InvalidInputError("max_nodes must be a number of points.", got=f"max_nodes={self.max_nodes!r}",
                                    fix="pysciml.Collocation4(max_nodes=10_000)")  # fmt: skip


@dataclass(frozen=True)
class MIRK(Algorithm, problem="boundary", package="BoundaryValueDiffEq", reference=_CASH):
    """Mono-implicit Runge-Kutta methods on a mesh that is refined by the defect. Conditions may be at any times.

    What they find is made more exact by `MultiShooting` between points of their mesh.

    Args:
        nodes: points of the first mesh.
    """

    nodes: int = field(default=51, metadata={"julia": False})

    def __post_init__(self):
        if isinstance(self.nodes, bool) or not isinstance(self.nodes, int) or self.nodes < 3:
            raise InvalidInputError("nodes must be a number of points.", got=f"nodes={self.nodes!r}",
                                    fix=f"pysciml.{self.name}(nodes=51)")  # fmt: skip


class MIRK2(MIRK, order=2):
    """Of order 2: for crude tolerances."""


class MIRK3(MIRK, order=3):
    """Of order 3."""


class MIRK4(MIRK, order=4):
    """Of order 4: the first to try."""


class MIRK5(MIRK, order=5):
    """Of order 5."""


class MIRK6(MIRK, order=6):
    """Of order 6: for tight tolerances and smooth problems."""
