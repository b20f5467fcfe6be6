"""Methods that start as non-stiff ones and change to stiff ones when the problem does, and back."""

from __future__ import annotations

from dataclasses import dataclass

from pysciml.algorithms.base import Algorithm, check_problem
from pysciml.algorithms.explicit_rk import Tsit5
from pysciml.algorithms.rosenbrock import Rosenbrock23
from pysciml.errors import InvalidInputError, UnsupportedError

_SHAMPINE = 'Shampine, "Stiffness and nonstiff differential equation solvers II", ACM TOMS 3 (1977)'
_RACKAUCKAS = 'Rackauckas and Nie, "DifferentialEquations.jl", J. Open Res. Softw. 5 (2017)'
_NONSTIFF, _STIFF = Tsit5(), Rosenbrock23()
_STABILITY_KNOWN = ("Tsit5", "DP5", "Vern6", "Vern7", "Vern8", "Vern9")


@dataclass(frozen=True)
class Composite(
    Algorithm, implicit=True, stiff=True, autoswitch=True, package="OrdinaryDiffEqCore", reference=_SHAMPINE
):
    """Methods made of others."""

    def __post_init__(self):
        for part in self.parts:
            if not isinstance(part, Algorithm) or part.package == "Sundials" or not part.adaptive or part.autoswitch:
                raise InvalidInputError(
                    f"{type(self).__name__} is made of adaptive algorithms of OrdinaryDiffEq.",
                    got=f"{part!r:.80}",
                    fix="pysciml.AutoTsit5(pysciml.Rosenbrock23())",
                )
            check_problem(part)
            if part.package == "OrdinaryDiffEqBDF":
                raise UnsupportedError(
                    f"{part.name} cannot be switched to: it starts there without its history.",
                    got=f"{part!r:.80}; in Julia such a solve ends far from its tolerance, without an error",
                    expected="a one-step method: Rosenbrock23, Rodas5P, KenCarp4, TRBDF2, RadauIIA5, ...",
                    fix=f"pysciml.{type(self).__name__}(pysciml.Rodas5P())",
                )
        if not self.parts[-1].stiff:
            raise InvalidInputError(
                "the algorithm to change to must be one for stiff problems.", got=f"{self.parts[-1]!r:.80}",
                fix="pysciml.AutoTsit5(pysciml.Rosenbrock23())",
            )  # fmt: skip

    @property
    def parts(self) -> tuple[Algorithm, ...]:
        """The algorithms it is made of, in the order Julia's constructor takes them."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        return f"{type(self).__name__}({', '.join(part.name for part in self.parts)})"


@dataclass(frozen=True)
class StiffTail(Composite):
    """A non-stiff method with a stiff one to change to.

    Args:
        stiff_alg: what to change to; Julia's constructors take it without a default, here it is `Rosenbrock23()`.
    """

    stiff_alg: Algorithm = _STIFF

    @property
    def parts(self) -> tuple[Algorithm, ...]:
        return (self.stiff_alg,)


class AutoTsit5(StiffTail, order=5, package="OrdinaryDiffEqTsit5"):
    """`Tsit5` until the problem is stiff: where it is not known whether it is, at everyday tolerances."""


class AutoDP5(StiffTail, order=5, package="OrdinaryDiffEqLowOrderRK"):
    """`DP5` until the problem is stiff."""


class AutoVern6(StiffTail, order=6, package="OrdinaryDiffEqVerner"):
    """`Vern6` until the problem is stiff, for tolerances around 1e-7."""


class AutoVern7(StiffTail, order=7, package="OrdinaryDiffEqVerner"):
    """`Vern7` until the problem is stiff, for tolerances around 1e-9."""


class AutoVern8(StiffTail, order=8, package="OrdinaryDiffEqVerner"):
    """`Vern8` until the problem is stiff, for tolerances around 1e-11."""


class AutoVern9(StiffTail, order=9, package="OrdinaryDiffEqVerner"):
    """`Vern9` until the problem is stiff, for tolerances below 1e-12."""


@dataclass(frozen=True)
class AutoSwitch(Composite, order=5):
    """Any two methods: one until the problem is stiff, the other while it is.

    Args:
        nonstiff_alg: where the problem is not stiff: Tsit5, DP5, or Vern6 to Vern9, whose stability Julia knows and
            compares the steps with. stiff_alg: where it is.
    """

    nonstiff_alg: Algorithm = _NONSTIFF
    stiff_alg: Algorithm = _STIFF

    def __post_init__(self):
        super().__post_init__()
        own = self.nonstiff_alg.package == "Julia"  # a JuliaAlgorithm, of which nothing is known here
        if not own and self.nonstiff_alg.name not in _STABILITY_KNOWN:
            raise UnsupportedError(
                f"{self.nonstiff_alg.name} cannot tell when a problem is stiff: Julia does not know how stable it is.",
                got=f"{self.nonstiff_alg!r:.80}",
                expected=", ".join(_STABILITY_KNOWN),
                fix="pysciml.AutoSwitch(pysciml.Tsit5(), pysciml.Rodas5P())",
            )

    @property
    def parts(self) -> tuple[Algorithm, ...]:
        return (self.nonstiff_alg, self.stiff_alg)


class DefaultODEAlgorithm(
    Algorithm,
    order=7,
    implicit=True,
    stiff=True,
    dae=True,
    autoswitch=True,
    package="OrdinaryDiffEqDefault",
    reference=_RACKAUCKAS,
):
    """What SciML takes when none is named: `Tsit5` or `Vern7`, and `Rosenbrock23` or `Rodas5P` when stiff.

    Which of them is decided by the tolerance. Where there are more than 500 states, `KenCarp4` is the stiff one if the
    Jacobian is sparse; if it is not, or f has a network and 64 states or more, there is none: such systems, a network
    over a batch, are seldom stiff. (SciML changes to `FBDF` from 50 states on, which loses its accuracy there, and from
    500 on to GMRES.)
    """
