"""What every algorithm says of itself, and finding one by name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import ClassVar

from pysciml.errors import InvalidInputError

REGISTRY: dict[str, type[Algorithm]] = {}


@dataclass(frozen=True)
class Algorithm:
    """A solver. Class attributes are its traits; fields are its options, under Julia's names.

    Attributes:
        order: order of convergence; for variable-order methods the highest.
        stiff: whether it is meant for stiff problems. dae: whether it takes a singular mass matrix.
        adaptive: whether it chooses its own steps; a fixed-step method needs `dt`.
        package: the Julia package it comes from. torchdiffeq: its name there, or None.
        embedded: whether the embedded engine has it, and by what: "sundials", "torchdiffeq" or None.
        reference: where it was published.
    """

    order: ClassVar[int]
    stiff: ClassVar[bool] = False
    dae: ClassVar[bool] = False
    adaptive: ClassVar[bool] = True
    package: ClassVar[str] = ""
    torchdiffeq: ClassVar[str | None] = None
    embedded: ClassVar[str | None] = None
    reference: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "order"):  # what has no order of its own is a base of others
            REGISTRY[cls.__name__] = cls

    @property
    def name(self) -> str:
        return type(self).__name__


def by_name(name: str, aliases: dict[str, str] | None = None) -> Algorithm:
    """The algorithm of that name with default options.

    Args:
        aliases: other names it may go by, as torchdiffeq's `dopri5` for `DP5`.

    Raises:
        InvalidInputError: no such name; suggests the nearest.
    """
    aliases = aliases or {}
    known = REGISTRY.get(aliases.get(name, name))
    if known is None:
        choices = [*REGISTRY, *aliases]
        lowered = {c.lower(): c for c in choices}
        near = [lowered[c] for c in difflib.get_close_matches(str(name).lower(), lowered, n=3, cutoff=0.5)]
        hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(sorted(choices))}"
        raise InvalidInputError(
            f"there is no algorithm named {name!r}.",
            got=repr(name),
            expected=hint,
            fix=f"pysciml.{aliases.get(near[0], near[0])}()" if near else "pysciml.capabilities()",
        )
    return known()
