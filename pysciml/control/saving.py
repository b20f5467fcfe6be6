"""What of a solution is saved: all of its steps, or some of its states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml import autograd
from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.problems import ODEProblem
from pysciml.rhs.parameters import leaf_names


def every_step(call: autograd.Call, t0: Any, leaves: Sequence[torch.Tensor]) -> torch.Tensor:
    """Solves, and gives the times the solver stepped on; the states there are then taken from that solve.

    The number of steps is not known before, and autograd shall see an ordinary solve saved at given times: so this one
    is kept out of it, and `autograd.solve` interpolates it where it is exact, at its steps. It is one solve.

    Raises:
        UnsupportedError: an engine that cannot say where it stepped.
    """
    if not call.engine.tells_steps:
        raise UnsupportedError(
            "CasADi does not say where SUNDIALS stepped.", got="save_everystep=True in the embedded engine",
            expected="saveat, or a solver that says it: those of Julia, and DP5() and its kin of torchdiffeq",
            fix="pysciml.solve(prob, pysciml.DP5(), save_everystep=True)",
        )  # fmt: skip
    call.dense = autograd.solve_first(call, t0, leaves)
    return torch.from_numpy(call.engine.steps(call.dense))


def places(prob: ODEProblem, save_idxs: Any) -> Any:
    """`save_idxs` checked: an integer, a list of them, or names with the place of each leaf.

    Raises:
        InvalidInputError: no such state.
    """
    many: list[Any] = [save_idxs] if isinstance(save_idxs, (int, str)) else list(save_idxs)
    if many and all(isinstance(x, str) for x in many):
        known = _names(prob.u0)
        for name in many:
            if name not in known:
                raise _no_such(repr(name), ", ".join(repr(n) for n in known if "[" not in n) or "indices")
        return {name: known[name] for name in many}
    n = prob.inputs.u_layout.size
    strange = [x for x in many if not hasattr(x, "__index__") or isinstance(x, bool)]
    if strange:
        raise _no_such(repr(strange[0]), "all integers, or all names")
    many = [int(x) for x in many]
    bad = [i for i in many if not -n <= i < n]
    if bad or not many:
        raise _no_such(
            str(bad[0]) if bad else "none", f"0 to {n - 1}, places in the flat state, or names of its leaves"
        )
    return many[0] if isinstance(save_idxs, int) else many


def _no_such(got: str, expected: str) -> InvalidInputError:
    return InvalidInputError("save_idxs names states to save.", got=f"save_idxs with {got}", expected=expected,
                             fix="save_idxs=[0]")  # fmt: skip


def _names(u0: Any) -> dict[str, int]:
    """What a leaf may be called: by its path, `['prey']`, or its keys, `prey` and `cell.mass`."""
    paths, _ = pytree.tree_flatten_with_path(u0)
    short = [".".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path)
             for path, _ in paths]  # fmt: skip
    return {name: i for names in (leaf_names(u0, ""), short) for i, name in enumerate(names) if name}


def picked(chosen: Any, u: Any) -> Any:
    """What `places` chose out of states in the structure of u0, each leaf (k, *shape)."""
    leaves = pytree.tree_leaves(u)
    if isinstance(chosen, dict):
        return {name: leaves[i] for name, i in chosen.items()}
    flat = torch.cat([x.reshape(x.shape[0], -1) for x in leaves], dim=1)
    return flat[:, chosen]
