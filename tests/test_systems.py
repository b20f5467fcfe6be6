"""Right-hand sides in two parts, by solvers that take them as a whole."""

from __future__ import annotations

import pytest
import torch
from finite_differences import gradient, relative_error
from problems import vector

import pysciml as ps

WAYS = [(ps.CVODE_BDF(), {"engine": "embedded"}), (ps.DP5(), {"engine": "embedded"}), (None, {"engine": "embedded"})]


@pytest.mark.parametrize(("alg", "options"), WAYS, ids=str)
def test_first_order_solvers_solve_problems_of_second_order(alg, options):
    def value(x):
        prob = ps.SecondOrderODEProblem(lambda t, u, du, p: -p * u, x[:1], x[1:2], (0.0, 2.0), x[2:])
        du, u = ps.solve(prob, alg, saveat=[1.0, 2.0], reltol=1e-10, abstol=1e-10, **options).u
        return du, u

    def exact(x):
        t, w = vector(1.0, 2.0)[:, None], x[2:].sqrt()
        u = x[1] * torch.cos(w * t) + x[0] / w * torch.sin(w * t)
        return -x[1] * w * torch.sin(w * t) + x[0] * torch.cos(w * t), u

    x = vector(0.3, 1.0, 2.0).requires_grad_()
    found, truth = value(x), exact(x)
    assert all((a - b).abs().max() < 1e-7 for a, b in zip(found, truth, strict=True))
    (grad,) = torch.autograd.grad(sum(a.sum() for a in found), x)
    (reference,) = torch.autograd.grad(sum(a.sum() for a in truth), x)
    assert relative_error(grad, reference) < 1e-6


def test_parts_are_modules_with_parameters():
    torch.manual_seed(0)
    net = torch.nn.Linear(1, 1).double()
    prob = ps.DynamicalODEProblem(lambda t, v, u: net(u), lambda t, v, u: v, vector(0.0), vector(1.0), (0.0, 1.0))
    v, u = ps.solve(prob, ps.CVODE_Adams(), engine="embedded", reltol=1e-11, abstol=1e-12).u
    (v[-1] + u[-1]).sum().backward()

    def moved(w):
        with torch.no_grad():
            before = net.weight.clone()
            net.weight.copy_(w)
            v, u = ps.solve(prob, ps.CVODE_Adams(), engine="embedded", reltol=1e-12, abstol=1e-12).u
            net.weight.copy_(before)
        return (v[-1] + u[-1]).sum()

    assert relative_error(net.weight.grad, gradient(moved, net.weight)) < 1e-6


def test_halves_must_fit():
    with pytest.raises(ps.InvalidInputError, match=r"du0 and u0 must have one structure[\s\S]*zeros_like"):
        ps.SecondOrderODEProblem(lambda t, u, du: -u, vector(0.0), vector(1.0, 2.0), (0.0, 1.0))
    with pytest.raises(ps.InvalidInputError, match="must be torch functions"):
        ps.DynamicalODEProblem(
            ps.JuliaFunction("f(u, p, t) = u"), lambda t, v, u: v, vector(0.0), vector(1.0), (0.0, 1.0)
        )


def test_symplectic_solvers_are_julias():
    prob = ps.SecondOrderODEProblem(lambda t, u, du: -u, vector(0.0), vector(1.0), (0.0, 1.0))
    with pytest.raises(ps.UnsupportedError, match="OrdinaryDiffEqSymplecticRK"):
        ps.solve(prob, ps.KahanLi8(), dt=0.1, engine="embedded")


def test_a_sum_is_solved_by_any_solver():
    k = vector(2.0).requires_grad_()
    prob = ps.SplitODEProblem(lambda t, u: -k * u, lambda t, u: torch.ones_like(u), vector(0.0), (0.0, 1.0))
    u = ps.solve(prob, ps.DP5(), saveat=[1.0], reltol=1e-9, abstol=1e-9, engine="embedded").u
    exact = (1 - torch.exp(-k)) / k
    assert u.item() == pytest.approx(exact.item(), abs=1e-8)
    (found,), (truth,) = (torch.autograd.grad(x.sum(), k) for x in (u, exact))
    assert found.item() == pytest.approx(truth.item(), abs=1e-7)
    with pytest.raises(ps.UnsupportedError, match="OrdinaryDiffEqExponentialRK"):
        ps.solve(prob, ps.ETDRK4(), dt=0.1, engine="embedded")
    plain = ps.ODEProblem(lambda t, u: -u, vector(1.0), (0.0, 1.0))
    with pytest.raises(ps.UnsupportedError, match=r"cannot solve an ODEProblem[\s\S]*SplitODEProblem"):
        ps.solve(plain, ps.ETDRK4(), dt=0.1, engine="embedded")
