"""What `torch.compile` calls but does not look into."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])

_WHY = (
    "a solver of pysciml is not made of torch operations, so torch.compile cannot take it into its graph. It breaks the "
    "graph there and calls the solver between the two parts: leave out fullgraph=True"
)


def graph_break(function: _F) -> _F:
    """`function`, at which torch.compile breaks the graph; with fullgraph=True its error says why.

    This is `torch.compiler.disable`, which takes seconds to import the compiler, put off until the compiler is there.
    """

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo.eval_frame" in sys.modules:
            return disabled()(*args, **kwargs)
        return function(*args, **kwargs)

    @functools.cache
    def disabled() -> Callable[..., Any]:
        import torch

        return torch.compiler.disable(function, reason=_WHY)

    called._torchdynamo_disable = True  # type: ignore[attr-defined] # what torch.compiler.disable sets
    called._torchdynamo_disable_msg = _WHY  # type: ignore[attr-defined]
    return called  # type: ignore[return-value]
