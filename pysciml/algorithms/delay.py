"""The method of steps, which makes solvers of delay differential equations of those of ordinary ones."""

from __future__ import annotations

from dataclasses import dataclass

from pysciml.algorithms.base import Algorithm, check_problem
from pysciml.algorithms.explicit_rk import Tsit5
from pysciml.errors import InvalidInputError, UnsupportedError

_TSIT5 = Tsit5()
_NO_PAST = "OrdinaryDiffEqFIRK"  # DelayDiffEq 6: of these it keeps too little of a step to interpolate it
_MULTISTEP = ("OrdinaryDiffEqBDF", "OrdinaryDiffEqAdamsBashforthMoulton", "OrdinaryDiffEqNordsieck",
              "OrdinaryDiffEqIMEXMultistep")  # fmt: skip


@dataclass(frozen=True)
class MethodOfSteps(
    Algorithm,
    order=14,
    variable_order=True,
    stiff=True,
    implicit=True,
    problem="dde",
    package="DelayDiffEq",
    reference='Zivari-Piran and Enright, "An efficient unified approach for the numerical solution of delay'
    ' differential equations", Numer. Algorithms 53 (2010)',
):
    """The steps of an ODE solver, for a `DDEProblem`, with the past from its own dense output.

    Its order, and whether it is for stiff problems, are those of `alg`.

    Args:
        alg: a one-step algorithm of OrdinaryDiffEq that chooses its steps: `Tsit5()`, `Vern7()`; `Rosenbrock23()`,
            `Rodas5P()` where the problem is stiff.
        constrained: whether steps are kept to the shortest constant lag. Else a step that is longer is iterated.

    Raises:
        InvalidInputError: no such algorithm. UnsupportedError: SUNDIALS, multistep methods and those of other problems.
    """

    alg: Algorithm = _TSIT5
    constrained: bool = False

    def __post_init__(self):
        if not isinstance(self.alg, Algorithm) or isinstance(self.alg, MethodOfSteps):
            raise InvalidInputError("MethodOfSteps is made of an algorithm for ODEs.", got=f"{self.alg!r:.80}",
                                    fix="pysciml.MethodOfSteps(pysciml.Tsit5())")  # fmt: skip
        check_problem(self.alg)
        alg = self.alg
        multistep = alg.package in _MULTISTEP
        if (
            not alg.package.startswith(("OrdinaryDiffEq", "Julia"))
            or multistep
            or alg.residual
            or alg.package == _NO_PAST
        ):
            raise UnsupportedError(
                f"MethodOfSteps cannot be made of `{alg.name}`.",
                got=f"{alg.name}, " + ("a multistep method, which would start anew at each breaking point" if multistep
                                       else f"of {alg.package or 'torchdiffeq'}, which does not tell the past"),
                expected="a one-step method of OrdinaryDiffEq: Tsit5, Vern7; Rodas5P, KenCarp4 where stiff",
                fix="pysciml.MethodOfSteps(pysciml.Rodas5P())",
            )  # fmt: skip

    @property
    def parts(self) -> tuple[Algorithm, ...]:
        """What it is made of, as Julia's constructor takes it."""
        return (self.alg,)

    @property
    def name(self) -> str:
        return f"MethodOfSteps({self.alg.name})"
