"""Loops over what is made of single numbers: each of them is an operand of its own."""

from __future__ import annotations

import pytest
import torch
from against_torch import flat_inputs
from test_lower_julia import agree

from pysciml.rhs.trace import record


def numbers(u, count):
    """Single numbers, each another expression of u."""
    return [u[i % 2] * (i + 1) for i in range(count)]


@pytest.mark.julia
@pytest.mark.parametrize(
    "f",
    [
        lambda u: (torch.stack(numbers(u, 10)) * torch.arange(20.0).double().reshape(2, 10)).sum(-1),
        lambda u: torch.stack(numbers(u, 10)) @ torch.arange(20.0).double().reshape(10, 2),
        lambda u: torch.stack(numbers(u, 6)).square().cumsum(0)[:2],
        lambda u: (torch.stack([x.expand(5) for x in numbers(u, 2)]) * torch.arange(5.0).double()).sum(-1),
        lambda u: (torch.stack(numbers(u, 6)).reshape(2, 3) * torch.ones(4, 1, 1).double()).sum((0, 2)),
        lambda u: (torch.stack(numbers(u, 40)) * torch.arange(80.0).double().reshape(2, 40)).sum(-1),
    ],
)
def test_a_loop_over_a_stack_of_numbers_reads_each_of_them(f):
    """By their places one after another they look like the steps of one array."""
    program = record(
        lambda t, u: f(u), torch.tensor(0.0, dtype=torch.float64), torch.tensor([0.4, 4.6], dtype=torch.float64)
    )
    values = flat_inputs(program, torch.tensor(0.0), [torch.tensor([0.4, 4.6], dtype=torch.float64)], [], seed=1)
    agree(program, values)
