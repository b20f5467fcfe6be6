"""Every exception pysciml raises: one tree, each with its data and a way out.

A message has up to four parts: what is wrong, what was got, what would work, and the line to type. The parts are
kept as data (`got`, `expected`, `fix`), so that callers can act on them and tests can check them.
"""

from __future__ import annotations


class PySciMLError(Exception):
    """Base of all errors raised on purpose by pysciml.

    Args:
        what: one sentence that says what is wrong.
        got: what was found instead.
        expected: what would have been accepted.
        fix: the remedy, best as a line the user can type.
    """

    def __init__(self, what: str, *, got: str | None = None, expected: str | None = None, fix: str | None = None):
        self.what, self.got, self.expected, self.fix = what, got, expected, fix
        super().__init__(self._text())

    def _text(self) -> str:
        parts = (("", self.what), ("Got ", self.got), ("Expected ", self.expected), ("Fix: ", self.fix))
        return "\n".join(label + text for label, text in parts if text)

    def __reduce__(self):
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[PySciMLError], args: tuple, facts: dict) -> PySciMLError:
    """An error from another process, as it was there: its constructor would ask for more than its text."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


class InvalidInputError(PySciMLError, ValueError):
    """An argument cannot mean anything: wrong shape, dtype, order, range or name."""


class UnsupportedError(PySciMLError, NotImplementedError):
    """The request makes sense, but this engine, algorithm or route cannot do it; names what can."""


class TraceError(PySciMLError):
    """The right-hand side cannot be compiled from torch.

    Attributes:
        op: the torch operation that stopped the trace, or None.
        location: `file:line` in the user's code, or None.
    """

    def __init__(self, what, *, op=None, location=None, source=None, **parts):
        self.op, self.location, self.source = op, location, source
        super().__init__(what, **parts)

    def _text(self) -> str:
        where = f"\nAt {self.location}" + (f":\n    {self.source}" if self.source else "") if self.location else ""
        head, _, tail = super()._text().partition("\n")
        return head + where + ("\n" + tail if tail else "")


class SolveError(PySciMLError, RuntimeError):
    """The forward or the backward solve ended before its end time.

    Attributes:
        retcode: the `pysciml.ReturnCode` it ended with.
        t: the time reached, in the units of `tspan`; NaN when the solver did not say.
        direction: "forward" or "backward".
        stats: what the solver had counted by then (`pysciml.Stats`), or None.
    """

    def __init__(self, what, *, retcode, t=float("nan"), direction="forward", stats=None, **parts):
        self.retcode, self.t, self.direction, self.stats = retcode, t, direction, stats
        super().__init__(what, **parts)


class WorkerError(PySciMLError, RuntimeError):
    """The workers of an executor could not be started, or died again and again."""


class EngineMissingError(PySciMLError, RuntimeError):
    """The engine that was asked for is not installed here."""


class MissingExtraError(PySciMLError, ImportError):
    """An optional dependency is needed; names the extra that brings it."""

    def __init__(self, package: str, extra: str, purpose: str):
        self.package, self.extra = package, extra
        super().__init__(
            f"{purpose} needs the package `{package}`, which is not installed.", fix=f'pip install "pysciml[{extra}]"'
        )


class PySciMLWarning(UserWarning):
    """Base of all warnings pysciml gives."""
