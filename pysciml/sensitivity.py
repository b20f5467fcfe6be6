"""Sensitivity algorithms: how the gradient of a solution is computed. Names are those of SciMLSensitivity.jl."""

from __future__ import annotations

from dataclasses import dataclass, field

from pysciml.errors import InvalidInputError

AUTOJACVEC = ("ReverseDiffVJP", "ReverseDiffVJP(true)", "ZygoteVJP", "TrackerVJP", "EnzymeVJP", "MooncakeVJP")


@dataclass(frozen=True)
class SensitivityAlgorithm:
    """What every sensitivity algorithm shares.

    Args:
        reltol, abstol: tolerances of the backward solve; None takes those of the forward solve.
        alg: algorithm of the backward solve; None takes a sound one for the forward algorithm.
        autojacvec: which of Julia's AD differentiates a `JuliaFunction`, by its name there: "ReverseDiffVJP" (the
            default), "ReverseDiffVJP(true)", "ZygoteVJP", "TrackerVJP", "EnzymeVJP", "MooncakeVJP". Torch
            right-hand sides bring their own derivatives and make no use of it.
    """

    reltol: float | None = None
    abstol: float | None = None
    alg: object | None = None
    autojacvec: str | None = field(default=None, kw_only=True)

    def __post_init__(self):
        if self.autojacvec is not None and self.autojacvec not in AUTOJACVEC:
            raise InvalidInputError(f"there is no autojacvec {self.autojacvec!r}.", got=f"{self.autojacvec!r:.80}",
                                    expected=", ".join(AUTOJACVEC), fix='autojacvec="ReverseDiffVJP"')  # fmt: skip
        for name in ("reltol", "abstol"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidInputError(
                    f"`{name}` of the backward solve must be positive.",
                    got=f"{name}={value!r}",
                    fix=f"{type(self).__name__}({name}=1e-6), or leave it out",
                )

    @property
    def name(self) -> str:
        return type(self).__name__


@dataclass(frozen=True)
class GaussAdjoint(SensitivityAlgorithm):
    """Continuous adjoint; the parameter gradient is a quadrature over the backward solution. The default.

    In the julia engine: Gauss quadrature along the steps of the backward solve, our own for compiled models, that of
    SciMLSensitivity.jl for others. In the embedded engine: the checkpointed adjoint of CVODES/IDAS, whose parameter
    quadrature is integrated with the adjoint.

    Reference: Norcliffe and Deisenroth, "Faster training of neural ODEs using Gauss-Legendre quadrature", TMLR 2023;
    Hindmarsh et al., "SUNDIALS", ACM TOMS 31 (2005).
    """


@dataclass(frozen=True)
class InterpolatingAdjoint(SensitivityAlgorithm):
    """Continuous adjoint over an interpolated (or checkpointed) forward solution.

    `checkpoints`: steps between checkpoints, the memory knob: fewer steps hold less of the forward solution and
    re-solve more. None leaves it to the engine.

    Reference: Serban and Hindmarsh, "CVODES", ASME IDETC 2005.
    """

    checkpoints: int | None = None


@dataclass(frozen=True)
class QuadratureAdjoint(SensitivityAlgorithm):
    """Continuous adjoint whose solution is kept; the parameter gradient is adaptive Gauss-Kronrod quadrature over it.

    Accurate for few states and many parameters; memory holds the backward solution too. In the julia engine.

    Reference: Kim et al., "Stiff neural ordinary differential equations", Chaos 31 (2021).
    """


@dataclass(frozen=True)
class ForwardSensitivity(SensitivityAlgorithm):
    """Solves the variational equations beside the state: costs grow with the number of parameters, memory does not.

    For few parameters (up to about a hundred).  Reference: Serban and Hindmarsh, "CVODES", ASME IDETC 2005.
    """


@dataclass(frozen=True)
class BacksolveAdjoint(SensitivityAlgorithm):
    """Solves the state backwards along with its adjoint: constant memory, unstable on stiff or dissipative problems.

    In the julia engine it starts anew from the solution at each of its steps, and raises `UnsupportedError` where it
    loses the solution between two of them. In eager torch it starts anew at each saved time, and nobody looks.

    Reference: Chen et al., "Neural ordinary differential equations", NeurIPS 2018.
    """


@dataclass(frozen=True)
class DirectAdjoint(SensitivityAlgorithm):
    """Backpropagates through every step of the solver (discretise, then optimise).

    The exact gradient of the numbers that the solver gave, with its steps as they are; memory grows with their number.
    In the julia engine for `Tsit5`, whose steps are read backwards, each evaluation of f once: no solve is made
    backwards, and it takes half the time of `GaussAdjoint`. An ensemble on threads keeps nothing of its members and
    solves each once more. In the embedded engine torch goes back through the algorithms of the torchdiffeq adapter, and
    through stochastic solvers.

    Reference: Onken and Ruthotto, "Discretize-Optimize vs. Optimize-Discretize for time-series regression and
    continuous normalizing flows", 2020; Walther, "Automatic differentiation of explicit Runge-Kutta methods for optimal
    control", Comput. Optim. Appl. 36 (2007).

    Example:
        >>> import torch, pysciml as ps
        >>> k = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        >>> prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(1, dtype=torch.float64), (0.0, 2.0))
        >>> sol = ps.solve(prob, ps.Tsit5(), saveat=[1.0, 2.0], sensealg=ps.DirectAdjoint())
        >>> sol.u.sum().backward()
        >>> round(k.grad.item(), 3)
        -1.342
    """


@dataclass(frozen=True)
class SteadyStateAdjoint(SensitivityAlgorithm):
    """The gradient of a steady state, by the implicit function theorem: one linear system with the Jacobian of f.

    It is exact at the solution that was found, whatever way led there. Up to some hundred states the Jacobian is
    factored; where it has more, with its zeros left out, or GMRES takes products with it, as it is neither small nor
    sparse. It has no tolerances and no algorithm. The default, and the only one, for a `SteadyStateProblem`.

    Reference: Krantz and Parks, "The implicit function theorem", Birkhäuser (2002); Bai, Kolter and Koltun, "Deep
    equilibrium models", NeurIPS 2019.
    """


@dataclass(frozen=True)
class CollocationAdjoint(SensitivityAlgorithm):
    """The transpose of a collocation of the variational equation on the steps of the solution: one sweep backwards.

    In the julia engine, for right-hand sides in torch. No solve is made backwards, and nothing starts anew at each
    saved time: on stiff problems it takes a fifth of the time of `GaussAdjoint`, at the same error. It costs the same
    for any number of parameters, and per step a system of stages times states: for up to some dozens of states, or a
    sparse Jacobian. It has no tolerances of its own, but is as good as the steps are; where these do not show what the
    derivative of f in the parameters does, it raises `UnsupportedError`. The only one for a `DDEProblem`, where the
    breaking points are among the steps.

    Example:
        >>> import torch, pysciml as ps
        >>> k = torch.tensor([0.04, 3e7, 1e4], dtype=torch.float64, requires_grad=True)
        >>> def robertson(t, u, k):
        ...     a, b, c = u
        ...     slow, fast, back = k[0] * a, k[1] * b**2, k[2] * b * c
        ...     return torch.stack([back - slow, slow - fast - back, fast])
        >>> prob = ps.ODEProblem(robertson, torch.tensor([1.0, 0, 0], dtype=torch.float64), (0.0, 1e4), k)
        >>> sol = ps.solve(prob, ps.Rodas5P(), sensealg=ps.CollocationAdjoint(), engine="julia")  # doctest: +SKIP
        >>> sol.u[-1, 2].backward()  # doctest: +SKIP

    Args:
        stages: nodes in a step, 2 to 12; None takes as many as the solver's order asks for.

    Reference: Hairer and Wanner, "Solving Ordinary Differential Equations II", IV.5; Sandu, "On the properties of
    Runge-Kutta discrete adjoints", ICCS 2006; for delays Calver and Enright, "Numerical methods for computing
    sensitivities for ODEs and DDEs", Numer. Algorithms 74 (2017).
    """

    stages: int | None = field(default=None, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        if self.stages is not None and not (isinstance(self.stages, int) and 2 <= self.stages <= 12):
            raise InvalidInputError("CollocationAdjoint has 2 to 12 stages.", got=f"stages={self.stages!r:.80}",
                                    fix="pysciml.CollocationAdjoint(stages=6)")  # fmt: skip
        given = [name for name in ("reltol", "abstol", "alg", "autojacvec") if getattr(self, name) is not None]
        if given:
            raise InvalidInputError(
                f"CollocationAdjoint has no {given[0]}: it takes the steps of the solution.",
                got=f"{given[0]}={getattr(self, given[0])!r:.60}", expected="stages",
                fix="pysciml.solve(prob, reltol=..., sensealg=pysciml.CollocationAdjoint())",
            )  # fmt: skip


ALL = (GaussAdjoint, InterpolatingAdjoint, QuadratureAdjoint, ForwardSensitivity, BacksolveAdjoint, DirectAdjoint,
       SteadyStateAdjoint, CollocationAdjoint)  # fmt: skip
