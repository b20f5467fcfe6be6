"""Problems every engine is held against: with exact solutions, published references, or both engines' agreement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

F64 = torch.float64


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


@dataclass(frozen=True)
class Problem:
    """du/dt = f(t, u, p), saved at a few times. `exact(t)` is (k, n) where a closed form is known."""

    name: str
    f: Callable
    u0: torch.Tensor
    p: torch.Tensor
    times: torch.Tensor
    exact: Callable | None = None

    @property
    def tspan(self) -> tuple[float, float]:
        return 0.0, float(self.times[-1])


def decay(t, u, p):
    return -p[0] * u


def oscillator(t, u, p):
    return torch.stack([u[1], -(p[0] ** 2) * u[0]])


def logistic(t, u, p):
    return p[0] * u * (1 - u / p[1])


def forced(t, u, p):
    return -p[0] * (u - torch.cos(p[1] * t))


def lotka_volterra(t, u, p):
    x, y = u
    a, b, c, d = p
    return torch.stack([a * x - b * x * y, c * x * y - d * y])


def van_der_pol(t, u, p):
    x, v = u
    return torch.stack([v, p[0] * (1 - x**2) * v - x])


def pendulum(t, u, p):
    angle, speed = u
    return torch.stack([speed, -p[0] * torch.sin(angle) - p[1] * speed])


def sir(t, u, p):
    s, i, _ = u
    infected, recovered = p[0] * s * i, p[1] * i
    return torch.stack([-infected, infected - recovered, recovered])


def brusselator(t, u, p):
    x, y = u
    return torch.stack([p[0] + x**2 * y - (p[1] + 1) * x, p[1] * x - x**2 * y])


def lorenz(t, u, p):
    x, y, z = u
    return torch.stack([p[0] * (y - x), x * (p[1] - z) - y, x * y - p[2] * z])


def heat(t, u, p):
    """Heat on a ring, by central differences."""
    return p[0] * (torch.roll(u, 1) - 2 * u + torch.roll(u, -1)) * (u.numel() / 2) ** 2 / 10


def michaelis_menten(t, u, p):
    s, e, c, _ = u
    bind, free, turn = p[0] * s * e, p[1] * c, p[2] * c
    return torch.stack([free - bind, free + turn - bind, bind - free - turn, turn])


def robertson(t, u, p):
    a, b, c = u
    slow, fast, back = p[0] * a, p[1] * b * b, p[2] * b * c
    return torch.stack([back - slow, slow - fast - back, fast])


RING = torch.sin(torch.arange(8, dtype=F64) * 2 * torch.pi / 8) + 0.3

SMOOTH = [
    Problem(
        "decay",
        decay,
        vector(1.0, 2.0),
        vector(0.7),
        vector(0.5, 1.0, 2.0),
        lambda t: torch.exp(-0.7 * t)[:, None] * vector(1.0, 2.0),
    ),
    Problem(
        "oscillator",
        oscillator,
        vector(1.0, 0.0),
        vector(1.5),
        vector(0.3, 1.0, 4.0),
        lambda t: torch.stack([torch.cos(1.5 * t), -1.5 * torch.sin(1.5 * t)], 1),
    ),
    Problem(
        "logistic",
        logistic,
        vector(0.1),
        vector(1.2, 2.0),
        vector(1.0, 2.0, 5.0),
        lambda t: (2.0 / (1 + 19 * torch.exp(-1.2 * t)))[:, None],
    ),
    Problem(
        "forced",
        forced,
        vector(0.5),
        vector(3.0, 2.0),
        vector(0.4, 1.0, 3.0),
        lambda t: ((9 * torch.cos(2 * t) + 6 * torch.sin(2 * t)) / 13 + (0.5 - 9 / 13) * torch.exp(-3 * t))[:, None],
    ),
    Problem("lotka_volterra", lotka_volterra, vector(1.0, 1.0), vector(1.5, 1.0, 1.0, 3.0), vector(0.5, 1.5, 3.0, 4.5)),
    Problem("van_der_pol", van_der_pol, vector(2.0, 0.0), vector(1.3), vector(0.5, 1.0, 3.0)),
    Problem("pendulum", pendulum, vector(1.2, 0.0), vector(4.0, 0.3), vector(0.5, 1.0, 3.0)),
    Problem("sir", sir, vector(0.99, 0.01, 0.0), vector(1.8, 0.4), vector(2.0, 5.0, 10.0)),
    Problem("brusselator", brusselator, vector(1.2, 3.1), vector(1.0, 2.5), vector(0.5, 2.0, 4.0)),
    Problem("lorenz", lorenz, vector(1.0, 0.5, 0.2), vector(10.0, 28.0, 8 / 3), vector(0.2, 0.5, 1.0)),
    Problem("heat", heat, RING, vector(0.8), vector(0.2, 0.5, 1.0)),
    Problem(
        "michaelis_menten", michaelis_menten, vector(1.0, 0.4, 0.0, 0.0), vector(4.0, 1.0, 2.0), vector(0.5, 2.0, 5.0)
    ),
]

# u(1e11) of Robertson's problem for k = (0.04, 3e7, 1e4), u(0) = (1, 0, 0): Mazzia and Magherini, "Test Set for
# Initial Value Problem Solvers", release 2.4 (2008), problem ROBER.
ROBER_END = 1e11
ROBER_REFERENCE = vector(0.2083340149701255e-7, 0.8333360770334713e-13, 0.9999999791665050)
