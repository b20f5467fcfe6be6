"""Gradients of the julia engine: solver x sensitivity x route, against finite differences."""

from __future__ import annotations

import math
import re
from functools import cache

import pytest
import torch
from finite_differences import gradient, relative_error
from problems import lotka_volterra, vector

import pysciml as ps
from pysciml.config import config

pytestmark = pytest.mark.julia
TIGHT = {"reltol": 1e-10, "abstol": 1e-10}
TIMES = torch.tensor([0.3, 1.1, 2.0], dtype=torch.float64)
SENSITIVITIES = [ps.GaussAdjoint, ps.InterpolatingAdjoint, ps.QuadratureAdjoint, ps.BacksolveAdjoint,
                 ps.ForwardSensitivity, ps.CollocationAdjoint]  # fmt: skip
OTHERS = [ps.AutoTsit5(), ps.BS3(), ps.DP5(), ps.Vern9(), ps.TRBDF2(), ps.KenCarp4(), ps.KenCarp47(), ps.Kvaerno5(),
          ps.Rodas4(), ps.FBDF(), ps.QNDF(), ps.RadauIIA5(), ps.ROCK4(), ps.CVODE_BDF(), ps.CVODE_Adams(),
          ps.ARKODE()]  # fmt: skip


def loss(u0, p, alg=None, **options):
    prob = ps.ODEProblem(lotka_volterra, u0, (0.0, 2.0), p)
    return (ps.solve(prob, alg, saveat=TIMES, engine="julia", **{**TIGHT, **options}).u ** 2).sum()


def inputs():
    return vector(1.0, 0.8).requires_grad_(), vector(1.5, 1.0, 1.0, 3.0).requires_grad_()


@cache
def by_differences():
    finest = {"reltol": 1e-13, "abstol": 1e-13}
    u0, p = (x.detach() for x in inputs())
    return (gradient(lambda x: loss(x, p, ps.Vern9(), **finest), u0),
            gradient(lambda x: loss(u0, x, ps.Vern9(), **finest), p))  # fmt: skip


def worst(alg, **options) -> float:
    u0, p = inputs()
    loss(u0, p, alg, **options).backward()
    return max(map(relative_error, (u0.grad, p.grad), by_differences()))


@pytest.mark.parametrize("route", ["compiled", "callback"])
@pytest.mark.parametrize("sensealg", SENSITIVITIES, ids=lambda s: s.__name__)
@pytest.mark.parametrize("alg", [None, ps.Tsit5(), ps.Rodas5P()], ids=lambda a: a.name if a else "default")
def test_every_sensitivity_on_every_route(alg, sensealg, route):
    assert worst(alg, sensealg=sensealg(), route=route) < 1e-6


@pytest.mark.exhaustive
@pytest.mark.parametrize("sensealg", SENSITIVITIES, ids=lambda s: s.__name__)
@pytest.mark.parametrize("alg", OTHERS, ids=lambda a: a.name)
def test_every_family_with_every_sensitivity(alg, sensealg):
    assert worst(alg, sensealg=sensealg()) < 1e-6


@pytest.mark.parametrize("alg", [ps.Tsit5(), ps.Rodas5P(), ps.CVODE_BDF()], ids=lambda a: a.name)
def test_checkpoints_cost_no_accuracy(alg):
    assert worst(alg, sensealg=ps.InterpolatingAdjoint(checkpoints=10)) < 1e-6


def test_the_backward_solver_can_be_chosen():
    assert worst(ps.Tsit5(), sensealg=ps.GaussAdjoint(alg=ps.Rodas5P())) < 1e-6
    with pytest.raises(ps.UnsupportedError, match="cannot solve backwards"):
        loss(*inputs(), ps.Tsit5(), sensealg=ps.GaussAdjoint(alg=ps.FBDF()))


def test_a_backward_solve_that_stops_raises():
    """SciMLSensitivity returns what it has by then, as if it were the gradient."""
    u0, p = inputs()
    value = loss(u0, p, ps.Tsit5(), sensealg=ps.GaussAdjoint(reltol=1e-30, abstol=1e-30))
    with pytest.raises(ps.SolveError, match="backward") as info:
        value.backward()
    assert info.value.direction == "backward"
    assert 0.0 < info.value.t <= 2.0
    assert p.grad is None


def test_backsolve_takes_what_it_cannot_find_again_from_the_solution():
    """What decays as exp(-200 t) cannot be found backwards in time: errors would grow by exp(400)."""

    def slope(sensealg):
        p = vector(200.0).requires_grad_()
        prob = ps.ODEProblem(lambda t, u, p: -p * (u - torch.cos(t)), vector(0.0), (0.0, 2.0), p)
        sol = ps.solve(prob, ps.Rodas5P(), saveat=[2.0], engine="julia", sensealg=sensealg, **TIGHT)
        sol.u.sum().backward()
        return p.grad

    assert relative_error(slope(ps.BacksolveAdjoint()), slope(ps.ForwardSensitivity())) < 1e-6


@pytest.mark.parametrize("mass", [None, (1.0, 1.0)], ids=["source", "mass matrix"])
@pytest.mark.parametrize("sensealg", [ps.GaussAdjoint, ps.QuadratureAdjoint], ids=lambda s: s.__name__)
def test_a_body_in_free_fall(sensealg, mass):
    """Its adjoint is a line, which the steps of Rodas5P cross in one: what is left is the quadrature."""
    source = ps.JuliaFunction("f!(du, u, p, t) = (du[1] = u[2]; du[2] = -p[1]; nothing)")
    g = vector(9.81).requires_grad_()
    f, mass = (lambda t, u, p: torch.stack([u[1], -p[0]]), vector(*mass)) if mass else (source, None)
    prob = ps.ODEProblem(f, vector(2.0, 0.5), (0.0, 0.7), g, mass)
    sol = ps.solve(prob, ps.Rodas5P(), saveat=[0.7], engine="julia", sensealg=sensealg(), **TIGHT)
    sol.u[-1, 0].backward()
    assert g.grad.item() == pytest.approx(-(0.7**2) / 2, rel=1e-9)


@pytest.mark.parametrize("sensealg", SENSITIVITIES[:3] + SENSITIVITIES[4:], ids=lambda s: s.__name__)
def test_what_the_adjoint_does_in_a_moment_is_not_missed(sensealg):
    """It jumps at t = 10 and is gone 1e-3 before, and all of the gradient comes from there."""
    p = vector(2.0).requires_grad_()

    def f(t, u, p):
        return torch.stack([1e4 * (p[0] * u[1] - u[0]), 0 * u[1]])

    prob = ps.ODEProblem(f, vector(2.0, 1.0), (0.0, 10.0), p)
    ps.solve(prob, ps.Rodas5P(), saveat=[10.0], engine="julia", sensealg=sensealg(), **TIGHT).u[-1, 0].backward()
    assert p.grad.item() == pytest.approx(1.0, rel=1e-6)  # u[0] is p u[1] at the end


def stiff(t, u, p):
    """Rates 1 and 1000 of the logarithms of u."""
    return u * (p @ torch.log(u))


def by_backsolve(f, route, sensealg=None):
    """The gradient of a solution with rates of 1 and 1000, or what the error says that it cannot be had with."""
    p = torch.tensor([[-500.5, 499.5], [499.5, -500.5]], dtype=torch.float64, requires_grad=True)
    prob = ps.ODEProblem(f, vector(1.5, 0.8), (0.0, 2.0), p)
    sensealg = sensealg or ps.BacksolveAdjoint()
    sol = ps.solve(prob, ps.Rodas5P(), engine="julia", route=route, sensealg=sensealg, **TIGHT)
    try:
        sol.u.sum().backward()
    except ps.UnsupportedError as error:
        return str(error)
    return p.grad


LOST = re.compile(r"cannot solve this problem backwards[\s\S]*GaussAdjoint")


@pytest.mark.parametrize("route", ["compiled", "callback"])
def test_backsolve_that_loses_the_solution_raises(route):
    """Between two steps of Rodas5P an error grows by exp(100): the gradient was off by 6e7."""
    assert LOST.search(by_backsolve(lambda t, u, p: p @ u, route))


@pytest.mark.parametrize("route", ["compiled", "callback"])
def test_backsolve_raises_or_is_right(route):
    """Whether it loses this solution is a matter of rounding, which differs among processors and routes."""
    found, truth = by_backsolve(stiff, route), by_backsolve(stiff, route, ps.GaussAdjoint())
    assert LOST.search(found) if isinstance(found, str) else torch.allclose(found, truth, rtol=1e-6, atol=0.0)


def test_backsolve_refuses_mass_matrices():
    prob = ps.ODEProblem(lambda t, u: -u, vector(1.0, 1.0), (0.0, 1.0), mass_matrix=vector(2.0, 1.0))
    with pytest.raises(ps.UnsupportedError, match=r"no solver for mass matrices[\s\S]*GaussAdjoint"):
        ps.solve(prob, ps.Rodas5P(), engine="julia", sensealg=ps.BacksolveAdjoint())


def test_float32_can_be_computed_in_float32():
    u0, p = (x.detach().float().requires_grad_() for x in inputs())
    with config.override(single_precision=True):
        loss(u0, p, ps.Tsit5(), reltol=1e-5, abstol=1e-6).backward()
    errors = [relative_error(x.grad.double(), y) for x, y in zip((u0, p), by_differences(), strict=True)]
    assert 1e-9 < max(errors) < 1e-3
    assert u0.grad.dtype is p.grad.dtype is torch.float32


@pytest.mark.parametrize("stages", [None, 3, 6])
def test_collocation_inside_of_steps_backwards_in_time_and_with_a_mass(stages):
    """Saved where no step ends; t falls; 2 u' = -p u + t, with u(1) = u0."""
    u0, p = vector(1.0, 0.7).requires_grad_(), vector(0.4).requires_grad_()
    prob = ps.ODEProblem(lambda t, u, p: -p * u + t, u0, (1.0, -1.0), p, vector(2.0, 2.0))
    ts = torch.linspace(1.0, -1.0, 23, dtype=torch.float64)
    sensealg = ps.CollocationAdjoint(stages=stages)
    sol = ps.solve(prob, ps.Rodas5P(), saveat=ts, engine="julia", sensealg=sensealg, **TIGHT)
    sol.u.square().sum().backward()
    x, q = (x.detach().clone().requires_grad_() for x in (u0, p))
    particular = lambda t: t / q - 2 / q**2  # noqa: E731
    exact = particular(ts)[:, None] + torch.exp(-q * (ts - 1)[:, None] / 2) * (x - particular(torch.ones(())))
    exact.square().sum().backward()
    torch.testing.assert_close(sol.u.detach(), exact.detach(), rtol=1e-8, atol=1e-8)
    assert max(relative_error(u0.grad, x.grad), relative_error(p.grad, q.grad)) < 1e-7


def test_collocation_takes_a_sparse_jacobian():
    """Heat on a line of 80 points, against `GaussAdjoint`."""

    def slopes(sensealg):
        p, n = vector(3.0).requires_grad_(), 80
        u0 = torch.sin(torch.linspace(0, 3, n, dtype=torch.float64)).requires_grad_()
        f = lambda t, u, p: p * n * (torch.roll(u, 1) - 2 * u + torch.roll(u, -1)) - u**3  # noqa: E731
        prob = ps.ODEProblem(f, u0, (0.0, 1.0), p)
        sol = ps.solve(prob, ps.Rodas5P(), saveat=[0.3, 1.0], engine="julia", sensealg=sensealg, **TIGHT)
        sol.u.pow(2).sum().backward()
        return torch.cat([u0.grad, p.grad])

    assert relative_error(slopes(ps.CollocationAdjoint()), slopes(ps.GaussAdjoint())) < 1e-6


@pytest.mark.parametrize("alg", [ps.BS3(), ps.Tsit5(), ps.Vern7(), ps.Rodas5P()], ids=lambda a: a.name)
def test_collocation_on_steps_that_miss_something_raises(alg):
    """The last layer's weight is zero, and the steps know nothing of the oscillation that it shall learn."""
    p = vector(0.0, 0.0).requires_grad_()
    options = {"engine": "julia", "saveat": [10.0], "reltol": 1e-7, "abstol": 1e-7}
    prob = ps.ODEProblem(shaken, vector(0.0), (0.0, 10.0), p)
    sol = ps.solve(prob, alg, sensealg=ps.CollocationAdjoint(), **options)
    with pytest.raises(ps.UnsupportedError, match=r"steps of the solution[\s\S]*at t = [\s\S]*GaussAdjoint\(\)"):
        sol.u[-1, 0].backward()
    assert p.grad is None
    sol = ps.solve(prob, alg, sensealg=ps.CollocationAdjoint(), dtmax=0.005, **options)
    sol.u[-1, 0].backward()
    assert p.grad[1].item() == pytest.approx((1 - math.cos(500.0)) / 50, abs=2e-6)


def test_what_collocation_cannot_take_is_refused():
    own = ps.ODEProblem(ps.JuliaFunction("f(u, p, t) = -u"), vector(1.0), (0.0, 1.0))
    constrained = ps.ODEProblem(lambda t, u: torch.stack([-u[0], u[0] - u[1]]), vector(1.0, 1.0), (0.0, 1.0),
                                mass_matrix=vector(1.0, 0.0))  # fmt: skip
    for prob, got in ((own, "a JuliaFunction"), (constrained, "1 zeros in mass_matrix")):
        with pytest.raises(ps.UnsupportedError, match=rf"right-hand sides in torch[\s\S]*{got}[\s\S]*GaussAdjoint"):
            ps.solve(prob, ps.Rodas5P(), engine="julia", sensealg=ps.CollocationAdjoint())
    fall = ps.SecondOrderODEProblem(lambda t, du, u: -u, vector(0.0), vector(1.0), (0.0, 1.0))
    with pytest.raises(ps.UnsupportedError, match=r"f and its Jacobian as one, which VelocityVerlet does not"):
        ps.solve(fall, ps.VelocityVerlet(), dt=0.01, engine="julia", sensealg=ps.CollocationAdjoint())


def shaken(t, u, p):
    return -p[0] * u + p[1] * torch.sin(50 * t)


SHAKEN = "f(u, p, t) = [-p[1] * u[1] + p[2] * sin(50 * t)]"


@pytest.mark.parametrize("alg", [ps.BS3(), ps.Tsit5(), ps.Vern7(), ps.Rodas5P()], ids=lambda a: a.name)
@pytest.mark.parametrize("route", ["compiled", "callback", "source"])
def test_a_quadrature_that_no_steps_resolve(alg, route):
    """Neither the solution nor its adjoint knows of a term whose factor is zero, as that of a last layer at its start.

    Julia source is differentiated by SciMLSensitivity, whose quadrature goes along the steps of the solution.
    """
    factor = 1.0 if route == "source" else 0.0
    p = vector(0.0, factor).requires_grad_()
    f, options = (ps.JuliaFunction(SHAKEN), {}) if route == "source" else (shaken, {"route": route})
    prob = ps.ODEProblem(f, vector(0.0), (0.0, 10.0), p)
    sol = ps.solve(
        prob, alg, saveat=[10.0], engine="julia", reltol=1e-7, abstol=1e-7, sensealg=ps.GaussAdjoint(), **options
    )
    sol.u[-1, 0].backward()
    assert p.grad[1].item() == pytest.approx((1 - math.cos(500.0)) / 50, abs=2e-5)


@pytest.mark.parametrize("alg", [ps.Rodas5P(), ps.FBDF(), ps.RadauIIA5()], ids=lambda a: a.name)
def test_a_dae_that_is_not_linear_in_its_algebraic_variables(alg):
    """x' = -z, exp(z) = 1 + p x, from a z that does not fit; the same as x' = -log(1 + p x)."""

    def slope(p, f, start, by, tolerances, mass=None):
        prob = ps.ODEProblem(lambda t, u: f(p, u), start, (0.0, 1.0), mass_matrix=mass)
        sol = ps.solve(prob, by, saveat=[0.5, 1.0], engine="julia", **tolerances)
        return torch.autograd.grad(sol.u[:, 0].sum(), p)[0]

    p = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    found = slope(p, lambda p, u: torch.stack([-u[1], torch.exp(u[1]) - 1 - p * u[0]]), vector(1.0, 0.5), alg, TIGHT,
                  vector(1.0, 0.0))  # fmt: skip
    truth = slope(p, lambda p, u: -torch.log(1 + p * u), vector(1.0), ps.Vern9(), {"reltol": 1e-13, "abstol": 1e-13})
    assert relative_error(found, truth) < 1e-7
