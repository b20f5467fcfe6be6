"""Steady states by NonlinearSolve.jl and SteadyStateDiffEq.jl: closed forms, every route, gradients."""

from __future__ import annotations

import pytest
import torch
from finite_differences import gradient, relative_error
from problems import vector

import pysciml as ps

pytestmark = pytest.mark.julia
F64 = torch.float64
TIGHT = {"reltol": 1e-10, "abstol": 1e-10, "engine": "julia"}
ALGS = [ps.NewtonRaphson(), ps.TrustRegion(), ps.SSRootfind(), ps.SSRootfind(ps.NewtonRaphson()), ps.DynamicSS(),
        ps.DynamicSS(ps.Rodas5P()), ps.DynamicSS(ps.CVODE_BDF())]  # fmt: skip
SOURCE = "f(u, p, t) = [p[1] + u[1]^2 * u[2] - (p[2] + 1) * u[1], p[2] * u[1] - u[1]^2 * u[2]]"


def brusselator(t, u, p):
    a, b = p
    x, y = u
    return torch.stack([a + x**2 * y - (b + 1) * x, b * x - x**2 * y])


@pytest.mark.parametrize("route", ["compiled", "callback", "source"])
@pytest.mark.parametrize("alg", ALGS, ids=str)
def test_a_closed_form_and_its_gradient(alg, route):
    p = vector(1.0, 1.3).requires_grad_()
    f, options = (ps.JuliaFunction(SOURCE), {}) if route == "source" else (brusselator, {"route": route})
    sol = ps.solve(ps.SteadyStateProblem(f, vector(0.9, 1.1), p), alg, **TIGHT, **options)
    truth = torch.stack([p[0], p[1] / p[0]])
    weights = vector(0.3, -1.2)
    (found,), (true,) = (torch.autograd.grad(weights @ u, p) for u in (sol.u, truth))
    assert relative_error(sol.u.detach(), truth.detach()) < 1e-7
    assert relative_error(found, true) < 1e-6
    assert sol.stats.engine == "julia"
    assert sol.stats.nf > 0


def test_a_julia_source_has_first_derivatives_and_networks_in_its_holes():
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    f = ps.JuliaFunction("f(u, p, t) = nn(u, p) .- p[1] .* u", nn=net)
    p = vector(2.0).requires_grad_()

    def solve(p):
        return ps.solve(ps.SteadyStateProblem(f, vector(0.1, 0.2), p), ps.TrustRegion(), **TIGHT).u

    inputs = [p, *net.parameters()]
    found = torch.autograd.grad(solve(p).sum(), inputs)
    assert relative_error(found[0], gradient(lambda p: solve(p).sum(), p)) < 1e-6
    twin = ps.SteadyStateProblem(lambda t, u: net(u) - p * u, vector(0.1, 0.2))
    truth = torch.autograd.grad(ps.solve(twin, ps.TrustRegion(), **TIGHT).u.sum(), inputs)
    for g, true in zip(found, truth, strict=True):
        assert relative_error(g, true) < 1e-6
    (first,) = torch.autograd.grad(solve(p).sum(), p, create_graph=True)
    with pytest.raises(ps.UnsupportedError, match="JuliaFunction"):
        torch.autograd.grad(first.sum(), p)


def test_a_julia_source_that_uses_the_time_is_refused():
    f = ps.JuliaFunction("f(u, p, t) = [cos(t) - u[1]]")
    with pytest.raises(ps.InvalidInputError, match="must not depend on t"):
        ps.solve(ps.SteadyStateProblem(f, vector(1.0)), engine="julia")


def test_second_derivatives_and_torch_func():
    def f(k):
        prob = ps.SteadyStateProblem(lambda t, u: k - u**3, vector(1.0, 2.0))
        return ps.solve(prob, ps.NewtonRaphson(), **TIGHT).u.sum()

    root = lambda k: 2 * k ** (1 / 3)  # noqa: E731
    k = torch.tensor(2.0, dtype=F64)
    for transform in (torch.func.grad, torch.func.hessian):
        torch.testing.assert_close(transform(f)(k), transform(root)(k), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("alg", [ps.TrustRegion(), ps.NewtonRaphson(), ps.SSRootfind()], ids=str)
def test_where_there_is_no_steady_state(alg):
    with pytest.raises(ps.SolveError, match="found no steady state"):
        ps.solve(ps.SteadyStateProblem(lambda t, u: u**2 + 1, vector(1.0)), alg, engine="julia")


def test_exceptions_of_f_arrive_unchanged():
    calls = []

    def f(t, u):
        calls.append(1)
        if len(calls) > 6:
            raise ZeroDivisionError("as it was")
        return 1 - u**3

    with pytest.raises(ZeroDivisionError, match="as it was"):
        ps.solve(ps.SteadyStateProblem(f, vector(5.0)), ps.NewtonRaphson(), route="callback", engine="julia")


def test_a_layer():
    cell = torch.nn.Linear(3, 3).double()
    torch.nn.init.orthogonal_(cell.weight, gain=0.5)
    x = torch.randn(4, 3, dtype=F64)
    layer = ps.nn.DeepEquilibrium(
        lambda z, x: torch.tanh(cell(z) + x), (3,), engine="julia", reltol=1e-10, abstol=1e-10
    )
    z = torch.zeros(4, 3, dtype=F64)
    for _ in range(200):
        z = torch.tanh(cell(z) + x)
    (found,), (true,) = (torch.autograd.grad(u.sum(), cell.weight) for u in (layer(x), z))
    assert relative_error(found, true) < 1e-8
