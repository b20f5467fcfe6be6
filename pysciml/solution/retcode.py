"""Return codes: how a solve ended, why that usually happens, and what to try. Names are those of SciMLBase.jl."""

from __future__ import annotations

from enum import Enum


class ReturnCode(Enum):
    """How a solve ended. `cause` and `remedy` say in a sentence what that means."""

    Success = ("the end time was reached", "nothing to do")
    Terminated = ("an event ended the solve on purpose", "nothing to do")
    MaxIters = (
        "the step limit was reached: a stiff problem with a non-stiff solver, tolerances too tight, or a solution "
        "that grows without bound",
        "try a stiff solver (CVODE_BDF), looser tolerances, or a larger `maxiters`",
    )
    DtLessThanMin = (
        "the step size fell to rounding error: a singularity or a jump in the right-hand side",
        "look at f near the time reached; scale the state; smooth jumps, or solve up to them",
    )
    Unstable = (
        "the right-hand side gave NaN or infinity, or the state grew without bound",
        "look for log/sqrt/division near zero and for growth in f; start from smaller parameters; bound the network",
    )
    ConvergenceFailure = (
        "the implicit solver's Newton iteration did not converge: a discontinuity, or a singular Jacobian",
        "try another solver, smooth the right-hand side, or loosen the tolerances",
    )
    InitialFailure = (
        "no consistent initial state was found for the algebraic equations",
        "give a u0 that satisfies them more closely",
    )
    Failure = ("the solver stopped without saying why", "see the solver's own message")

    def __init__(self, cause: str, remedy: str):
        self.cause, self.remedy = cause, remedy

    @property
    def successful(self) -> bool:
        return self in (ReturnCode.Success, ReturnCode.Terminated)

    def __repr__(self) -> str:
        return f"ReturnCode.{self.name}"
