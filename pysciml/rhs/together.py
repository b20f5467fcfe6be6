"""Functions of one problem, compiled together, or all of them called back where one cannot be."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from pysciml.errors import PySciMLWarning, TraceError
from pysciml.rhs.callback import prepare_callback
from pysciml.rhs.parameters import Inputs
from pysciml.rhs.trace import prepare_for


def prepare_together(
    functions: Sequence[Any], route: str | None, unless: str, stacklevel: int
) -> list[tuple[Any, Any]]:
    """The program and the right-hand side of each, on the route asked for; None compiles where that is possible.

    Args:
        functions: each with f, u0, tspan and p as an `ODEProblem` has them.
        unless: the beginning of the warning where one cannot be compiled: "f or g cannot be compiled, so both are".
        stacklevel: how many calls above this one the user's is.

    Raises:
        TraceError: route="compiled", and one of them cannot be.
    """
    if route != "callback":
        try:
            return [prepare_for(x.f, x.tspan[0], Inputs.of(x.u0, x.p)) for x in functions]
        except TraceError as refusal:
            if route == "compiled":
                raise
            warnings.warn(f"{unless} called back from Julia, which is slower:\n{refusal}", PySciMLWarning,
                          stacklevel=stacklevel)  # fmt: skip
    return [prepare_callback(x) for x in functions]
