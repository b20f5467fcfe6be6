"""The candidate terms a law may be made of: what they are called, and their values at given states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pysciml.discovery.from_pysindy import from_pysindy
from pysciml.discovery.terms import Functions, Monomials
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
        return Library(tuple(self.terms[i] for i in index), _Picked(self.evaluate, index))


@dataclass(frozen=True, eq=False)
class _Picked:
    evaluate: Callable[[torch.Tensor], torch.Tensor]
    index: list[int]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.evaluate(x)[..., self.index]


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
        made = Library(tuple(library), Functions(tuple(library.values())))
    elif hasattr(library, "transform") and hasattr(library, "get_feature_names"):
        pysindy()
        made = Library(*from_pysindy(library, example, names))
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
    return Library(tuple(_monomial_name(names, row) for row in powers), Monomials(powers))


def _monomial_name(names: Sequence[str], powers: Sequence[int]) -> str:
    raised = (
        name + (str(p).translate(_SUPERSCRIPTS) if p > 1 else "") for name, p in zip(names, powers, strict=True) if p
    )
    return " ".join(raised) or "1"
