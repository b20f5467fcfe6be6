"""Boundary value problems by BoundaryValueDiffEq.jl's MIRK methods, and by shooting with Julia's solvers."""

from __future__ import annotations

import pytest
import torch
from finite_differences import relative_error
from problems import vector

import pysciml as ps

pytestmark = pytest.mark.julia
F64 = torch.float64
TIGHT = {"reltol": 1e-9, "abstol": 1e-9, "engine": "julia"}
ALGS = [ps.MIRK2(), ps.MIRK3(), ps.MIRK4(), ps.MIRK5(), ps.MIRK6(), ps.Shooting(), ps.MultiShooting(3, ps.Tsit5()),
        ps.MultiShooting(3, ps.Rodas5P()), ps.Collocation4()]  # fmt: skip


def number(x):
    return torch.tensor(x, dtype=F64, requires_grad=True)


def check(found, truth, inputs, bound=1e-5):
    assert relative_error(found.detach(), truth.detach()) < bound
    weights = torch.randn(found.shape, dtype=F64)
    each = [torch.autograd.grad((weights * u).sum(), inputs) for u in (found, truth)]
    for g, true in zip(*each, strict=True):
        assert relative_error(g, true) < bound


@pytest.mark.parametrize("alg", ALGS, ids=str)
def test_an_oscillator_between_two_points(alg):
    a, b, w, t0, t1 = map(number, (0.3, 2.0, 1.3, 0.2, 1.4))
    ts = vector(0.5, 1.1).requires_grad_()
    f = lambda t, u: torch.stack([u[1], -(w**2) * u[0]])  # noqa: E731
    prob = ps.TwoPointBVProblem(f, (lambda u: u[0] - a, lambda u: u[0] - b), vector(0.0, 0.0), (t0, t1))
    sol = ps.solve(prob, alg, saveat=ts, **TIGHT)
    up, down, width = (torch.sin(w * x) for x in (ts - t0, t1 - ts, t1 - t0))
    check(sol.u[:, 0], (b * up + a * down) / width, [a, b, w, t0, t1, ts])
    assert sol.stats.engine == "julia"


@pytest.mark.parametrize("alg", [ps.MIRK4(), ps.MultiShooting(3)], ids=str)
@pytest.mark.parametrize("route", ["compiled", "callback", "source"])
def test_every_route(alg, route):
    w = vector(1.7).requires_grad_()
    f, options = (lambda t, u, p: torch.stack([u[1], -(p[0] ** 2) * u[0]])), {"route": route}
    if route == "source":
        f, options = ps.JuliaFunction("f(u, p, t) = [u[2], -p[1]^2 * u[1]]"), {}
    prob = ps.TwoPointBVProblem(
        f, lambda ua, ub, p: torch.stack([ua[0], ub[0] - p[0]]), vector(0.0, 0.0), (0.0, 1.0), w
    )
    sol = ps.solve(prob, alg, saveat=[0.3, 0.8], **TIGHT, **options)
    check(sol.u[:, 0], w * torch.sin(w * sol.t) / torch.sin(w), [w])


@pytest.mark.parametrize("alg", [ps.MIRK4(), ps.MIRK6(), ps.Shooting()], ids=str)
def test_conditions_in_the_middle(alg):
    a, b, w = map(number, (0.7, -0.4, 1.7))

    def bc(sol):
        return {"middle": sol(0.4)[0] - a, "mean": (sol(0.0)[0] + sol(1.0)[0]) / 2 - b}

    f = lambda t, u: torch.stack([u[1], -(w**2) * u[0]])  # noqa: E731
    sol = ps.solve(ps.BVProblem(f, bc, vector(0.1, 0.1), (0.0, 1.0)), alg, saveat=[0.0, 0.4, 0.8], **TIGHT)
    ends = torch.stack([torch.stack([torch.cos(0.4 * w), torch.sin(0.4 * w)]),
                        torch.stack([(1 + torch.cos(w)) / 2, torch.sin(w) / 2])])  # fmt: skip
    c, s = torch.linalg.solve(ends, torch.stack([a, b]))
    check(sol.u[:, 0], c * torch.cos(w * sol.t) + s * torch.sin(w * sol.t), [a, b, w])


def test_backwards_in_time():
    b, w = number(2.0), number(1.3)
    f = lambda t, u: torch.stack([u[1], -(w**2) * u[0] * (1 + 0 * t)])  # noqa: E731
    prob = ps.TwoPointBVProblem(f, (lambda u: u[0] - b, lambda u: u[0]), vector(0.0, 0.0), (1.2, 0.0))
    sol = ps.solve(prob, ps.MIRK4(), saveat=[1.0, 0.3], **TIGHT)
    check(sol.u[:, 0], b * torch.sin(w * sol.t) / torch.sin(w * 1.2), [b, w])


def test_where_there_is_no_solution():
    """Bratu's problem has none above k = 3.51."""
    f = lambda t, u: torch.stack([u[1], -5.0 * torch.exp(u[0])])  # noqa: E731
    prob = ps.TwoPointBVProblem(f, (lambda u: u[0], lambda u: u[0]), vector(0.0, 0.0), (0.0, 1.0))
    with pytest.raises(ps.SolveError, match="found no solution") as caught:
        ps.solve(prob, ps.MIRK4(), engine="julia")
    assert caught.value.fix
