"""From an algorithm of pysciml to the object that it is in Julia; each is made once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from pysciml.algorithms import (
    ARKODE,
    CVODE_BDF,
    FBDF,
    Algorithm,
    AutoSwitch,
    AutoTsit5,
    AutoVern7,
    DefaultODEAlgorithm,
    JuliaAlgorithm,
    KenCarp4,
    Rodas5P,
    Rosenbrock23,
    Tsit5,
    Vern7,
    by_name,
)
from pysciml.algorithms.autoswitch import StiffTail
from pysciml.engines.julia.errors import JuliaError
from pysciml.engines.julia.runtime import call
from pysciml.errors import PySciMLError
from pysciml.sensitivity import BacksolveAdjoint, InterpolatingAdjoint, SensitivityAlgorithm

_made: dict[Any, Any] = {}


class JuliaAlgorithmError(PySciMLError, ValueError):
    """Julia could not make the algorithm; `got` is its own text."""


# SciML's own bounds: a tolerance below which higher order pays, and a size from which factorising does not; and a size
# from which a network's state is taken for a batch.
_TIGHT, _LARGE, _BATCH = 1e-6, 500, 64


def resolved(alg: Algorithm, n: int, reltol: float, mass: bool, network: bool, sparse: Callable[[], bool]) -> Algorithm:
    """The algorithm itself; for `DefaultODEAlgorithm` the two that SciML's rules come to for this problem.

    Julia's object would carry six methods and compile them all, though size and tolerance, which are known before the
    solve, leave two of them; and its dense output cannot be written in place (OrdinaryDiffEqCore 4:
    `ode_interpolation!` asks a DefaultCache for a field it has not), which solutions and adjoints need. One rule
    differs: SciML changes to FBDF where there are more than 50 states, which starts without its history in the middle
    of a solve and was measured to end at an error of 3e-4 for a tolerance of 1e-9. And where there are more than 500,
    SciML has GMRES find its way with products; here a sparse Jacobian is factored. Without one the method is explicit,
    as from 64 on where f is a network, whose state is a batch then: these are seldom stiff, and a Jacobian of theirs
    takes minutes and gigabytes.

    Args:
        network: whether f has one. sparse: whether the Jacobian is sparse; asked only where it matters.
    """
    if not isinstance(alg, DefaultODEAlgorithm):
        return alg
    stiff: Algorithm
    if not mass and (n >= _BATCH if network else n > _LARGE and not sparse()):
        return Vern7() if reltol < _TIGHT else Tsit5()
    if n > _LARGE:
        stiff = FBDF() if mass else KenCarp4()
    else:
        stiff = Rodas5P() if mass or reltol < _TIGHT else Rosenbrock23()
    if mass:
        return stiff  # no explicit method takes a mass matrix
    return AutoVern7(stiff) if reltol < _TIGHT else AutoTsit5(stiff)


def asks_for_derivatives(alg: Algorithm) -> bool:
    """Whether a solve needs more of f than its values."""
    if isinstance(alg, ARKODE):
        return alg.stiffness == "Implicit"
    return alg.implicit and getattr(alg, "method", "Newton") == "Newton"


def for_backward(
    alg: Algorithm, sensealg: SensitivityAlgorithm, *, mass: bool = False, single: bool = False
) -> Algorithm:
    """What solves backwards where nothing was chosen: sound at the jump that each saved time makes.

    An explicit one-step method that chooses its steps is its own. An implicit one may fail at a jump, `Rodas5P` does
    not; a multistep method starts anew at each, and a fixed step has no meaning there. `BacksolveAdjoint` follows the
    solution backwards, where what was stiff blows up, and no implicit method gets through a jump there.
    `InterpolatingAdjoint` solves for the parameters' gradient too, which has no Jacobian of its own: measured on
    Lotka-Volterra at 1e-10, `Rodas5P` takes 550,000 steps for it, `CVODE_BDF` a thousandth of them.
    """
    implicit = asks_for_derivatives(alg) or isinstance(alg, (ARKODE, JuliaAlgorithm)) or alg.problem == "split"
    if implicit and not isinstance(sensealg, BacksolveAdjoint):
        if isinstance(sensealg, InterpolatingAdjoint) and not mass:
            return KenCarp4() if single else CVODE_BDF()  # SUNDIALS knows neither float32 nor, in CVODE, a mass matrix
        return Rodas5P()
    one_step = alg.problem == "ode" and not alg.variable_order and alg.package != "OrdinaryDiffEqAdamsBashforthMoulton"
    return alg if alg.adaptive and one_step and not implicit else Tsit5()


def nonstiff(alg: Algorithm) -> Algorithm:
    """What an algorithm that switches takes while nothing is stiff; any other is its own."""
    if isinstance(alg, AutoSwitch):
        return alg.nonstiff_alg
    return by_name(type(alg).__name__.removeprefix("Auto")) if isinstance(alg, StiffTail) else alg


def julia_algorithm(alg: Algorithm) -> Any:
    """Julia's object for an algorithm.

    Raises:
        JuliaAlgorithmError: Julia could not make it: a package that is not in its project, or an expression that fails.
    """
    key = ("JuliaAlgorithm", alg.alg) if isinstance(alg, JuliaAlgorithm) and isinstance(alg.alg, str) else alg
    if isinstance(key, JuliaAlgorithm):
        return _make(key)  # an object of the user's, which nothing here should keep alive
    made = _made.get(key)
    if made is None:
        made = _made[key] = _make(alg)
    return made


def _make(alg: Algorithm) -> Any:
    try:
        if isinstance(alg, JuliaAlgorithm):
            return call("evaluated_algorithm", alg.alg)
        parts = [julia_algorithm(part) for part in getattr(alg, "parts", ())]
        # A composite leaves differentiating to its parts; SUNDIALS has its own way.
        differences = alg.implicit and not parts and alg.package != "Sundials"
        return call("algorithm", alg.package, _julia_name(alg), differences, _options(alg), *parts)
    except JuliaError as error:
        raise JuliaAlgorithmError(
            f"Julia could not make {alg.name}.",
            got=error.got,
            expected="packages that are in Julia's project, each named in full: OrdinaryDiffEqTsit5.Tsit5()",
            fix="pysciml.capabilities() lists what needs no Julia text",
        ) from error


def _julia_name(alg: Algorithm) -> str:
    if type(alg).__name__ == "AutoSwitch":
        return "AutoAlgSwitch"
    return getattr(alg, "julia_name", type(alg).__name__)


def _options(alg: Algorithm) -> dict[str, Any]:
    """What was chosen, under Julia's names; what was left open is left to Julia."""
    fields = [field for field in dataclasses.fields(alg) if field.metadata.get("julia", True)]
    values = {field.name.rstrip("_"): getattr(alg, field.name) for field in fields}
    return {
        name: value
        for name, value in values.items()
        if value is not None and not isinstance(value, Algorithm) and not (name == "krylov_dim" and not value)
    }
