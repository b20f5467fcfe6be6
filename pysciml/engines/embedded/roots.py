"""Roots of f: CasADi's Newton method, and MINPACK's trust region through SciPy.

Reference: Andersson et al., "CasADi", Math. Prog. Comp. 11 (2019); Moré, Garbow and Hillstrom, "User guide for
MINPACK-1" (1980).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import casadi as ca
import numpy as np

from pysciml.algorithms import NewtonRaphson
from pysciml.engines.base import RootRequest
from pysciml.engines.embedded.buffers import NumpyFunction
from pysciml.engines.embedded.listen import listening
from pysciml.errors import UnsupportedError
from pysciml.rhs import lower_casadi
from pysciml.rhs.base import CompiledRHS
from pysciml.rhs.callback import CallbackRHS
from pysciml.solution import Stats

_MAXITERS = 200
_FINEST = 1e-14  # of the steps of a search
_FURTHER = 1e-4  # of the tolerance: from a root nearby it is one step or two


def root(request: RootRequest) -> tuple[np.ndarray, Stats]:
    """See `pysciml.engines.base.Engine.root`."""
    start = time.perf_counter()
    find = _by_newton if isinstance(request.alg, NewtonRaphson) else _by_trust_region
    u, nf, njacs = find(request)
    took = time.perf_counter() - start
    return u, Stats(nf=nf, njacs=njacs, wall_time=took, engine="embedded", alg=request.alg.name)


def _by_newton(request: RootRequest) -> tuple[np.ndarray, int, int]:
    if not isinstance(request.rhs, CompiledRHS):
        raise UnsupportedError(
            "`NewtonRaphson` of the embedded engine needs an f that is compiled.", got='route="callback"',
            expected="TrustRegion", fix="pysciml.solve(prob, pysciml.TrustRegion())",
        )  # fmt: skip
    find = _newton(request)
    with listening():
        out, buffer = find.counted(x0=request.u0, p=request.p)
    steps = buffer.stats().get("iter_count", 0)
    return out["x"].ravel(), steps + 1, steps


def _newton(request: RootRequest) -> NumpyFunction:
    """CasADi's own, made once. It goes on to well within the tolerance, another step where it converges at all."""
    rhs = cast("CompiledRHS", request.rhs)
    most, abstol = request.maxiters or _MAXITERS, _FURTHER * float(np.min(request.abstol))
    key = ("newton", most, abstol)
    if key not in rhs.lowered:
        graph = rhs.graph("f", request.program)
        scalar = graph.operations <= lower_casadi.SCALAR_LIMIT
        kind = ca.SX if scalar else ca.MX
        u, p = kind.sym("u", rhs.n), kind.sym("p", rhs.m)
        values = {"t": 0.0, "u": u, "p": p}
        (f,) = lower_casadi.function(graph, "f", scalar).call([kind(values[x]) for x in graph.inputs], True, False)
        options = {"abstol": abstol, "abstolStep": _FINEST, "max_iter": most, "error_on_fail": False}
        finder = ca.rootfinder("root", "newton", {"x": u, "p": p, "g": f}, options)
        rhs.lowered[key] = NumpyFunction(finder)
    return rhs.lowered[key]


class _Found(Exception):  # noqa: N818 - no error
    """A root that is good enough: MINPACK would look on until nothing gets better."""


def _by_trust_region(request: RootRequest) -> tuple[np.ndarray, int, int]:
    from scipy.optimize import root as minpack

    f, jacobian, counts = evaluator(request, "f"), evaluator(request, "jac"), [0, 0]

    def value(u: np.ndarray) -> np.ndarray:
        counts[0] += 1
        found = f(u)
        if (np.abs(found) <= _FURTHER * (request.abstol + request.reltol * np.abs(u))).all():
            raise _Found(u.copy())
        return found

    def slopes(u: np.ndarray) -> np.ndarray:
        counts[1] += 1
        return jacobian(u)

    options = {"xtol": _FINEST, "maxfev": 20 * (request.maxiters or _MAXITERS)}
    try:
        u = minpack(value, request.u0, jac=slopes, method="hybr", options=options).x
    except _Found as end:
        (u,) = end.args
    return u, counts[0], counts[1]


def evaluator(request: RootRequest, kind: str) -> Callable[[np.ndarray], np.ndarray]:
    """u to f or to its Jacobian, in numbers."""
    rhs = request.rhs
    if isinstance(rhs, CallbackRHS):
        called = getattr(rhs, kind)
        return lambda u: called(0.0, np.ascontiguousarray(u), request.p)
    key, graph = ("casadi", kind), cast("CompiledRHS", rhs).graph(kind, request.program)
    if key not in rhs.lowered:
        rhs.lowered[key] = NumpyFunction(lower_casadi.function(graph, kind))
    function = rhs.lowered[key]
    shape = (rhs.n, rhs.n) if kind == "jac" else (rhs.n,)
    return lambda u: function(t=0.0, u=u, p=request.p)["out"].reshape(shape)
