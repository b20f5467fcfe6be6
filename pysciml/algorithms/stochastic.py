"""Solvers of stochastic differential equations, of StochasticDiffEq.jl; some of them torchsde has too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from pysciml.algorithms.base import Algorithm
from pysciml.errors import InvalidInputError

_ROESSLER = (
    "Roessler, Runge-Kutta methods for the strong approximation of solutions of stochastic differential equations, "
    "SIAM J. Numer. Anal. 48 (2010)"
)
_STABLE = (
    "Rackauckas and Nie, Stability-optimized high order methods and stiffness detection for pathwise stiff stochastic "
    "differential equations, IEEE HPEC (2020)"
)
_KLOEDEN = "Kloeden and Platen, Numerical Solution of Stochastic Differential Equations, Springer (1992)"
_LAMBA = "Lamba, Mattingly and Stuart, An adaptive Euler-Maruyama scheme for SDEs, IMA J. Numer. Anal. 27 (2007)"


@dataclass(frozen=True)
class StochasticAlgorithm(Algorithm):
    """What solvers of an `SDEProblem` share.

    Attributes:
        interpretation: the equations it solves, "ito" or "stratonovich"; "both" where it goes by the problem, or where
            the two are one, as with additive noise.
        noises: what it solves, of "diagonal", "general" and "additive".
        torchsde: its name in torchsde for both interpretations, as in ("euler", None), with the options it takes there.
    """

    problem = "sde"
    package = "StochasticDiffEq"
    interpretation: ClassVar[str] = "both"
    noises: ClassVar[tuple[str, ...]] = ("diagonal", "general", "additive")
    torchsde: ClassVar[tuple[str | None, str | None]] = (None, None)

    def torchsde_method(self, interpretation: str) -> tuple[str | None, dict[str, Any]]:
        """Its name in torchsde, None if it is not there, and the options to give."""
        return self.torchsde[interpretation == "stratonovich"], {}


@dataclass(frozen=True)
class EM(StochasticAlgorithm, embedded="torchsde", order=0.5, adaptive=False, reference=_KLOEDEN):
    """Euler-Maruyama: the simplest solver of Ito equations, with noise of any kind.

    Args:
        split: evaluates the diffusion after the step of the drift, as Julia's `EM()` does; in the julia engine.
    """

    split: bool = False
    interpretation = "ito"
    torchsde = ("euler", None)

    def torchsde_method(self, interpretation: str) -> tuple[str | None, dict[str, Any]]:
        return (None if self.split else "euler"), {}


@dataclass(frozen=True)
class LambaEM(StochasticAlgorithm, order=0.5, reference=_LAMBA):
    """Euler-Maruyama with steps of its own: for Ito equations with noise of any kind.

    Args:
        split: evaluates the diffusion after the step of the drift, as Julia's `LambaEM()` does.
    """

    split: bool = True
    interpretation = "ito"


@dataclass(frozen=True)
class EulerHeun(StochasticAlgorithm, embedded="torchsde", order=0.5, adaptive=False, reference=_KLOEDEN):
    """Heun's method: the simplest solver of Stratonovich equations; order 1 where the noise commutes."""

    interpretation = "stratonovich"
    torchsde = (None, "heun")


@dataclass(frozen=True)
class LambaEulerHeun(StochasticAlgorithm, order=0.5, reference=_LAMBA):
    """Heun's method with steps of its own: for Stratonovich equations with noise of any kind."""

    interpretation = "stratonovich"


@dataclass(frozen=True)
class RKMil(StochasticAlgorithm, embedded="torchsde", order=1, reference=_KLOEDEN):
    """Milstein's method without derivatives: for diagonal noise, of the problem's interpretation."""

    noises = ("diagonal",)
    torchsde = ("milstein", "milstein")

    def torchsde_method(self, interpretation: str) -> tuple[str | None, dict[str, Any]]:
        return "milstein", {"grad_free": True}


class _Diagonal(StochasticAlgorithm):
    noises, interpretation = ("diagonal",), "ito"


class _Additive(StochasticAlgorithm):
    noises = ("additive",)


@dataclass(frozen=True)
class SRIW1(_Diagonal, order=1.5, reference=_ROESSLER):
    """Order 1.5 for Ito equations with diagonal noise."""


@dataclass(frozen=True)
class SRIW2(_Diagonal, order=1.5, reference=_ROESSLER):
    """Order 1.5 for Ito equations with diagonal noise, of order 3 where there is none."""


@dataclass(frozen=True)
class SOSRI(_Diagonal, order=1.5, reference=_STABLE):
    """Order 1.5 and stable for larger steps: the default for Ito equations with diagonal noise."""


@dataclass(frozen=True)
class SOSRI2(_Diagonal, order=1.5, reference=_STABLE):
    """`SOSRI` for problems whose drift is stiff to a degree."""


@dataclass(frozen=True)
class SRA1(_Additive, order=1.5, reference=_ROESSLER):
    """Order 1.5 (weakly 2) for additive noise, by two evaluations of the drift."""


@dataclass(frozen=True)
class SRA2(_Additive, order=1.5, reference=_ROESSLER):
    """Order 1.5 for additive noise, by two evaluations of the drift."""


@dataclass(frozen=True)
class SRA3(_Additive, order=1.5, reference=_ROESSLER):
    """Order 1.5 for additive noise, by three evaluations of the drift."""


@dataclass(frozen=True)
class SOSRA(_Additive, order=1.5, reference=_STABLE):
    """Order 1.5 and stable for larger steps: the default for additive noise."""


@dataclass(frozen=True)
class SOSRA2(_Additive, order=1.5, reference=_STABLE):
    """`SOSRA` for problems whose drift is stiff to a degree."""


@dataclass(frozen=True)
class _Theta(StochasticAlgorithm):
    """Implicit in the drift.

    Args:
        theta: how implicit, from 0.5 (the trapezoidal rule) to 1 (backward Euler).
    """

    theta: float = 1.0

    def __post_init__(self):
        if not 0.5 <= self.theta <= 1:
            raise InvalidInputError(f"{self.name} is implicit by a theta from 0.5 to 1.", got=f"theta={self.theta!r}",
                                    fix=f"pysciml.{self.name}(theta=1.0)")  # fmt: skip


@dataclass(frozen=True)
class ImplicitEM(_Theta, order=0.5, stiff=True, implicit=True, reference=_KLOEDEN):
    """Euler-Maruyama, implicit in the drift: for stiff Ito equations with noise of any kind."""

    interpretation = "ito"


@dataclass(frozen=True)
class ImplicitEulerHeun(_Theta, order=0.5, stiff=True, implicit=True, reference=_KLOEDEN):
    """Heun's method, implicit in the drift: for stiff Stratonovich equations with noise of any kind."""

    interpretation = "stratonovich"


@dataclass(frozen=True)
class ImplicitRKMil(_Theta, order=1, stiff=True, implicit=True, reference=_KLOEDEN):
    """Milstein's method, implicit in the drift: for stiff equations with diagonal noise."""

    noises = ("diagonal",)


@dataclass(frozen=True)
class SKenCarp(_Additive, order=1.5, stiff=True, implicit=True, reference=_STABLE):
    """Implicit in the drift, L-stable, order 1.5: for stiff equations with additive noise."""


@dataclass(frozen=True)
class TorchSDE(
    StochasticAlgorithm,
    order=0.5,
    adaptive=False,
    package="",
    embedded="torchsde",
    reference="Li, Wong, Chen and Duvenaud, Scalable gradients for stochastic differential equations, AISTATS (2020)",
):
    """Any method of torchsde, by its name there, in the embedded engine.

    Args:
        method: "euler", "milstein", "srk", "midpoint", "heun", "reversible_heun", "adjoint_reversible_heun",
            "euler_heun" or "log_ode".
        options: as torchsde's `options`.
    """

    method: str = "euler"
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    noises = ("diagonal", "general", "additive")

    def torchsde_method(self, interpretation: str) -> tuple[str | None, dict[str, Any]]:
        return self.method, dict(self.options)
