"""Stiff problems for torch and for jax: each is one function of the array module that it is written in.

ROBER, HIRES and POLLU are those of Mazzia and Magherini, "Test Set for Initial Value Problem Solvers", release 2.4,
University of Bari (2008). The equation of Allen and Cahn, u_t = D u_xx + r u (1 - u^2) on [0, 1] without a flux at the
ends, is discretised by finite volumes: as stiff as its cells are many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class StiffProblem:
    """du/dt = f(xp, t, u, p) from 0 on, with `xp` the module torch or jax.numpy.

    Attributes:
        u0: (n,) and p: (m,) and times: (k,), where states are saved, all float64.
        by_hand: what the same is called in `stiff_by_hand`. tridiagonal: whether its Jacobian is.
    """

    name: str
    f: Callable[..., Any]
    u0: np.ndarray
    p: np.ndarray
    times: np.ndarray
    by_hand: str
    tridiagonal: bool = False


def robertson(xp, t, u, p):
    """Robertson's autocatalytic reaction."""
    a, b, c = u
    slow, fast, back = p[0] * a, p[1] * b * b, p[2] * b * c
    return xp.stack([back - slow, slow - fast - back, fast])


def hires(xp, t, u, p):
    """High irradiance responses of photomorphogenesis after Schäfer: eight proteins, twelve reactions."""
    a, b, c, d, e, f, g, h = u
    k1, k2, k3, k4, k5, k6, k7, k8, k9, supply = p
    bind, split = k7 * f * h, (k2 + k8 + k9) * g
    return xp.stack([
        k2 * b + k6 * c - k1 * a + supply,
        k1 * a - (k2 + k3) * b,
        k2 * d + k5 * e - (k6 + k1) * c,
        k3 * b + k1 * c - (k4 + k2) * d,
        k2 * (f + g) - (k5 + k1) * e,
        k8 * d + k1 * e - k2 * f + k8 * g - bind,
        bind - split,
        split - bind,
    ])  # fmt: skip


# The reactions of POLLU: the species (from 1) that go in, those that come out, the rate constant.
POLLU_REACTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], float], ...] = (
    ((1,), (2, 3), 0.35), ((2, 4), (1,), 26.6), ((5, 2), (6, 1), 1.23e4), ((7,), (5, 5, 8), 8.6e-4),
    ((7,), (8,), 8.2e-4), ((7, 6), (5, 8), 1.5e4), ((9,), (5, 8, 10), 1.3e-4), ((9, 6), (11,), 2.4e4),
    ((11, 2), (1, 10, 12), 1.65e4), ((11, 1), (13,), 9.0e3), ((13,), (11, 1), 0.022), ((10, 2), (14, 1), 1.2e4),
    ((14,), (7, 5), 1.88), ((1, 6), (15,), 1.63e4), ((3,), (4,), 4.8e6), ((4,), (16,), 3.5e-4),
    ((4,), (3,), 0.0175), ((16,), (6, 6), 1.0e8), ((16,), (3,), 4.44e11), ((17, 6), (18, 5), 1.24e3),
    ((19,), (2,), 2.1), ((19,), (1, 3), 5.78), ((1, 4), (19,), 0.0474), ((19, 1), (20,), 1.78e3),
    ((20,), (19, 1), 3.12),
)  # fmt: skip


def pollution(xp, t, u, p):
    """The chemistry of air pollution: 20 species, 25 reactions, by mass action."""
    change: list[Any] = [0.0] * 20
    for j, (taken, made, _) in enumerate(POLLU_REACTIONS):
        rate = p[j]
        for species in taken:
            rate = rate * u[species - 1]
        for species in taken:
            change[species - 1] = change[species - 1] - rate
        for species in made:
            change[species - 1] = change[species - 1] + rate
    return xp.stack(change)


def allen_cahn(xp, t, u, p):
    """A reaction with two stable states, which spread by diffusion."""
    left, right = xp.concatenate([u[:1], u[:-1]]), xp.concatenate([u[1:], u[-1:]])
    return p[0] * len(u) ** 2 * (left - 2 * u + right) + p[1] * u * (1 - u * u)


def _pollu_start() -> np.ndarray:
    u0 = np.zeros(20)
    u0[[1, 3, 6, 7, 8, 16]] = 0.2, 0.04, 0.1, 0.3, 0.01, 0.007
    return u0


def _cells(n: int) -> StiffProblem:
    x = (np.arange(n) + 0.5) / n
    u0 = 0.5 * np.cos(2 * np.pi * x) + 0.3 * np.cos(5 * np.pi * x)
    return StiffProblem(f"Allen-Cahn, {n} states", allen_cahn, u0, np.array([1e-2, 10.0]), np.linspace(0.1, 2, 20),
                        "allen_cahn!", True)  # fmt: skip


HIRES_RATES = (1.71, 0.43, 8.32, 0.69, 0.035, 8.32, 280.0, 0.69, 0.69, 0.0007)

PROBLEMS = [
    StiffProblem("ROBER", robertson, np.array([1.0, 0, 0]), np.array([0.04, 3e7, 1e4]), np.logspace(-2, 5, 30),
                 "robertson!"),
    StiffProblem("HIRES", hires, np.array([1.0, 0, 0, 0, 0, 0, 0, 0.0057]), np.array(HIRES_RATES),
                 np.geomspace(0.1, 321.8122, 30), "hires!"),
    StiffProblem("POLLU", pollution, _pollu_start(), np.array([k for *_, k in POLLU_REACTIONS]),
                 np.linspace(2.0, 60.0, 30), "pollution!"),
    *(_cells(n) for n in (32, 128, 512)),
]  # fmt: skip
