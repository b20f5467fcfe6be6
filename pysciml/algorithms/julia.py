"""The way out: any algorithm object of Julia."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pysciml.algorithms.base import Algorithm
from pysciml.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class JuliaAlgorithm(Algorithm, order=0, package="Julia"):
    """Any algorithm that Julia has, for those with no class here or with options of their own.

    Args:
        alg: an algorithm object of juliacall; or the Julia text of an expression that makes one, such as
            "OrdinaryDiffEqExtrapolation.AitkenNeville(max_order=8)". The text is the user's own code and runs as such;
            the packages it names are loaded first.
        implicit: whether it asks for derivatives of f. Models compute in one number type, so `autodiff` must be
            `AutoFiniteDiff()` where an algorithm has that option and the Jacobian is not enough for it.
        stiff: whether it is meant for stiff problems. dae: whether it takes a singular mass matrix.
        adaptive: whether it chooses its own steps; else a solve needs `dt`.

    Raises:
        InvalidInputError: no text and no object of Julia.
    """

    alg: Any = None
    # Traits of the class elsewhere, of the object here.
    implicit: bool = field(default=True, kw_only=True)  # type: ignore[misc]
    stiff: bool = field(default=False, kw_only=True)  # type: ignore[misc]
    dae: bool = field(default=False, kw_only=True)  # type: ignore[misc]
    adaptive: bool = field(default=True, kw_only=True)  # type: ignore[misc]

    def __post_init__(self):
        if self.alg is None or (isinstance(self.alg, str) and not self.alg.strip()) or isinstance(self.alg, Algorithm):
            raise InvalidInputError(
                "JuliaAlgorithm needs an algorithm of Julia, or the Julia text that makes one.",
                got=f"{self.alg!r:.80}",
                fix='pysciml.JuliaAlgorithm("OrdinaryDiffEqExtrapolation.AitkenNeville()", implicit=False)',
            )

    @property
    def name(self) -> str:
        text = self.alg if isinstance(self.alg, str) else str(self.alg)
        return f"JuliaAlgorithm({text if len(text) < 60 else text[:57] + '...'})"
