"""Gradients taken apart into the vectors of their outer products, put together again by hand."""

from __future__ import annotations

import itertools

import pytest
import torch

from pysciml.rhs.graph import evaluate
from pysciml.rhs.outer_products import WIDE, factored
from pysciml.rhs.parameters import Inputs
from pysciml.rhs.trace import prepare_for

D = torch.float64


def network(*sizes: int) -> torch.nn.Sequential:
    torch.manual_seed(0)
    layers = [x for a, b in itertools.pairwise(sizes) for x in (torch.nn.Linear(a, b), torch.nn.Tanh())]
    return torch.nn.Sequential(*layers[:-1]).double()


wide, two, same = network(2, 80, 90, 2), network(64, 80, 64), network(2, 300, 300, 2)
tied, first = network(70, 70), torch.ones(100, 70, dtype=D, requires_grad=True)
narrow = network(2, 8, 2)
CASES = {  # f, u0, p, and how many outer products it has
    "a network": (lambda t, u: wide(u), torch.ones(2, dtype=D), None, 1),
    "a network that gets a batch of one": (lambda t, u: wide(u[None])[0], torch.ones(2, dtype=D), None, 1),
    "two large layers": (lambda t, u: 0.1 * two(u), torch.ones(64, dtype=D), None, 2),
    "a matrix from the other side": (lambda t, u: torch.tanh(first @ u) @ first, torch.ones(70, dtype=D), None, 2),
    "the same layer twice": (lambda t, u: tied(torch.tanh(tied(u))), torch.ones(70, dtype=D), None, 2),
    "one vector of all weights": (
        lambda t, u, p: torch.tanh(p[:6400].view(80, 80) @ u) * p[6400:],
        torch.ones(80, dtype=D), torch.linspace(-1, 1, 6480, dtype=D), 1),
    "a pytree": (
        lambda t, u, p: {"a": wide(u["a"]) * p["scale"], "b": p["w"] @ u["b"] - u["a"].sum()},
        {"a": torch.ones(2, dtype=D), "b": torch.ones(65, dtype=D)},
        {"scale": torch.tensor(2.0, dtype=D), "w": torch.eye(65, dtype=D)}, 2),
    "a small batch": (lambda t, u: same(u), torch.ones(3, 2, dtype=D), None, 3),
    "a large batch": (lambda t, u: wide(u), torch.ones(30, 2, dtype=D), None, 0),
    "a matrix times one number": (lambda t, u: u * (first * u[0]).sum(), torch.ones(2, dtype=D), None, 0),
    "what is small": (lambda t, u: narrow(u), torch.ones(2, dtype=D), None, 0),
}  # fmt: skip


def put_together(made, n: int, m: int, numbers: torch.Tensor) -> torch.Tensor:
    gradient = torch.full((m,), torch.nan, dtype=D)  # each number must be given
    for x in made.copied:
        gradient[x.place : x.place + x.count] = numbers[x.start : x.start + x.count]
    for x in made.outer:
        gradient[x.place : x.place + x.rows * x.columns] = 0
    for x in made.outer:
        a, b = numbers[x.left : x.left + x.rows], numbers[x.right : x.right + x.columns]
        gradient[x.place : x.place + x.rows * x.columns] += torch.outer(a, b).reshape(-1)
    return torch.cat([numbers[:n], gradient])


@pytest.mark.parametrize("case", CASES)
def test_the_factors_give_the_gradient(case):
    f, u0, p, products = CASES[case]
    program, rhs = prepare_for(f, 0.0, Inputs.of(u0, p))
    both = rhs.graph("both", program)
    made = factored(both, rhs.n)
    assert len(made.outer if made else ()) == products
    if made is None:
        return
    assert made.graph.output.size < both.output.size / 10
    assert all(x.rows * x.columns >= WIDE for x in made.outer)
    generator = torch.Generator().manual_seed(1)
    point = {name: torch.randn(x.shape, generator=generator, dtype=D) for name, x in both.inputs.items()}
    expected, numbers = evaluate(both, **point), evaluate(made.graph, **point)
    torch.testing.assert_close(put_together(made, rhs.n, rhs.m, numbers), expected, rtol=1e-13, atol=1e-13)
