"""What `torch.compile` calls but does not look into."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

_F = TypeVar("_F", bound=Callable[..., Any])
_C = TypeVar("_C")

_WHY = (
    "a solver of pysciml is not made of torch operations, so torch.compile cannot take it into its graph. It breaks "
    "the graph there and calls the solver between the two parts: leave out fullgraph=True"
)


def graph_break(function: _F) -> _F:
    """`function`, at which torch.compile breaks the graph; with fullgraph=True its error says why.

    This is `torch.compiler.disable`, which takes seconds to import the compiler, put off until the compiler is there.
    """
    disabled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo.eval_frame" not in sys.modules:
            return function(*args, **kwargs)
        if not disabled:
            disabled.append(torch.compiler.disable(function, reason=_WHY))
        return disabled[0](*args, **kwargs)

    called._torchdynamo_disable = True  # type: ignore[attr-defined] # what torch.compiler.disable sets
    called._torchdynamo_disable_msg = _WHY  # type: ignore[attr-defined]
    return called  # type: ignore[return-value]


def made_outside(cls: type[_C]) -> type[_C]:
    """The class, at whose construction torch.compile breaks the graph, as `graph_break` does."""
    cls.__init__ = graph_break(cls.__init__)  # type: ignore[method-assign]
    return cls
