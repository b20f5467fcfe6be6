"""Patterns of Jacobians read off a Graph, and their entries from a few products, against torch's own Jacobian."""

from __future__ import annotations

import pytest
import torch

from pysciml.rhs.graph import evaluate
from pysciml.rhs.parameters import pack
from pysciml.rhs.trace import prepare

N = 24
F64 = torch.float64
RATE = torch.tensor(0.7, dtype=F64)


def convolution():
    torch.manual_seed(0)
    kernel = torch.nn.Conv1d(1, 1, 3, padding=1).double()
    return lambda t, u, p: kernel(u[None, None])[0, 0] * p + u**2


# f, and how many entries and colours its Jacobian takes at most.
CASES = {
    "diffusion on a ring": (lambda t, u, p: torch.roll(u, 1) + torch.roll(u, -1) - 2 * u + p * u * (1 - u), 3 * N, 4),
    "convolution": (convolution(), 3 * N, 3),
    "upwind by where": (lambda t, u, p: torch.where(u > 0, u - torch.roll(u, 1), torch.roll(u, -1) - u) * p, 3 * N, 4),
    "no coupling": (lambda t, u, p: torch.sin(u) * p, N, 1),
    "running sums": (lambda t, u, p: torch.cat([u[:12] * u[12:], torch.cumsum(u[12:], 0) * p]), N * 12 + N, N),
    "a mean": (lambda t, u, p: u - u.mean() * p, N * N, N),
    "a fixed matrix": (
        lambda t, u, p: p * (u.reshape(4, 6) @ torch.eye(6, dtype=F64).roll(1, 0)).reshape(-1),
        2 * N,
        2,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_entries_are_those_of_the_jacobian(name):
    f, most_entries, most_colors = CASES[name]
    u = torch.randn(N, dtype=F64)
    program, rhs = prepare(f, torch.tensor(0.0, dtype=F64), u, RATE)
    found = rhs.sparsity
    p = torch.from_numpy(pack(program.parameters))
    entries = evaluate(rhs.graph("nonzeros", program), t=torch.tensor(0.0), u=u, p=p)
    jacobian = torch.zeros(N, N, dtype=F64)
    jacobian[torch.from_numpy(found.rows), torch.from_numpy(found.cols)] = entries
    truth = torch.autograd.functional.jacobian(lambda u: f(0.0, u, RATE), u)
    assert torch.allclose(jacobian, truth, rtol=1e-12, atol=1e-12)
    assert found.size <= most_entries
    assert found.colors.max() + 1 <= most_colors


def test_rows_of_one_colour_share_no_column():
    f, _, _ = CASES["diffusion on a ring"]
    found = prepare(f, torch.tensor(0.0, dtype=F64), torch.randn(N, dtype=F64), RATE)[1].sparsity
    pairs = list(zip(found.colors[found.rows], found.cols, strict=True))
    assert len(set(pairs)) == len(pairs)
    assert (found.pointers[1:] - found.pointers[:-1]).sum() == found.size
