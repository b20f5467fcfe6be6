"""Julia's exceptions as pysciml's, with Julia's own text."""

from __future__ import annotations

import re

import numpy as np

from pysciml.engines.base import Request, explained
from pysciml.errors import PySciMLError, SolveError, UnsupportedError
from pysciml.rhs.callback import CallbackRHS
from pysciml.solution import ReturnCode

_CODES = {
    "MaxIters": ReturnCode.MaxIters, "DtLessThanMin": ReturnCode.DtLessThanMin, "DtNaN": ReturnCode.Unstable,
    "Unstable": ReturnCode.Unstable, "ConvergenceFailure": ReturnCode.ConvergenceFailure,
    "InitialFailure": ReturnCode.InitialFailure,
}  # fmt: skip
_STOPPED = re.compile(r"PySciML\.Stopped: (\w+) (\S+) (\S+)")


class JuliaError(PySciMLError, RuntimeError):
    """Julia threw something; `got` is its own text."""


def translated(error: JuliaError, request: Request, direction: str) -> BaseException:
    """The pysciml error for what Julia raised in a solve: a `SolveError` where the solver stopped.

    Where a sensitivity algorithm is none for the problem it is an `UnsupportedError`. What Python
    raised in a right-hand side that was called back is itself.
    """
    text = error.got or ""
    for rhs in (request.rhs, *(part.rhs for part in request.parts)):
        if "PySciML.CallbackFailed" in text and isinstance(rhs, CallbackRHS) and rhs.raised is not None:
            raised, rhs.raised = rhs.raised, None
            return raised
    stopped = _STOPPED.search(text)
    if stopped is None:
        return JuliaError(f"the {direction} solve by {request.alg.name} failed in Julia.", got=text)
    direction, name, t = stopped[1], stopped[2].rpartition(".")[2], float(stopped[3])
    if name in _UNFIT:
        return _UNFIT[name](request, t)
    return stop(request, direction, returned(name), t, f"{name} from Julia")


def _lost(request: Request, t: float) -> UnsupportedError:
    return UnsupportedError(
        "`BacksolveAdjoint` cannot solve this problem backwards: what decays, as on stiff problems, grows there.",
        got=f"a state at t = {t:.6g} that is not the one of the solution by {request.alg.name}",
        expected="GaussAdjoint, InterpolatingAdjoint or QuadratureAdjoint, which keep the solution",
        fix="sensealg=pysciml.GaussAdjoint()",
    )


def _rough(request: Request, t: float) -> UnsupportedError:
    return UnsupportedError(
        "`CollocationAdjoint` goes by the steps of the solution, and between them the derivative of f in the parameters"
        " does what they do not show: a term that is zero now, for one, times an oscillation.",
        got=f"a step of {request.alg.name} at t = {t:.6g} that is too long for it", expected="GaussAdjoint; or dtmax",
        fix="sensealg=pysciml.GaussAdjoint()",
    )  # fmt: skip


# Where a sensitivity algorithm is none for a problem.
_UNFIT = {"Lost": _lost, "Rough": _rough}


def returned(name: str) -> ReturnCode:
    """The return code that Julia calls so."""
    return _CODES.get(name, ReturnCode.Failure)


def stop(request: Request, direction: str, code: ReturnCode, t: float, detail: str) -> SolveError:
    """The error of a solve that ended with `code` at time `t`, with what to try for that direction."""
    cause, remedy = explained(code, request, t)
    if direction == "backward":
        loose = 10 * float(np.min(request.reltol))
        remedy = (f"sensealg=pysciml.{request.sensealg.name}(alg=pysciml.Rodas5P()), or reltol={loose:g} for the "
                  f"backward solve alone; or {remedy}")  # fmt: skip
    return SolveError(
        f"the {direction} solve by {request.alg.name} stopped at t = {t:.6g}, of the span ({request.t0:g}, "
        f"{request.t1:g}): {code.name}.\nLikely cause: {cause}.",
        retcode=code, t=t, direction=direction, got=detail, fix=remedy,
    )  # fmt: skip
