"""The channels of a problem: their rates compiled or called back, and which rates depend on which states."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from pysciml.engines.base import RequestPart
from pysciml.errors import InvalidInputError
from pysciml.problems import JumpProblem, MassAction
from pysciml.rhs.captured import captured
from pysciml.rhs.padded import Padded
from pysciml.rhs.sparsity import dependence
from pysciml.rhs.together import prepare_together


@dataclass(eq=False)
class Network:
    """A problem as an engine takes it.

    Attributes:
        rates: the rates in a square, or None of mass action. reactants: those of mass action, else None.
        captured: the tensors that the rates reach for by themselves; after p they are the parameters.
        depends: (R, n), 1 where a rate depends on a state. timed: whether a rate depends on t, as far as is known.
    """

    rates: RequestPart | None
    reactants: np.ndarray | None
    captured: list[torch.Tensor]
    depends: np.ndarray
    timed: bool


def prepare(prob: JumpProblem, route: str | None) -> Network:
    """Compiles the rates, or makes them ready to be called back, as `route` says; None compiles where it can.

    Raises:
        TraceError: route="compiled", and they cannot be. InvalidInputError: there are not as many as changes.
    """
    _check_rates(prob)
    if isinstance(prob.rates, MassAction):
        return _of_mass_action(prob, prob.rates)
    padded = Padded(_flat(prob), prob.u0.numel(), prob.channels, of=(prob.rates,))
    u = torch.cat([prob.inputs.u[0], prob.inputs.u[0].new_zeros(padded.n - prob.u0.numel())]).detach()
    rates = SimpleNamespace(f=padded, u0=u, tspan=prob.tspan, p=prob.p)
    ((program, rhs),) = prepare_together([rates], route, "the rates cannot be compiled, so Python is", stacklevel=6)
    depends, timed = _looked_at(prob, rhs, program, u)
    return Network(RequestPart(rhs, program, np.zeros(0, np.int64)), None, program.captured, depends, timed)


def _looked_at(prob: JumpProblem, rhs: Any, program: Any, u: torch.Tensor) -> tuple[np.ndarray, bool]:
    """Which rates depend on which states, and whether on t: by their graph, or else all, and by values at both ends."""
    if hasattr(rhs, "graph"):
        graph = rhs.graph("f", program)
        depends = dependence(graph)[: prob.channels, : prob.u0.numel()].toarray().astype(np.int64)
        return np.ascontiguousarray(depends), graph.depends_on("t")
    everything = np.ones((prob.channels, prob.u0.numel()), np.int64)
    first, last = (rhs.f(t, u.cpu().numpy(), _values(prob, program.captured)) for t in prob.span)
    return everything, not np.array_equal(first, last)


def _flat(prob: JumpProblem) -> Any:
    def rates(t: torch.Tensor, u: torch.Tensor, *p: Any) -> torch.Tensor:
        return prob.rates(t, u, *p).to(u)

    return rates


def _values(prob: JumpProblem, found: list[torch.Tensor]) -> np.ndarray:
    leaves = [x.detach().double().cpu().reshape(-1) for x in (*prob.inputs.p, *found)]
    return torch.cat(leaves).numpy() if leaves else np.zeros(0)


def _of_mass_action(prob: JumpProblem, rates: MassAction) -> Network:
    p = () if prob.p is None else (prob.p,)
    reactants = rates.reactants.numpy()
    found = captured(lambda: rates.constants_at(*p))
    return Network(None, np.ascontiguousarray(reactants), found, (reactants > 0).astype(np.int64), timed=False)


def _check_rates(prob: JumpProblem) -> None:
    """Raises `InvalidInputError` if the rates are not one vector, of as many as there are changes."""
    u = prob.inputs.u[0].detach()
    with torch.no_grad():
        found = prob.rates(torch.as_tensor(prob.span[0], dtype=u.dtype, device=u.device), u,
                           *(() if prob.p is None else (prob.p,)))  # fmt: skip
    if not isinstance(found, torch.Tensor) or list(found.shape) != [prob.channels]:
        got = f"shape {list(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise InvalidInputError("rates must return one rate for each row of changes.", got=got,
                                expected=f"a tensor ({prob.channels},)",
                                fix="return torch.stack([p[0], p[1] * u[0]])")  # fmt: skip
