"""Stiff problems with published reference solutions.

The problems and the values are those of Mazzia and Magherini, "Test Set for Initial Value Problem Solvers", release
2.4, University of Bari (2008); all but POLLU are in Hairer and Wanner, "Solving Ordinary Differential Equations II"
(1996) too. POLLU is of Verwer, "Gauss-Seidel iteration for stiff ODEs from chemical kinetics", SISC 15 (1994).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from problems import F64, ROBER_END, ROBER_REFERENCE, robertson, vector


@dataclass(frozen=True)
class StiffProblem:
    """du/dt = f(t, u, p) on (0, end), with the published u(end). `scale`: (n,), sizes below which an error is small."""

    name: str
    f: Callable
    u0: torch.Tensor
    p: torch.Tensor
    end: float
    reference: torch.Tensor
    scale: torch.Tensor


def van_der_pol_scaled(t, u, p):
    """Van der Pol's oscillator on the time scale of its slow phase."""
    x, v = u
    return torch.stack([v, p[0] * ((1 - x**2) * v - x)])


def oregonator(t, u, p):
    """The Belousov-Zhabotinsky reaction after Field and Noyes."""
    x, y, z = u
    s, q, w = p
    return torch.stack([s * (y + x * (1 - q * x - y)), (z - (1 + x) * y) / s, w * (x - z)])


def hires(t, u, p):
    """High irradiance responses of photomorphogenesis after Schäfer: eight proteins, twelve reactions."""
    a, b, c, d, e, f, g, h = u
    k1, k2, k3, k4, k5, k6, k7, k8, k9, supply = p
    bind, split = k7 * f * h, (k2 + k8 + k9) * g
    return torch.stack([
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
POLLU_REACTIONS = (
    ((1,), (2, 3), 0.35), ((2, 4), (1,), 26.6), ((5, 2), (6, 1), 1.23e4), ((7,), (5, 5, 8), 8.6e-4),
    ((7,), (8,), 8.2e-4), ((7, 6), (5, 8), 1.5e4), ((9,), (5, 8, 10), 1.3e-4), ((9, 6), (11,), 2.4e4),
    ((11, 2), (1, 10, 12), 1.65e4), ((11, 1), (13,), 9.0e3), ((13,), (11, 1), 0.022), ((10, 2), (14, 1), 1.2e4),
    ((14,), (7, 5), 1.88), ((1, 6), (15,), 1.63e4), ((3,), (4,), 4.8e6), ((4,), (16,), 3.5e-4),
    ((4,), (3,), 0.0175), ((16,), (6, 6), 1.0e8), ((16,), (3,), 4.44e11), ((17, 6), (18, 5), 1.24e3),
    ((19,), (2,), 2.1), ((19,), (1, 3), 5.78), ((1, 4), (19,), 0.0474), ((19, 1), (20,), 1.78e3),
    ((20,), (19, 1), 3.12),
)  # fmt: skip


def _stoichiometry() -> torch.Tensor:
    """(20, 25): how many of each species a reaction makes, less how many it takes."""
    change = torch.zeros(20, len(POLLU_REACTIONS), dtype=F64)
    for j, (taken, made, _) in enumerate(POLLU_REACTIONS):
        for species in taken:
            change[species - 1, j] -= 1
        for species in made:
            change[species - 1, j] += 1
    return change


POLLU_CHANGE = _stoichiometry()
_FIRST = torch.tensor([taken[0] - 1 for taken, _, _ in POLLU_REACTIONS])
# A reaction of one species has 1 for its second: it stands after the 20 species.
_SECOND = torch.tensor([taken[1] - 1 if len(taken) == 2 else 20 for taken, _, _ in POLLU_REACTIONS])


def pollution(t, u, p):
    """The chemistry of air pollution: 20 species, 25 reactions, by mass action."""
    with_one = torch.cat([u, torch.ones(1, dtype=u.dtype)])
    rates = p * u[_FIRST] * with_one[_SECOND]
    return POLLU_CHANGE @ rates


POLLU_START = torch.zeros(20, dtype=F64)
POLLU_START[[1, 3, 6, 7, 8, 16]] = vector(0.2, 0.04, 0.1, 0.3, 0.01, 0.007)

STIFF = [
    StiffProblem(
        "ROBER", robertson, vector(1.0, 0.0, 0.0), vector(0.04, 3e7, 1e4), ROBER_END, ROBER_REFERENCE,
        vector(1e-7, 1e-12, 1.0),
    ),
    StiffProblem(
        "OREGO", oregonator, vector(1.0, 2.0, 3.0), vector(77.27, 8.375e-6, 0.161), 360.0,
        vector(0.1000814870318523e1, 0.1228178521549917e4, 0.1320554942846706e3), vector(1.0, 1.0, 1.0),
    ),
    StiffProblem(
        "HIRES", hires, vector(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0057),
        vector(1.71, 0.43, 8.32, 0.69, 0.035, 8.32, 280.0, 0.69, 0.69, 0.0007), 321.8122,
        vector(0.7371312573325668e-3, 0.1442485726316185e-3, 0.5888729740967575e-4, 0.1175651343283149e-2,
               0.2386356198831331e-2, 0.6238968252742796e-2, 0.2849998395185769e-2, 0.2850001604814231e-2),
        torch.full((8,), 1e-4, dtype=F64),
    ),
    StiffProblem(
        "POLLU", pollution, POLLU_START, vector(*(k for _, _, k in POLLU_REACTIONS)), 60.0,
        vector(0.5646255480022769e-1, 0.1342484130422339, 0.4139734331099427e-8, 0.5523140207484359e-2,
               0.2018977262302196e-6, 0.1464541863493966e-6, 0.7784249118997964e-1, 0.3245075353396018,
               0.7494013383880406e-2, 0.1622293157301561e-7, 0.1135863833257075e-7, 0.2230505975721359e-2,
               0.2087162882798630e-3, 0.1396921016840158e-4, 0.8964884856898295e-2, 0.4352846369330103e-17,
               0.6899219696263405e-2, 0.1007803037365946e-3, 0.1772146513969984e-5, 0.5682943292316392e-4),
        torch.full((20,), 1e-6, dtype=F64),
    ),
    StiffProblem(
        "VDPOL", van_der_pol_scaled, vector(2.0, 0.0), vector(1e6), 2.0,
        vector(0.1706167732170483e1, -0.8928097010247975), vector(1.0, 1.0),
    ),
]  # fmt: skip


def relative_error(problem: StiffProblem, u: torch.Tensor) -> float:
    """The largest error of the states at the end, each in its own size or in `scale` if that is larger."""
    size = torch.maximum(problem.reference.abs(), problem.scale)
    return float(((u - problem.reference).abs() / size).max())
