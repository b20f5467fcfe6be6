"""pysindy's feature libraries in torch, so that laws made of them are differentiated and compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pysciml.discovery.terms import Applied, ByNumPy, Joined, Monomials, Of, OfUfuncs, Products, Values, Waves


def from_pysindy(library: Any, example: torch.Tensor, names: Sequence[str]) -> tuple[tuple[str, ...], Values]:
    """The names of a library's terms, as pysindy gives them, and their values.

    What torch computes is held against what pysindy computes, on `example` (n, d). A library that is not known here, or
    comes out otherwise, keeps pysindy's own values, which have no derivatives.
    """
    fitted = library.fit(example.numpy())
    terms = tuple(fitted.get_feature_names(list(names)))
    made = _in_torch(fitted, example)
    return terms, made if made is not None and _agree(made, fitted, example) else ByNumPy(fitted)


def _in_torch(library: Any, x: torch.Tensor) -> Values | None:
    """The values of a fitted library in torch, or None."""
    import pysindy as sindy

    if isinstance(library, sindy.PolynomialLibrary):
        return Monomials(library.powers_.tolist())
    if isinstance(library, sindy.FourierLibrary):
        return Waves(library.n_frequencies, library.include_sin, library.include_cos)
    if isinstance(library, sindy.CustomLibrary):
        return _custom(library, x)
    if isinstance(library, sindy.ConcatLibrary):
        parts = [_in_torch(part, x) for part in library.libraries]
        return None if None in parts else Joined(parts)  # type: ignore[arg-type]
    if isinstance(library, sindy.TensoredLibrary):
        parts = [_of(*pair, x) for pair in zip(library.libraries, library.inputs_per_library, strict=True)]
        return None if None in parts else Products(parts)  # type: ignore[arg-type]
    return _generalized(library, x) if isinstance(library, sindy.GeneralizedLibrary) else None


def _of(library: Any, inputs: Sequence[int], x: torch.Tensor) -> Values | None:
    """A library of some of the states, each once."""
    places = list(dict.fromkeys(inputs))
    made = _in_torch(library, x[:, places])
    return None if made is None else Of(made, places)


def _generalized(library: Any, x: torch.Tensor) -> Values | None:
    """Libraries of some states each, and products of them, which choose their states themselves."""
    parts: list[Values | None] = []
    for i, part in enumerate(library.libraries_full_):
        if i >= len(library.inputs_per_library):
            parts.append(_in_torch(part, x))
        elif i not in library.exclude_libraries:
            parts.append(_of(part, library.inputs_per_library[i], x))
    return None if None in parts else Joined(parts)  # type: ignore[arg-type]


def _custom(library: Any, x: torch.Tensor) -> Values | None:
    """Functions of the user's, written with torch or with NumPy's ufuncs; None if one is neither."""
    calls: list[tuple[Any, tuple[int, ...]]] = [(None, ())] if library.include_bias else []
    for f in library.functions:
        all_places = list(library._combinations(x.shape[1], f.__code__.co_argcount, library.interaction_only))
        ways = (g for g in (f, OfUfuncs(f)) if all(_runs(g, places, x) for places in all_places))
        taken = next(ways, None)
        if taken is None:
            return None
        calls += [(taken, places) for places in all_places]
    return Applied(calls)


def _runs(f: Any, places: Sequence[int], x: torch.Tensor) -> bool:
    """Whether f takes tensors that require grad: torch's functions do, NumPy's raise."""
    states = x.clone().requires_grad_().unbind(-1)
    try:
        value = f(*[states[j] for j in places])
    except Exception:  # whatever the user's function does with what it was not written for
        return False
    return isinstance(value, (torch.Tensor, int, float))


def _agree(made: Values, fitted: Any, x: torch.Tensor) -> bool:
    """Whether torch computes what pysindy does, where pysindy can: it cannot call torch's functions."""
    try:
        theirs = torch.as_tensor(np.asarray(fitted.transform(x.numpy())))
    except Exception:  # whatever a torch function does with pysindy's arrays
        return True
    ours = made(x)
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-9, atol=1e-12, equal_nan=True)
