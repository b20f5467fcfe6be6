"""Jump processes: counts that change by whole events, each at a rate that depends on the counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch

from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.problems.mass_action import MassAction
from pysciml.problems.ode import Time, _check_tspan
from pysciml.rhs.functorch import number
from pysciml.rhs.julia_source import JuliaFunction
from pysciml.rhs.parameters import Inputs, as_floating
from pysciml.under_compile import made_outside

_COUNTS = (torch.int64, torch.int32, torch.float64, torch.float32)


@made_outside
@dataclass(frozen=True, eq=False)
class JumpProblem:
    """A pure jump process: channel j fires at the rate `rates(t, u)[j]` and then adds `changes[j]` to u.

    Args:
        rates: a torch function or module `rates(t, u)`, or `rates(t, u, p)` when `p` is given, which returns the (R,)
            rates of the channels, none negative; or `MassAction`, which is faster and which `RSSA` needs. `u` comes
            as a float64 tensor (n,).
        changes: (R, n), what each channel adds to u when it fires; whole numbers where u0 is one of integers.
        u0: the state at `tspan[0]`, (n,), mostly counts: float64, float32, int64 or int32. The results have its dtype;
            between, all is float64.
        tspan: `(t0, t1)` with t0 < t1. p: parameters, a pytree of floating tensors; those of modules, and tensors that
            the rates capture, are found by themselves.

    `solve` of it takes `saveat`, `dt`, `maxiters`, `seed`, `engine` and `route`, and gives one
    path, a `JumpSolution`. It is solved exactly (`Direct`, `SortingDirect`, `NRM`, `DirectCR`, `RSSA`, `RSSACR`), where
    rates depend on t through u alone, or by leaps of many events (`SimpleTauLeaping`, `SimpleExplicitTauLeaping`). Many
    paths in one call: `solve_ensemble(EnsembleProblem(prob, trajectories=1000))`. Julia alone has libraries for this.

    Gradients: a path is piecewise constant, so its own derivative is zero almost everywhere and says nothing of the
    mean; `sol.u` refuses to be differentiated. The derivative of a mean comes from `sol.log_likelihood()`, the score
    function estimator: for any function h of paths, that of E[h] in p is E[h * d log L / dp].

    Raises:
        InvalidInputError: a u0 that is no vector of numbers; changes of another shape, or not whole; a span that does
            not go forwards. From `solve`: rates of another shape. SolveError: a rate is negative or NaN; more events
            than maxiters. UnsupportedError: the embedded engine; rates that depend on t, solved exactly.

    Reference: Gillespie, "Exact stochastic simulation of coupled chemical reactions", J. Phys. Chem. 81 (1977); for
    gradients Glynn, "Likelihood ratio gradient estimation for stochastic systems", Comm. ACM 33 (1990).

    Example:
        >>> import torch, pysciml as ps
        >>> rates = lambda t, u, p: torch.stack([p[0], p[1] * u[0]])  # births at a rate of p[0], deaths of p[1] each
        >>> p = torch.tensor([10.0, 1.0], dtype=torch.float64, requires_grad=True)
        >>> prob = ps.JumpProblem(rates, [[1], [-1]], torch.tensor([5.0]).double(), (0.0, 2.0), p)
        >>> prob
        JumpProblem(<lambda>, 2 channels, u0: [1] torch.float64, tspan=(0, 2))

    With Julia there, the gradient of the mean number at t = 2 is, with the mean subtracted, which takes away noise::

        sol = ps.solve_ensemble(ps.EnsembleProblem(prob, trajectories=10_000), seed=1)
        u = sol.u[:, -1, 0].detach()
        ((u - u.mean()) * sol.log_likelihood()).mean().backward()  # p.grad: 0.86, -1.99 up to noise
    """

    rates: Callable
    changes: Any
    u0: Any
    tspan: tuple[Time, Time]
    p: Any = None

    def __post_init__(self):
        if isinstance(self.rates, JuliaFunction):
            raise UnsupportedError("rates must be a torch function or module, or MassAction.", got="a JuliaFunction",
                                   expected="def rates(t, u): ...", fix="write them in torch")  # fmt: skip
        if not callable(self.rates):
            raise InvalidInputError("rates must be callable.", got=type(self.rates).__name__,
                                    fix="def rates(t, u): ...")  # fmt: skip
        object.__setattr__(self, "u0", self.as_state(self.u0))
        if self.u0.dim() != 1 or self.u0.numel() == 0:
            raise InvalidInputError("the state of a jump process is a vector.",
                                    got=f"u0 of shape {list(self.u0.shape)}", expected="(n,)",
                                    fix="u0=u0.reshape(-1)")  # fmt: skip
        object.__setattr__(self, "changes", _changes(self.changes, self.u0))
        object.__setattr__(self, "tspan", _check_tspan(self.tspan))
        if self.p is not None:
            object.__setattr__(self, "p", as_floating(self.p, "p"))
        if self.span[1] < self.span[0]:
            raise InvalidInputError("a jump process is solved forwards in time.", got=f"tspan={self.span}",
                                    fix="tspan=(0.0, 1.0)")  # fmt: skip
        if isinstance(self.rates, MassAction):
            self.rates.check(self.changes, self.u0)

    @staticmethod
    def as_state(u0: Any) -> torch.Tensor:
        """u0 as a tensor of one of the dtypes that a state may have."""
        x = u0 if isinstance(u0, torch.Tensor) else torch.as_tensor(u0)
        if x.dtype not in _COUNTS or (x.is_floating_point() and not torch.isfinite(x).all()):
            raise InvalidInputError(
                "the state of a jump process is a tensor of finite numbers.", got=f"u0 of {x.dtype}: {x!r:.60}",
                expected="float64, float32, int64 or int32", fix="u0=torch.tensor([100.0, 0.0], dtype=torch.float64)",
            )  # fmt: skip
        return x

    @cached_property
    def inputs(self) -> Inputs:
        """The tensors that the rates are called with, and their structures."""
        return Inputs.of(self.u0.double(), self.p)

    @property
    def channels(self) -> int:
        """R, the number of channels."""
        return self.changes.shape[0]

    @property
    def span(self) -> tuple[float, float]:
        """`tspan` as plain numbers."""
        return number(self.tspan[0]), number(self.tspan[1])

    def remake(self, **changes: Any) -> JumpProblem:
        """The same problem with some fields changed: `prob.remake(u0=...)`."""
        unknown = changes.keys() - self.__dataclass_fields__.keys()
        if unknown:
            raise InvalidInputError(f"a JumpProblem has no field {sorted(unknown)[0]!r}.",
                                    got=", ".join(sorted(unknown)),
                                    expected=", ".join(self.__dataclass_fields__))  # fmt: skip
        return replace(self, **changes)

    def __repr__(self) -> str:
        name = getattr(self.rates, "__name__", type(self.rates).__name__)
        return (f"JumpProblem({name}, {self.channels} channels, u0: {list(self.u0.shape)} {self.u0.dtype}, tspan=("
                f"{self.span[0]:g}, {self.span[1]:g}))")  # fmt: skip


def _changes(changes: Any, u0: torch.Tensor) -> torch.Tensor:
    """(R, n) float64."""
    x = torch.as_tensor(changes).detach().to(device="cpu", dtype=torch.float64)
    if x.dim() != 2 or x.shape[1] != u0.numel() or not x.numel() or not torch.isfinite(x).all():
        raise InvalidInputError("changes must be finite, with a row for each channel and a column for each state.",
                                got=f"shape {list(x.shape)}", expected=f"(R, {u0.numel()})",
                                fix=f"changes=torch.zeros(R, {u0.numel()})")  # fmt: skip
    if not u0.is_floating_point() and (x != x.round()).any():
        raise InvalidInputError("integers change by whole numbers.", got=f"changes={x.tolist()!r:.60} of {u0.dtype}",
                                expected="whole numbers", fix="u0=u0.double()")  # fmt: skip
    return x
