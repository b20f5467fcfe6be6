"""Julia's own DifferentialEquations, for people who come from diffeqpy: `from pysciml import de`.

Every name of DifferentialEquations.jl, and of the solver packages it does not load itself, is an attribute, found when
it is first asked for; Julia starts then. Problems and solutions are Julia's own objects, and right-hand sides are
called from Julia in Python, as diffeqpy does without its `jit`. Names with `!` are written with `_b`: `de.step_b`.

There are no gradients into torch here: those are what `pysciml.solve` is for, which also compiles the right-hand side.
To be used from the main thread, as juliacall's objects are.

Example (needs Julia):

    from pysciml import de

    def lorenz(u, p, t):
        x, y, z = u
        sigma, rho, beta = p
        return [sigma * (y - x), x * (rho - z) - y, x * y - beta * z]

    prob = de.ODEProblem(lorenz, [1.0, 0.0, 0.0], (0.0, 1.0), [10.0, 28.0, 8 / 3])
    sol = de.solve(prob, de.Tsit5(), reltol=1e-8, abstol=1e-8, saveat=0.5)
    print(sol.t, sol.u[-1])

References: SciML/diffeqpy; docs.sciml.ai/DiffEqDocs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from pysciml.engines.julia.runtime import julia, on_julia_thread
from pysciml.errors import UnsupportedError

# DifferentialEquations.jl 8 loads the common solvers alone; a name that it lacks is looked for in these.
_MORE = ("OrdinaryDiffEq", "SciMLBase", "StochasticDiffEq", "DelayDiffEq", "JumpProcesses", "SteadyStateDiffEq",
         "DiffEqCallbacks", "Sundials", "OrdinaryDiffEqRosenbrock", "OrdinaryDiffEqSDIRK", "OrdinaryDiffEqFIRK",
         "OrdinaryDiffEqBDF", "OrdinaryDiffEqLowOrderRK", "OrdinaryDiffEqHighOrderRK", "OrdinaryDiffEqFeagin",
         "OrdinaryDiffEqStabilizedRK", "OrdinaryDiffEqSymplecticRK", "OrdinaryDiffEqRKN",
         "OrdinaryDiffEqExponentialRK", "OrdinaryDiffEqExtrapolation", "OrdinaryDiffEqAdamsBashforthMoulton",
         "OrdinaryDiffEqSSPRK", "OrdinaryDiffEqLowStorageRK")  # fmt: skip


def seval(code: str) -> Any:
    """The value of a piece of Julia, evaluated where DifferentialEquations is in use.

    Example (needs Julia):
        de.seval("decay!(du, u, p, t) = (du[1] = -p * u[1]; nothing)")
    """
    return on_julia_thread(_session().seval, code)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # asked for by Python itself, of any module
        raise AttributeError(name)
    if name in ("jit", "jit32"):
        raise UnsupportedError(
            f"`de.{name}` is diffeqpy's; pysciml compiles right-hand sides that are written in torch.",
            expected="a right-hand side f(t, u) or f(t, u, p) of torch operations",
            fix="pysciml.solve(pysciml.ODEProblem(f, u0, tspan), pysciml.Tsit5())",
        )
    value = _attribute(name)
    if name.endswith("Problem"):
        value = _of_own_arrays(value)
    globals()[name] = value  # found once
    return value


def __dir__() -> list[str]:
    return sorted({"seval", *dir(_session().DifferentialEquations)})


@cache
def _session() -> Any:
    julia()
    import juliacall

    session = juliacall.newmodule("DifferentialEquationsSession")
    on_julia_thread(session.seval, "using DifferentialEquations")
    return session


def _of_own_arrays(problem: Any) -> Callable[..., Any]:
    """A problem's constructor that makes numpy's arrays Julia's. Solvers take states of the type of u0 in some places
    and Julia's own vectors in others, and a right-hand side compiled for one does not run with the other.
    """

    def own(value: Any) -> Any:
        return _session().seval("copy_of(x) = collect(x)")(value) if isinstance(value, np.ndarray) else value

    def make(*args: Any, **options: Any) -> Any:
        return on_julia_thread(lambda: problem(*map(own, args), **{name: own(x) for name, x in options.items()}))

    return make


def _attribute(name: str) -> Any:
    julia_name = name.removesuffix("_b") + "!" if name.endswith("_b") else name
    for package in ("DifferentialEquations", *_MORE):
        module = _package(package)
        if module is not None and on_julia_thread(_session().isdefined, module, _session().Symbol(julia_name)):
            return on_julia_thread(getattr, module, julia_name)
    raise AttributeError(
        f"neither DifferentialEquations.jl nor the solver packages of this project have `{julia_name}`"
    )


@cache
def _package(name: str) -> Any:
    """A package of the project, loaded when it is first looked into; None where the project lacks it."""
    find = "name -> (id = Base.identify_package(name); id === nothing ? nothing : Base.require(id))"
    return on_julia_thread(lambda: _session().seval(find)(name))
