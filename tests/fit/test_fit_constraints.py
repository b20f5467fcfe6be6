"""Parameters under constraints: they start where they were, stay inside, and get the gradients that torch gives."""

from __future__ import annotations

import pytest
import torch

import pysciml as ps

F64 = torch.float64
T = torch.linspace(0, 2, 9, dtype=F64)


class Chain(torch.nn.Module):
    def __init__(self, k=0.5, share=0.5):
        super().__init__()
        self.k = torch.nn.Parameter(torch.tensor([k, 0.3], dtype=F64))
        self.net = torch.nn.Linear(2, 2).double()
        self.share = torch.nn.Parameter(torch.tensor(share, dtype=F64))

    def forward(self, t, u):
        return torch.stack([-self.k[0] * u[0], self.share * self.k[0] * u[0] - self.k[1] * u[1]])


def problem(f):
    return ps.ODEProblem(f, torch.tensor([1.0, 0.0], dtype=F64), (0.0, 2.0))


def test_values_stay_and_gradients_are_those_of_the_composed_function():
    plain, held = Chain(), ps.constrain(Chain(), k=ps.Positive(), share=ps.Bounded(0.2, 1.0))
    torch.testing.assert_close(held.k, plain.k.detach())
    torch.testing.assert_close(held.share, plain.share.detach())
    for f in (plain, held):
        ps.solve(problem(f), ps.CVODE_Adams(), saveat=T, reltol=1e-10, abstol=1e-10).u.square().sum().backward()
    k = plain.k
    torch.testing.assert_close(held.parametrizations.k.original.grad, k.grad * k.detach(), rtol=1e-6, atol=1e-9)
    y = (plain.share.detach() - 0.2) / 0.8
    torch.testing.assert_close(held.parametrizations.share.original.grad, plain.share.grad * 0.8 * y * (1 - y),
                               rtol=1e-6, atol=1e-9)  # fmt: skip


def test_a_fit_finds_the_truth_inside_and_the_bound_where_it_is_outside():
    truth = Chain(1.3, 0.9)
    with torch.no_grad():
        data = ps.solve(problem(truth), saveat=T, reltol=1e-9, abstol=1e-9).u
    inside = ps.constrain(Chain(), k=ps.Positive(), share=ps.Bounded(0.2, 1.0))
    at_most = ps.constrain(Chain(), share=ps.Bounded(0.2, 0.7))
    for f in (inside, at_most):
        with pytest.warns(ps.PySciMLWarning, match=r"net\.weight"):
            ps.fit(problem(f), data, T, stages=("LBFGS", 80), progress="off", reltol=1e-9, abstol=1e-9)
    torch.testing.assert_close(inside.k, truth.k.detach(), rtol=1e-4, atol=1e-5)
    assert inside.share.item() == pytest.approx(0.9, abs=1e-4)
    assert 0.69 < at_most.share.item() <= 0.7


def test_a_part_of_a_part_by_two_underscores():
    f = Chain()
    with torch.no_grad():
        f.net.weight.abs_()
    assert ps.constrain(f, net__weight=ps.Positive()) is f
    assert torch.nn.utils.parametrize.is_parametrized(f.net, "weight")


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ps.InvalidInputError, match=r"no parameter 'rate'[\s\S]*net__weight"):
        ps.constrain(Chain(), rate=ps.Positive())
    with pytest.raises(ps.InvalidInputError, match="no part for 'nets__weight'"):
        ps.constrain(Chain(), nets__weight=ps.Positive())
    with pytest.raises(ps.InvalidInputError, match=r"does not obey[\s\S]*Bounded\(0\.6, 1\)"):
        ps.constrain(Chain(), share=ps.Bounded(0.6, 1.0))
    with pytest.raises(ps.InvalidInputError, match="lower one first"):
        ps.Bounded(1.0, 0.0)
    with pytest.raises(ps.InvalidInputError, match="forward and right_inverse"):
        ps.constrain(Chain(), k=torch.nn.ReLU())
