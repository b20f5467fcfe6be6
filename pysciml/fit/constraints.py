"""Parameters that stay where they mean something: positive, or between bounds."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch.nn.utils import parametrize

from pysciml.errors import InvalidInputError

M = TypeVar("M", bound=torch.nn.Module)


class Positive(torch.nn.Module):
    """Keeps a parameter positive, as the exponential of what is fitted; see `constrain`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.exp()

    def right_inverse(self, value: torch.Tensor) -> torch.Tensor:
        return value.log()

    def __repr__(self) -> str:
        return "Positive()"


class Bounded(torch.nn.Module):
    """Keeps a parameter between two numbers, as a sigmoid of what is fitted; see `constrain`.

    Raises:
        InvalidInputError: bounds that are not finite, or the wrong way round.
    """

    def __init__(self, low: float, high: float):
        super().__init__()
        if not (-float("inf") < low < high < float("inf")):
            raise InvalidInputError("bounds must be two numbers, the lower one first.", got=f"{low!r}, {high!r}",
                                    fix="pysciml.Bounded(0.0, 1.0)")  # fmt: skip
        self.low, self.high = float(low), float(high)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.low + (self.high - self.low) * torch.sigmoid(x)

    def right_inverse(self, value: torch.Tensor) -> torch.Tensor:
        return torch.logit((value - self.low) / (self.high - self.low))

    def __repr__(self) -> str:
        return f"Bounded({self.low:g}, {self.high:g})"


def constrain(module: M, **constraints: torch.nn.Module) -> M:
    """Makes parameters of a module obey constraints, by torch's parametrizations; they begin at their present values.

    The module reads them as before, `module.k`; what an optimizer fits is `module.parametrizations.k.original`.

    Args:
        module: whose parameters. constraints: for each by its name, `Positive()`, `Bounded(low, high)`, or another
            module with `forward` and `right_inverse`; two underscores stand for a dot in the name of a submodule's.

    Returns:
        The module itself.

    Raises:
        InvalidInputError: no such parameter, or a value that the constraint excludes.

    Reference: torch.nn.utils.parametrize.

    Example:
        >>> import torch, pysciml as ps
        >>> class Decay(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.k = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        ...     def forward(self, t, u):
        ...         return -self.k * u
        >>> f = ps.constrain(Decay(), k=ps.Bounded(0.0, 0.8))
        >>> prob = ps.ODEProblem(f, torch.ones(1, dtype=torch.float64), (0.0, 2.0))
        >>> t = torch.linspace(0, 2, 9, dtype=torch.float64)
        >>> result = ps.fit(prob, torch.exp(-t)[:, None], t, stages=("LBFGS", 50), progress="off")  # of k = 1
        >>> round(f.k.item(), 3)
        0.8
    """
    for name, given in constraints.items():
        constraint: Any = given
        *path, last = name.split("__") if "__" in name else [name]
        owner = _submodule(module, path, name)
        value = getattr(owner, last, None)
        if not isinstance(value, torch.nn.Parameter):
            known = ", ".join(n.replace(".", "__") for n, _ in module.named_parameters())
            raise InvalidInputError(f"the module has no parameter {name!r}.", got=type(value).__name__, expected=known,
                                    fix=f"pysciml.constrain(module, {known.split(', ')[0] or 'k'}=...)")  # fmt: skip
        if not hasattr(constraint, "right_inverse"):
            raise InvalidInputError("a constraint is a module with forward and right_inverse.",
                                    got=f"{constraint!r:.60}", fix="pysciml.Positive()")  # fmt: skip
        if not bool(torch.isfinite(constraint.right_inverse(value.detach())).all()):
            raise InvalidInputError(f"{name!r} does not obey its constraint to begin with.",
                                    got=f"{value.detach().tolist()!r:.60}", expected=repr(constraint),
                                    fix=f"with torch.no_grad(): module.{name}.fill_(...)")  # fmt: skip
        parametrize.register_parametrization(owner, last, constraint)
    return module


def _submodule(module: torch.nn.Module, path: list[str], name: str) -> Any:
    try:
        return module.get_submodule(".".join(path))
    except AttributeError:
        raise InvalidInputError(f"the module has no part for {name!r}.", got=".".join(path),
                                expected=", ".join(n for n, _ in module.named_children()) or "none",
                                fix="two underscores stand for a dot: net__weight") from None  # fmt: skip
