"""Complex states: to an engine each number is a pair of real ones, to f and to the user it is what it was.

Gradients follow torch's convention: for a real loss L, `x.grad` is dL/d(re x) + i dL/d(im x). That of a pair is this
very pair, so splitting and joining them in torch is all that the boundary takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.control.saving import picked, places
from pysciml.errors import InvalidInputError
from pysciml.problems import ODEProblem
from pysciml.solution import Solution


def is_complex(tree: Any) -> bool:
    """Whether any leaf is."""
    if isinstance(tree, torch.Tensor):  # what most trees are, at a tenth of the price
        return tree.is_complex()
    return any(isinstance(x, torch.Tensor) and x.is_complex() for x in pytree.tree_leaves(tree))


class Pairs:
    """A right-hand side of complex numbers as one of pairs.

    Args:
        f: the user's. u, p: whether the state's and the parameters' numbers are complex.
    """

    def __init__(self, f: Callable, u: bool, p: bool):
        self.f, self._u, self._p = f, u, p
        self.inner_functions = (f,)

    def __call__(self, t: torch.Tensor, u: Any, *p: Any) -> Any:
        du = self.f(t, _complex(u) if self._u else u, *(_complex(p) if self._p else p))
        return _real(du, self._u)


def _complex(tree: Any) -> Any:
    # Not torch.view_as_complex, nor its opposite: they ask for pairs that begin at an even place of their memory.
    return pytree.tree_map(lambda x: torch.complex(x[..., 0], x[..., 1]), tree)


def _real(tree: Any, wanted: bool) -> Any:
    leaves = [x for x in pytree.tree_leaves(tree) if isinstance(x, torch.Tensor)]
    wrong = next((x for x in leaves if x.is_complex() != wanted), None)
    if wrong is not None:
        raise InvalidInputError(
            f"du/dt of a {'complex' if wanted else 'real'} state must be {'complex' if wanted else 'real'}.",
            got=f"{wrong.dtype}", fix="return -1j * (H @ u)" if wanted else "u0.to(torch.complex128)",
        )  # fmt: skip
    return pytree.tree_map(lambda x: torch.stack([x.real, x.imag], dim=-1) if wanted else x, tree)


def solve_as_pairs(
    solve: Callable[..., Solution], prob: ODEProblem, alg: Any, reltol: Any, abstol: Any, save_idxs: Any
) -> Solution:
    """`solve` of a problem with complex numbers in its state or its parameters; options as of `pysciml.solve`."""
    u, p = is_complex(prob.u0), is_complex(prob.p)
    chosen = None if save_idxs is None else places(prob, save_idxs)
    reltol, abstol = (_of_pairs(x) if u else x for x in (reltol, abstol))
    mass = prob.mass_matrix if prob.mass_matrix is None or not u else _of_pairs(prob.mass_matrix)
    pairs = ODEProblem(Pairs(prob.f, u, p), _real(prob.u0, u), prob.tspan, _real(prob.p, True) if p else prob.p, mass)
    sol = solve(pairs, alg, reltol=reltol, abstol=abstol)

    def whole(tree: Any) -> Any:
        states = _complex(tree) if u else tree
        return states if chosen is None else picked(chosen, states)

    return replace(sol, u=whole(sol.u), prob=prob, _dense=lambda ts: whole(sol._dense(ts)))


def _of_pairs(tolerance: Any) -> Any:
    """One for each state, in u0's structure, as one for each real number; numbers stay."""
    if tolerance is None or isinstance(tolerance, (int, float)):
        return tolerance
    return pytree.tree_map(lambda x: torch.stack([torch.as_tensor(x)] * 2, dim=-1), tolerance)
