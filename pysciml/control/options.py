"""Which options a problem takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pysciml.errors import UnsupportedError


def check_taken(prob: Any, solver: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raises `UnsupportedError` for an option that the problem's own solver has no argument for."""
    takes = solver.__kwdefaults__ or {}
    others = [name for name in given if name not in takes]
    if others:
        raise UnsupportedError(
            f"the solve of {_with_article(type(prob).__name__)} takes no `{others[0]}`.",
            got=f"{others[0]}={given[others[0]]!r:.60}", expected=", ".join(takes), fix=f"leave {others[0]} out",
        )  # fmt: skip


def _with_article(name: str) -> str:
    return f"an {name}" if name[0] in "AEIOS" and name[:2] not in ("St", "Sp") else f"a {name}"
