"""From a guess to states at nodes that are near a solution: what each algorithm does by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.algorithms import Algorithm, Collocation4, MultiShooting, Shooting
from pysciml.boundary import mesh
from pysciml.boundary.conditions import Conditions
from pysciml.boundary.flow import Flow, unpacked
from pysciml.boundary.numbers import Numbers
from pysciml.boundary.system import gradients
from pysciml.errors import SolveError, UnsupportedError
from pysciml.problems import BVProblem
from pysciml.rhs import functorch
from pysciml.rhs.parameters import pack
from pysciml.solution import ReturnCode

_FIRST = 11  # points of a mesh to begin with, where the guess has none
_COARSE = 1e-5  # what collocation is asked for at most: shooting goes on from there


class Start(NamedTuple):
    """Places of nodes, from 0 to 1, and states (k, n) at them."""

    nodes: np.ndarray
    states: np.ndarray


def start(prob: BVProblem, alg: Algorithm, flow: Flow, conditions: Conditions, f: Numbers, x: np.ndarray,
          reltol: float, in_julia: Callable[..., Any]) -> Start:  # fmt: skip
    """What is near a solution.

    Args:
        f: the right-hand side in numbers. x: the parameters and the ends of the span. in_julia: solves by Julia.

    Raises:
        SolveError: there is none that was found. UnsupportedError: conditions that the algorithm cannot take.
    """
    t0, t1 = x[-2:]
    if isinstance(alg, (Shooting, MultiShooting)):
        nodes = np.linspace(0.0, 1.0, (alg.nshoots if isinstance(alg, MultiShooting) else 1) + 1)
        return Start(nodes, guessed(prob, t0 + (t1 - t0) * nodes))
    points = _FIRST if isinstance(alg, Collocation4) else alg.nodes  # type: ignore[attr-defined] # a MIRK
    ts = t0 + (t1 - t0) * np.linspace(0.0, 1.0, points)
    us = guessed(prob, ts)
    if isinstance(alg, Collocation4):
        ts, us = _collocated(prob, alg, flow, conditions, f, x, ts, us, max(reltol, _COARSE))
    else:
        ts, us = in_julia(alg, ts, us, x, max(reltol, _COARSE))
    nodes = mesh.chosen(f, ts, us)
    return Start(nodes, mesh.sampled(ts, us, t0 + (t1 - t0) * nodes))


def guessed(prob: BVProblem, ts: np.ndarray) -> np.ndarray:
    """The states (k, n) of the guess at times."""
    with functorch.outside(), torch.no_grad():
        if callable(prob.u0):
            return np.stack([_flat(prob.u0(torch.tensor(t, dtype=torch.float64))) for t in ts])
        if prob.times is None:
            return np.tile(_flat(prob.u0), (ts.size, 1))
        given = functorch.numbers(torch.as_tensor(prob.times, dtype=torch.float64))
        leaves = [functorch.numbers(torch.as_tensor(x)) for x in pytree.tree_leaves(prob.u0)]
        return mesh.sampled(given, np.concatenate([x.reshape(given.size, -1) for x in leaves], axis=1), ts)


def _flat(state: Any) -> np.ndarray:
    return pack([functorch.example(torch.as_tensor(x)) for x in pytree.tree_leaves(state)])


def _collocated(prob: BVProblem, alg: Collocation4, flow: Flow, conditions: Conditions, f: Numbers, x: np.ndarray,
                ts: np.ndarray, us: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    from pysciml.engines.embedded.collocation import collocate  # imports SciPy: only when it solves

    if not conditions.two_point:
        raise UnsupportedError(
            "`Collocation4` takes conditions at the two ends alone.", got="a BVProblem",
            expected="a TwoPointBVProblem; or MultiShooting, or MIRK4 with Julia",
            fix="pysciml.solve(prob, pysciml.MultiShooting())",
        )  # fmt: skip
    at_ends = of_ends(flow, conditions, x)
    found = collocate(
        lambda ts, us: f("f", ts, us), lambda ts, us: f("jac", ts, us), lambda ua, ub: at_ends(ua, ub)[0],
        lambda ua, ub: at_ends(ua, ub)[1], ts, us, tol, alg.max_nodes,
    )  # fmt: skip
    if not found.found or not np.isfinite(found.us).all():
        raise SolveError(
            f"Collocation4 found no solution: {ReturnCode.ConvergenceFailure.name}.\nLikely cause: no solution near "
            "the guess, or a layer that takes more points than there may be.", retcode=ReturnCode.ConvergenceFailure,
            got=f"{found.said} ({found.ts.size} points)", expected="a mesh on which the residual is small",
            fix="a guess u0 that is nearer, as a function of t or an earlier solution; or Collocation4(max_nodes=...)",
        )  # fmt: skip
    return found.ts, found.us


def of_ends(flow: Flow, conditions: Conditions, x: np.ndarray) -> Callable[..., tuple[np.ndarray, tuple]]:
    """Both ends in numbers to the residuals (n,), and to their derivatives (n, n) in each."""
    like = [*flow.prob.inputs.p, *flow.captured, *conditions.captured]
    parameters = unpacked(torch.from_numpy(x[:-2].copy()), like)
    own = flow.own(parameters[: len(flow.prob.inputs.p)])
    others = parameters[len(parameters) - len(conditions.captured) :]

    def evaluated(ua: np.ndarray, ub: np.ndarray) -> tuple[np.ndarray, tuple]:
        ends = [torch.from_numpy(np.array(u)).requires_grad_() for u in (ua, ub)]
        with torch.enable_grad():
            both = [flow.state(u) for u in ends]
            out = conditions(None, (both[0], both[1]), own, others)  # type: ignore[arg-type] # at the ends alone
            rows = [gradients(y, ends) for y in out]
        slopes = tuple(np.stack([row[i].numpy() for row in rows]) for i in range(2))
        return out.detach().numpy(), slopes

    return evaluated
