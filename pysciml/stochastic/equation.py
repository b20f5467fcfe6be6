"""The drift and the diffusion of a problem, each compiled or called back, and the parameters that both have."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from pysciml.engines.base import RequestPart
from pysciml.engines.parts import captured_by_any, with_places
from pysciml.problems import SDEProblem
from pysciml.rhs.padded import Padded
from pysciml.rhs.parameters import pack
from pysciml.rhs.together import prepare_together


@dataclass(eq=False)
class Equation:
    """A problem as an engine takes it.

    Attributes:
        drift, diffusion: both parts; the diffusion's results are those of `SDEProblem.diffusion`, padded to a square.
            Of a random ODE there is no diffusion: its drift is a function of the state and then the noise.
        captured: the tensors that they reach for by themselves, which follow p in the flat parameter vector.
        blocks: as of `SDEProblem`. additive: whether the diffusion is known not to depend on the state.
        delays: of an equation with delays, the times that drift and diffusion ask for, and the past. asked: how many.
    """

    drift: RequestPart
    diffusion: RequestPart | None
    captured: list[torch.Tensor]
    blocks: tuple[int, int, int]
    additive: bool
    delays: tuple[RequestPart, ...] = ()
    asked: tuple[int, int] = (0, 0)


def prepare(prob: SDEProblem, route: str | None) -> Equation:
    """Compiles both parts, or makes them ready to be called back, as `route` says; None compiles where it can.

    Raises:
        TraceError: route="compiled", and one of them cannot be.
    """
    f = SimpleNamespace(f=prob.f, u0=prob.u0, tspan=prob.tspan, p=prob.p)
    whole = square(prob)
    u = _beside(prob.inputs.u[0], whole.n) if isinstance(whole, Padded) else prob.u0
    g = SimpleNamespace(f=whole, u0=u, tspan=prob.tspan, p=prob.p)
    unless = "drift or diffusion cannot be compiled, so Python is"
    prepared = prepare_together([f, g], route, unless, stacklevel=6)
    captured = captured_by_any(prepared)
    drift, diffusion = with_places(prepared, prob.inputs.p, captured)
    return Equation(drift, diffusion, captured, prob.blocks, _is_additive(diffusion.rhs, diffusion.program))


def square(prob: SDEProblem) -> Any:
    """g, or, where it has more results than u has states, g as a function of as many numbers as it has results."""
    if prob.noise_type == "diagonal":
        return prob.g
    layout, (count, rows, columns) = prob.inputs.u_layout, prob.blocks

    def values(t: torch.Tensor, x: torch.Tensor, *p: Any) -> torch.Tensor:
        return prob.diffusion(t, layout.unflatten(x), *p)

    return Padded(values, layout.size, count * rows * columns, of=(prob.g,))


def _beside(u: torch.Tensor, n: int) -> torch.Tensor:
    """A state of size n that begins with u."""
    return torch.cat([u.detach().reshape(-1), u.new_zeros(n - u.numel())])


def _is_additive(rhs: Any, program: Any) -> bool:
    """Whether the diffusion does not depend on the state: by its graph, or by its values at three of them."""
    if hasattr(rhs, "graph"):
        return not rhs.graph("f", program).depends_on("u")
    t, p = float(program.t), pack(program.parameters)
    rows = [rhs.f(t, u, p) for u in np.random.default_rng(0).normal(size=(3, rhs.n))]
    return bool(np.allclose(rows, rows[0], rtol=1e-12, atol=0.0))
