"""The one error fitting adds: a run that cannot go on, with what it had reached."""

from __future__ import annotations

from typing import Any

from pysciml.errors import PySciMLError


class FitError(PySciMLError, RuntimeError):
    """The fit cannot go on. What it had found is not lost: the fitted tensors hold the best values so far.

    Attributes:
        result: the `pysciml.FitResult` up to here, or None when not even the first loss could be computed.
    """

    def __init__(self, what: str, *, result: Any = None, **parts: str | None):
        self.result = result
        super().__init__(what, **parts)


class Setback(Exception):  # noqa: N818 - never reaches a user: the loop catches it, and says it with FitError at worst
    """This step led to where there is no loss. `cause` is the SolveError, or None for a loss that is not finite."""

    def __init__(self, reason: str, cause: Exception | None = None):
        self.reason, self.cause = reason, cause
        super().__init__(reason)
