"""What events do not go together with yet, and says so."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from pysciml.errors import UnsupportedError
from pysciml.problems import ODEProblem, kind
from pysciml.rhs import functorch

_INSTEAD = {
    "tstops": "PresetTimeCallback(times), which the solver steps on",
    "d_discontinuities": "PresetTimeCallback(times), where the solver starts anew",
    "save_everystep": "saveat=torch.linspace(t0, t1, 50)",
    "save_idxs": "take the states out of sol.u",
    "progress": "leave progress out",
}


def check_alone(prob: ODEProblem, **options: Any) -> None:
    """Raises `UnsupportedError` for options, problems and transforms that a solve with events does not take."""
    for name, value in options.items():
        given = value is not None and value is not False and not (isinstance(value, tuple) and not value)
        if given:
            raise UnsupportedError(f"{name} does not go together with a callback.", got=f"callback and {name}",
                                   fix=_INSTEAD[name])  # fmt: skip
    if functorch.transforming():
        raise UnsupportedError(
            "a solve with a callback cannot be transformed by torch.func.", got="callback in a transform",
            expected="backward()", fix="torch.autograd.grad(loss, parameters)",
        )  # fmt: skip
    if any(isinstance(x, torch.Tensor) and x.is_complex() for x in pytree.tree_leaves((prob.u0, prob.p))):
        raise UnsupportedError("a solve with a callback takes no complex numbers.", got="a complex u0 or p",
                               fix="u0=torch.view_as_real(u0)")  # fmt: skip
    if kind(prob.f) != "ode":
        raise UnsupportedError("a solve with a callback takes no problem in parts.", got=f"a {kind(prob.f)} problem",
                               expected="an ODEProblem", fix="pysciml.ODEProblem(f, u0, tspan)")  # fmt: skip
