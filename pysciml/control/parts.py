"""The two parts of a split problem, prepared apart for a solver that takes them so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pysciml.algorithms import Algorithm, takes_apart
from pysciml.engines.base import RequestPart
from pysciml.errors import UnsupportedError
from pysciml.problems import ODEProblem, Split, plain
from pysciml.rhs import functorch
from pysciml.rhs.parameters import count


def split_parts(
    prob: ODEProblem, alg: Algorithm | None, whole: Any, prepare: Callable, captured_of: Callable
) -> tuple[RequestPart, ...]:
    """Both parts, or none for another problem or for a solver that solves the sum.

    Args:
        whole: the program of the sum, whose parameters those of a part are found among.
        prepare: makes a program and a right-hand side of a problem. captured_of: the tensors that a program captured,
            as the caller has them, whom a transform of torch.func may have put others in the place of.

    Raises:
        UnsupportedError: a first part that is not linear, for a solver that takes it as a matrix.
    """
    if alg is None or not isinstance(prob.f, Split) or not takes_apart(alg):
        return ()
    if alg.problem == "split" and not alg.implicit:
        _check_linear(prob, prob.f.f1, alg)
    ends = np.cumsum([0, *(count(x) for x in whole.parameters)])
    captured = {id(x): i for i, x in enumerate(captured_of(whole), start=len(whole.p))}
    found = []
    for f in (prob.f.f1, prob.f.f2):
        program, rhs = prepare(prob.remake(f=f))
        leaves = [*range(len(whole.p)), *(captured[id(x)] for x in captured_of(program))]
        places = [np.arange(ends[i], ends[i + 1]) for i in leaves]
        found.append(RequestPart(rhs, program, np.concatenate([np.zeros(0, np.int64), *places])))
    return tuple(found)


def _check_linear(prob: ODEProblem, f: Callable, alg: Algorithm) -> None:
    """f1, this f, must be A u, as its values at three points of the state and two of time tell."""
    prob = plain(prob.remake(f=f)) if functorch.transforming() else prob.remake(f=f)
    with functorch.outside():
        linear = _is_linear(prob)
    if not linear:
        raise UnsupportedError(
            f"`{alg.name}` takes f1 as a matrix: f1(t, u) = A u, the same A at all times.", got="an f1 that is not",
            expected="what is not linear in f2; or a solver that is implicit in f1: KenCarp4, ARS343",
            fix="pysciml.solve(prob, pysciml.KenCarp4())",
        )  # fmt: skip


def _is_linear(prob: ODEProblem) -> bool:
    u0 = prob.inputs.u
    t0, t1 = (torch.tensor(t, dtype=u0[0].dtype, device=u0[0].device) for t in prob.span)
    p = () if prob.p is None else (prob.p,)
    generator = torch.Generator().manual_seed(0)
    x, y = ([torch.randn(u.shape, generator=generator).to(u) for u in u0] for _ in range(2))

    def f1(t: torch.Tensor, state: list[torch.Tensor]) -> torch.Tensor:
        with torch.no_grad():
            u = prob.inputs.u_layout.unflatten(torch.cat([s.reshape(-1) for s in state]))
            return torch.cat([s.reshape(-1) for s in torch.utils._pytree.tree_leaves(prob.f(t, u, *p))])

    combined = f1(t0, [3 * a - b for a, b in zip(x, y, strict=True)])
    expected = 3 * f1(t0, x) - f1(t1, y)  # with 2 for 3, a constant in f1 would not show
    slack = 1e-5 if u0[0].dtype is torch.float32 else 1e-9
    return torch.allclose(combined, expected, rtol=slack, atol=slack * float(expected.abs().max()))
