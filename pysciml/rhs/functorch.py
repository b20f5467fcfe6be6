"""Right-hand sides under the transforms of torch.func, whose tensors are wrapped: what lies in the wrappers.

`grad`, `vjp`, `jvp` and `vmap` hand a function tensors that stand for others at a level of their own. A solver needs
numbers, and a trace must not see the transforms around the solve. So f is compiled outside of all of them: tensors
that it captured in wrappers are found first, and values put in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from pysciml.rhs.captured import Substituted, met_twice

_C = torch._C._functorch


def active() -> bool:
    """Whether a transform of torch.func is under way."""
    return torch._C._are_functorch_transforms_active()


def transforming() -> bool:
    """Whether one is, or torch.autograd.forward_ad by itself."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def outside() -> Any:
    """A context in which no transform is active."""
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

    return temporarily_clear_interpreter_stack() if active() else nullcontext()


def wrapped(x: Any) -> bool:
    """Whether x is a tensor in a wrapper of torch.func."""
    return isinstance(x, torch.Tensor) and _C.is_functorch_wrapped_tensor(x)


def mapped(x: Any) -> bool:
    """Whether `vmap` maps over x, so that it stands for several tensors."""
    while wrapped(x):
        if _C.is_batchedtensor(x):
            return True
        x = _C.get_unwrapped(x)
    return False


def depends(x: torch.Tensor) -> bool:
    """Whether x is differentiated or mapped: a constant that was made inside of a transform is wrapped, but is not."""
    has_tangent = forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None
    if has_tangent or x.requires_grad or mapped(x):
        return True
    return wrapped(x) and _C.get_unwrapped(x).requires_grad


def values(x: torch.Tensor) -> torch.Tensor:
    """All that lies in the wrappers of x, what `vmap` maps over included, without gradient."""
    if not (wrapped(x) or active()):  # which would wrap the result in turn
        return x.detach()
    while wrapped(x):
        x = _C.get_unwrapped(x)
    with outside():
        return x.detach()


def numbers(x: torch.Tensor) -> np.ndarray:
    """`values` as numpy has them."""
    x = values(x)
    with outside():
        return x.cpu().numpy()


def example(x: torch.Tensor) -> torch.Tensor:
    """The value of x, the first one where `vmap` maps over several, without gradient."""
    places = []
    while wrapped(x):
        if _C.is_batchedtensor(x):
            places.append(_C.maybe_get_bdim(x))
        x = _C.get_unwrapped(x)
    with outside():
        x = x.detach()
        for place in reversed(places):  # a dimension is counted without those of the levels below
            x = x.select(place, 0)
        return x


def number(t: Any) -> float:
    """A time as a plain number, the first one where `vmap` maps over several."""
    if not isinstance(t, torch.Tensor):
        return float(t)
    return float(example(t)) if wrapped(t) else float(t.detach())


class Plain(Substituted):
    """f with plain tensors in the place of those it captured in wrappers, as the solvers and the tracer call it.

    Attributes:
        originals: by id of each plain tensor, the captured one it stands for.
    """

    def __init__(self, f: Callable, captured: Sequence[torch.Tensor]):
        with outside():
            stands = [example(x).clone().requires_grad_() for x in captured]
        super().__init__(f, captured, stands)
        self.originals = dict(zip(map(id, stands), captured, strict=True))


def plain(f: Callable, *args: Any) -> Callable:
    """f itself, or `Plain` where it captured wrapped tensors, which running it twice at `args`, plain ones, shows."""
    found = [
        x for x in met_twice(lambda: f(*args), _carries) if _C.maybe_get_level(x) <= (_C.maybe_current_level() or 0)
    ]
    return Plain(f, found) if found else f


def _carries(x: torch.Tensor) -> bool:
    """Whether a derivative may hang on x that its plain value does not show."""
    return wrapped(x) or (forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None)


def originals(functions: Iterable[Any], captured: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The tensors that functions captured, wrapped ones in the place of the plain tensors that stood for them."""
    known = {i: x for f in functions if isinstance(f, Plain) for i, x in f.originals.items()}
    return [known.get(id(x), x) for x in captured]
