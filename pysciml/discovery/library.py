"""The candidate terms a law may be made of: what they are called, and their values at given states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pysciml.errors import InvalidInputError, MissingExtraError

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, eq=False)
class Library:
    """Named terms and one function of states (..., d) that gives all their values (..., k), in torch."""

    terms: tuple[str, ...]
    evaluate: Callable[[torch.Tensor], torch.Tensor]

    def pick(self, chosen: Sequence[int]) -> Library:
        """The library of some of these terms."""
        index = list(chosen)
        return Library(tuple(self.terms[i] for i in index), lambda x: self.evaluate(x)[..., index])


def pysindy() -> Any:
    """The pysindy package.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pysindy
    except ImportError as error:
        raise MissingExtraError("pysindy", "discovery", "discover()") from error
    return pysindy


def make_library(library: Any, example: torch.Tensor, names: Sequence[str], exclude: Sequence[str] = ()) -> Library:
    """A Library from what a user may say.

    Args:
        library: a degree; a dict of functions; or a pysindy feature library. example: (n, d) states. names: of the
            states. exclude: terms to leave out.
    """
    if isinstance(library, int) and not isinstance(library, bool) and library >= 1:
        made = polynomials(library, names)
    elif isinstance(library, Mapping) and library and all(callable(f) for f in library.values()):
        made = functions(library)
    elif hasattr(library, "transform") and hasattr(library, "get_feature_names"):
        made = from_pysindy(library, example, names)
    else:
        raise InvalidInputError(
            "library must say which terms a law may have.",
            got=f"library={library!r:.80}",
            fix="library=2",
            expected='a degree >= 1, a dict such as {"x y": lambda x, y: x * y}, or a pysindy library',
        )
    unknown = sorted(set(exclude) - set(made.terms))
    if unknown:
        raise InvalidInputError(
            "exclude names terms the library does not have.", got=", ".join(unknown), expected=", ".join(made.terms)
        )
    return made.pick([i for i, term in enumerate(made.terms) if term not in exclude])


def polynomials(degree: int, names: Sequence[str]) -> Library:
    """All monomials up to a degree, the constant first; the exponents are those of pysindy's PolynomialLibrary."""
    powers = pysindy().PolynomialLibrary(degree=degree).fit(np.zeros((1, len(names)))).powers_.tolist()

    def evaluate(x: torch.Tensor) -> torch.Tensor:
        columns = [_monomial(x, row) for row in powers]
        return torch.stack(columns, dim=-1)

    return Library(tuple(_monomial_name(names, row) for row in powers), evaluate)


def _monomial(x: torch.Tensor, powers: Sequence[int]) -> torch.Tensor:
    value = torch.ones_like(x[..., 0])
    for j, power in enumerate(powers):
        for _ in range(power):
            value = value * x[..., j]
    return value


def _monomial_name(names: Sequence[str], powers: Sequence[int]) -> str:
    raised = (
        name + (str(p).translate(_SUPERSCRIPTS) if p > 1 else "") for name, p in zip(names, powers, strict=True) if p
    )
    return " ".join(raised) or "1"


def functions(table: Mapping[str, Callable]) -> Library:
    """Any functions of the states, `{"x y": lambda x, y: x * y}`; each gets one tensor per state."""
    return Library(tuple(table), lambda x: torch.stack([f(*x.unbind(-1)) for f in table.values()], dim=-1))


def from_pysindy(library: Any, example: torch.Tensor, names: Sequence[str]) -> Library:
    """pysindy's own library: its values come from NumPy, so a law made of it cannot be differentiated or compiled."""
    pysindy()
    fitted = library.fit(example.detach().numpy())

    def evaluate(x: torch.Tensor) -> torch.Tensor:
        flat = fitted.transform(x.detach().reshape(-1, x.shape[-1]).numpy())
        return torch.as_tensor(flat, dtype=x.dtype).reshape(*x.shape[:-1], -1)

    return Library(tuple(fitted.get_feature_names(list(names))), evaluate)
