"""The tolerances of a solve."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.algorithms import Algorithm
from pysciml.errors import InvalidInputError, PySciMLWarning, UnsupportedError
from pysciml.problems import ODEProblem
from pysciml.rhs import functorch

_DEFAULT_TOLERANCES = {torch.float64: (1e-6, 1e-8), torch.float32: (1e-4, 1e-6)}


def tolerances(prob: ODEProblem, reltol: Any, abstol: Any) -> tuple[Any, Any]:
    """Both tolerances, checked, with the defaults of the state's dtype."""
    leaf = prob.inputs.u[0]
    default = _DEFAULT_TOLERANCES[leaf.dtype]
    reltol = default[0] if reltol is None else reltol
    abstol = default[1] if abstol is None else abstol
    reltol, abstol = (_tolerance(prob, *given) for given in (("reltol", reltol), ("abstol", abstol)))
    for name, value in (("abstol", abstol), ("reltol", reltol)):
        smallest = float(value.min()) if isinstance(value, torch.Tensor) else value
        if not (math.isfinite(smallest) and smallest > 0):
            raise InvalidInputError(
                f"{name} must be positive.", got=f"{name}={smallest!r}", fix=f"{name}={default[0]:g}"
            )
    if leaf.dtype is torch.float32 and smallest < 1e-6:
        warnings.warn(
            f"reltol={smallest:g} is finer than float32 resolves (1e-7): use float64 for it.",
            PySciMLWarning,
            stacklevel=3,
        )
    return reltol, abstol


def _tolerance(prob: ODEProblem, name: str, value: Any) -> float | torch.Tensor:
    """A number for all states, or (n,) of them."""
    if isinstance(value, (int, float)):
        return float(value)
    single = isinstance(value, torch.Tensor) and value.numel() == 1
    each = value if single else _tolerance_per_state(prob, name, value)
    if functorch.mapped(each):
        raise UnsupportedError(f"{name} cannot differ among the members of a vmap.", got=f"{name} of a vmap",
                               expected="the same for all", fix=f"{name}=1e-8")  # fmt: skip
    return functorch.number(each) if single else functorch.example(each)


def _tolerance_per_state(prob: ODEProblem, name: str, value: Any) -> torch.Tensor:
    u_leaves = prob.inputs.u
    leaves, spec = pytree.tree_flatten(value)
    tensors = [torch.as_tensor(x, dtype=torch.float64) for x in leaves]
    if spec != prob.inputs.u_layout.spec or any(
        x.shape not in (u.shape, ()) for x, u in zip(tensors, u_leaves, strict=True)
    ):
        raise InvalidInputError(f"{name} must be a number, or one per state in the structure of u0.",
                                got=f"shapes {[list(x.shape) for x in tensors]}", fix=f"{name}=1e-8")  # fmt: skip
    return torch.cat([x.expand(u.shape).reshape(-1) for x, u in zip(tensors, u_leaves, strict=True)])


def check_tolerances(alg: Algorithm, reltol: Any, abstol: Any) -> None:
    """Raises `UnsupportedError` if the solver takes one tolerance for all states, and got one each.

    SUNDIALS has one reltol; implicit solvers of OrdinaryDiffEq.jl hand theirs on to LinearSolve.jl, which takes a
    number. OrdinaryDiffEqFIRK keeps both as numbers.
    """
    if isinstance(abstol, torch.Tensor) and alg.package == "OrdinaryDiffEqFIRK":
        raise UnsupportedError(
            f"`{alg.name}` takes one abstol for all states.", got=f"{abstol.numel()} of them",
            expected="one; or another implicit solver: Rodas5P, FBDF, KenCarp4",
            fix="pysciml.solve(prob, pysciml.Rodas5P(), abstol=...)",
        )  # fmt: skip
    if isinstance(reltol, torch.Tensor) and (alg.package == "Sundials" or alg.implicit or alg.autoswitch):
        raise UnsupportedError(
            f"`{alg.name}` takes one reltol for all states.", got=f"{reltol.numel()} of them",
            expected="abstol, which may be one per state; or an explicit solver: Tsit5, Vern7, DP5",
            fix=f"pysciml.solve(prob, pysciml.{alg.name}(), reltol={float(reltol.min()):g}, abstol=...)",
        )  # fmt: skip
