"""What every algorithm says of itself, and finding one by name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any, ClassVar

from pysciml.errors import InvalidInputError, UnsupportedError

REGISTRY: dict[str, type[Algorithm]] = {}

# What a method takes, and what solves the plain problem instead of one that takes something else.
PROBLEMS = {
    "ode": ("an ODEProblem", "Tsit5"),
    "split": ("a SplitODEProblem, du/dt = f1(u) + f2(u) with the stiff (or linear) part apart", "KenCarp4"),
    "dynamical": ("a DynamicalODEProblem or a SecondOrderODEProblem, positions apart from velocities", "Vern7"),
    "second_order": ("a SecondOrderODEProblem, d2u/dt2 = f(t, u, du)", "Vern7"),
    "linear": ("an ODEProblem whose f is a linear operator, du/dt = A(u, t) u", "GaussLegendre"),
    "dae": ("a DAEProblem, 0 = f(t, u, du/dt)", "Rodas5P"),
    "sde": ("an SDEProblem, du = f dt + g dW", "Tsit5"),
    "rode": ("a RODEProblem, du/dt = f(t, u, W)", "Tsit5"),
    "jump": ("a JumpProblem, counts that change by events at random times", "Tsit5"),
    "steady_state": ("a SteadyStateProblem, 0 = f(u)", "CVODE_BDF"),
    "boundary": ("a BVProblem or a TwoPointBVProblem, du/dt = f(t, u) with conditions at several times", "CVODE_BDF"),
    "dde": ("a DDEProblem, du/dt = f(t, u, h) with states of the past", "Tsit5"),
}


@dataclass(frozen=True)
class Algorithm:
    """A solver. Class attributes are its traits; fields are its options, under Julia's names.

    Traits are given to a subclass where it is declared: `class Tsit5(LowOrderRK, order=5): ...`.

    Attributes:
        order: order of convergence; for variable-order methods the highest.
        variable_order: whether it chooses its order as it chooses its steps.
        stiff: whether it is meant for stiff problems. dae: whether it takes a singular mass matrix.
        adaptive: whether it chooses its own steps; a fixed-step method needs `dt`.
        implicit: whether it asks for derivatives of f (its Jacobian, and for some its time derivative).
        autoswitch: whether it changes between methods when the problem becomes stiff.
        autonomous: whether it is right only where f does not depend on t.
        problem: what it solves, one of `PROBLEMS`. velocity: of a method for problems in halves, whether it is right
            where the acceleration depends on the velocity.
        residual: whether it takes the problem by its residual, 0 = f - M du/dt, as solvers of fully implicit ones do.
        reads_back: whether the julia engine knows its steps, and reads them backwards for a `DirectAdjoint`.
        package: the Julia package it comes from. torchdiffeq: its name there, or None.
        embedded: whether the embedded engine has it, and by what: "sundials", "torchdiffeq", "casadi", "scipy", "ode"
            (the ODE solver that it is made of) or None.
        reference: where it was published.
    """

    order: ClassVar[float]
    variable_order: ClassVar[bool] = False
    stiff: ClassVar[bool] = False
    dae: ClassVar[bool] = False
    adaptive: ClassVar[bool] = True
    implicit: ClassVar[bool] = False
    autoswitch: ClassVar[bool] = False
    autonomous: ClassVar[bool] = False
    problem: ClassVar[str] = "ode"
    velocity: ClassVar[bool] = False
    residual: ClassVar[bool] = False
    reads_back: ClassVar[bool] = False
    package: ClassVar[str] = ""
    torchdiffeq: ClassVar[str | None] = None
    embedded: ClassVar[str | None] = None
    reference: ClassVar[str] = ""

    def __init_subclass__(cls, **traits: Any):
        super().__init_subclass__()
        if unknown := traits.keys() - Algorithm.__annotations__.keys():
            raise TypeError(f"{cls.__name__}: an algorithm has no trait {sorted(unknown)[0]!r}")
        for trait, value in traits.items():
            setattr(cls, trait, value)
        if hasattr(cls, "order"):  # what has no order of its own is a base of others
            REGISTRY[cls.__name__] = cls
            cls.__doc__ = _documented(cls)

    @property
    def name(self) -> str:
        return type(self).__name__


def _documented(cls: type[Algorithm]) -> str | None:
    """The class's own sentences, the options of its family, and what the traits say."""
    if not cls.__dict__.get("__doc__"):
        return None  # left as it is: a test says that it is missing
    own = cls.__dict__["__doc__"].rstrip()
    families = (base.__doc__ or "" for base in cls.__mro__[1:-1] if base is not Algorithm)
    options = "" if "Args:" in own else next((d[d.index("Args:") :].rstrip() for d in families if "Args:" in d), "")
    steps = "" if cls.adaptive else ", fixed step `dt`"
    order = f", orders up to {cls.order}" if cls.variable_order else f", order {cls.order}" if cls.order else ""
    order = ", exact" if getattr(cls, "exact", False) else order
    facts = f"{cls.package or cls.embedded}{order}{steps}."
    return "\n\n    ".join(part for part in (own, options, facts, f"Reference: {cls.reference}") if part)


def by_name(name: str, aliases: dict[str, str] | None = None) -> Algorithm:
    """The algorithm of that name with default options.

    Args:
        aliases: other names it may go by, as torchdiffeq's `dopri5` for `DP5`.

    Raises:
        InvalidInputError: no such name, or one that needs arguments; suggests the nearest.
    """
    aliases = aliases or {}
    known = REGISTRY.get(aliases.get(name, name))
    if known is None:
        choices = [*REGISTRY, *aliases]
        lowered = {c.lower(): c for c in choices}
        near = [lowered[c] for c in difflib.get_close_matches(str(name).lower(), lowered, n=3, cutoff=0.5)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(sorted(choices))}"
        raise InvalidInputError(
            f"there is no algorithm named {name!r}.",
            got=repr(name),
            expected=hint,
            fix=f"pysciml.{aliases.get(near[0], near[0])}()" if near else "pysciml.capabilities()",
        )
    return known()


# What solves the problems that no ODE solver takes by itself, and what puts one to use.
_WRAPPED = {
    "steady_state": (
        "TrustRegion, NewtonRaphson, SSRootfind; or DynamicSS, with an ODE solver in it",
        "DynamicSS",
    ),
    "boundary": ("Collocation4, MIRK4, ...; or Shooting, with an ODE solver in it", "Shooting"),
}
_OF_TIME = tuple(name for name in PROBLEMS if name not in _WRAPPED)
# The kinds of problems that a method takes which is made for one of them.
_TAKEN = {"ode": _OF_TIME, "dynamical": ("dynamical", "second_order"), "second_order": ("second_order",),
          "split": ("split",), "dde": ("dde",), "steady_state": ("steady_state",),
          "boundary": ("boundary",)}  # fmt: skip


def check_problem(alg: Algorithm, kind: str = "ode") -> None:
    """Raises `UnsupportedError`, naming what it needs and what works instead, if it takes no problem of that kind."""
    if kind not in _TAKEN.get(alg.problem, ()):
        needs, instead = PROBLEMS[alg.problem]
        if kind in _WRAPPED:
            expected, instead = _WRAPPED[kind]
            wrapped = f"{instead}({f'pysciml.{alg.name}()' if alg.problem == 'ode' else ''})"
            raise UnsupportedError(
                f"`{alg.name}` cannot solve {PROBLEMS[kind][0]}.", got=f"{alg.name}, which takes {needs}",
                expected=expected, fix=f"pysciml.solve(prob, pysciml.{wrapped})",
            )  # fmt: skip
        raise UnsupportedError(
            f"`{alg.name}` cannot solve {PROBLEMS[kind][0]}.",
            got=f"{alg.name}, which takes {needs}",
            expected="a method for du/dt = f(t, u), which solves problems of all kinds",
            fix=f"pysciml.solve(prob, pysciml.{instead}())",
        )


def check_adaptive(by: str, alg: Algorithm) -> None:
    """Raises `InvalidInputError` for a solver without steps of its own, in an algorithm that solves many spans."""
    if not alg.adaptive:
        raise InvalidInputError(
            f"{by} needs a solver that chooses its steps.", got=f"{alg.name}, whose steps are fixed",
            expected="an adaptive one: CVODE_BDF, DP5, Tsit5, Rodas5P, ...",
            fix=f"pysciml.{by}(alg=pysciml.CVODE_BDF())",
        )  # fmt: skip


_TAKE_SUMS = ("KenCarp3", "KenCarp4", "KenCarp47", "KenCarp5", "KenCarp58", "ARKODE")


def takes_apart(alg: Algorithm) -> bool:
    """Whether it solves the two parts of a split problem in two ways, and not their sum."""
    return alg.problem == "split" or alg.name in _TAKE_SUMS


def check_time(alg: Algorithm, depends_on_time: bool) -> None:
    """Raises `UnsupportedError` if the algorithm would lose its order to an f that depends on t."""
    if alg.autonomous and depends_on_time:
        raise UnsupportedError(
            f"`{alg.name}` loses its order where f depends on t.",
            got=f"an f(t, u) that uses t; {alg.name} takes it at the wrong times",
            expected="a method that takes t as it should: Rodas5P, KenCarp4, KenCarp5, FBDF, ...",
            fix="pysciml.solve(prob, pysciml.Rodas5P())",
        )


def check_choice(alg: Algorithm, option: str, choices: tuple[str, ...], none: bool = False) -> None:
    """Raises `InvalidInputError` if an option is not one of its choices."""
    value = getattr(alg, option)
    if value not in choices and not (none and value is None):
        raise InvalidInputError(
            f"{alg.name} does not know that {option}.",
            got=f"{option}={value!r}",
            expected=", ".join((*choices, "None") if none else choices),
            fix=f'pysciml.{alg.name}({option}="{choices[0]}")',
        )


def check_max_order(alg: Algorithm, max_order: int | None) -> None:
    """Raises `InvalidInputError` if there is no such order."""
    if max_order is not None and not 1 <= max_order <= alg.order:
        raise InvalidInputError(
            f"{alg.name} has orders 1 to {alg.order}.",
            got=f"max_order={max_order!r}",
            fix=f"{alg.name}(max_order={alg.order})",
        )
