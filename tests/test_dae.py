"""Fully implicit problems, against closed forms and published values."""

from __future__ import annotations

import math

import pytest
import torch
from finite_differences import gradient, relative_error
from problems import vector
from scipy.special import ellipj

import pysciml as ps

TIGHT = {"reltol": 1e-9, "abstol": 1e-10}
WAYS = [
    pytest.param(ps.IDA(), {"engine": "embedded"}, id="ida-embedded"),
    *(
        pytest.param(alg, {"engine": "julia", "route": route}, id=f"{name}-{route}", marks=pytest.mark.julia)
        for name, alg in [("default", None), ("rodas", ps.Rodas5P()), ("fbdf", ps.FBDF()),
                          ("ida", ps.IDA()), ("dfbdf", ps.DFBDF())]
        for route in ("compiled", "callback")
    ),
]  # fmt: skip
every = pytest.mark.parametrize(("alg", "options"), WAYS)
# Called back, a long solve takes a minute: each run has it by the default, `make test-all` by all.
every_long_one = pytest.mark.parametrize(("alg", "options"), [
    pytest.param(*way.values, id=way.id, marks=[*way.marks, pytest.mark.exhaustive])
    if way.id.endswith("callback") and not way.id.startswith("default") else way for way in WAYS
])  # fmt: skip


def logarithmic(x, times, **more):
    """exp(u') = p (1 + t), w = u^2: nonlinear in du/dt, which no solver for u' = f is given. x: (u0, p)."""
    u0, p = torch.stack([x[0], 0 * x[0] + 3.0]), x[1]

    def f(t, u, du):
        return torch.stack([torch.exp(du[0]) - p * (1 + t), u[1] - u[0] ** 2])

    return ps.DAEProblem(f, vector(0.5, 0.0), u0, times, **more)


def exact(x, t):
    u = x[0] + t * torch.log(x[1]) + (1 + t) * torch.log(1 + t) - t
    return torch.log(x[1] * (1 + t)), u, u**2


@every
def test_solution_and_gradients_are_those_of_the_closed_form(alg, options):
    x, t = vector(1.0, 2.0).requires_grad_(), vector(0.0, 0.5, 2.0)
    du, u = ps.solve(logarithmic(x, (0.0, 2.0)), alg, saveat=t, **TIGHT, **options).u
    slope, first, second = exact(x, t)
    for found, truth in zip((du[:, 0], u[:, 0], u[:, 1]), (slope, first, second), strict=True):
        torch.testing.assert_close(found, truth, rtol=0, atol=1e-6)
        (grad,) = torch.autograd.grad(found.sum(), x, retain_graph=True)
        (reference,) = torch.autograd.grad(truth.sum(), x, retain_graph=True)
        assert relative_error(grad, reference) < 1e-5
    assert (du[:, 1] == 0).all() or du[:, 1].abs().max() < 1e-8


@every
def test_backwards_in_time(alg, options):
    x = vector(1.0, 2.0).requires_grad_()
    end = exact(x, vector(2.0))[1].detach()
    prob = logarithmic(torch.cat([end, x[1:]]), (2.0, 0.0))
    _, u = ps.solve(prob, alg, saveat=[0.0], **TIGHT, **options).u
    assert u[0, 0].item() == pytest.approx(1.0, abs=1e-6)
    (grad,) = torch.autograd.grad(u[0, 0], x)
    assert grad[1].item() == pytest.approx(-2 / 2.0, abs=1e-5)  # the span is 2 long, p is 2


@every
def test_guesses_have_no_gradient(alg, options):
    du0, u0 = vector(0.1, 0.2).requires_grad_(), vector(1.0, 5.0).requires_grad_()
    prob = ps.DAEProblem(lambda t, u, du: torch.stack([du[0] + u[1], u[1] - 2 * u[0]]), du0, u0, (0.0, 1.0))
    _, u = ps.solve(prob, alg, saveat=[1.0], **TIGHT, **options).u
    u.sum().backward()
    assert u[0, 0].item() == pytest.approx(math.exp(-2), abs=1e-7)
    assert u0.grad[0].item() == pytest.approx(3 * math.exp(-2), rel=1e-6)
    assert u0.grad[1] == 0
    assert (du0.grad == 0).all()


# D. J. Higham's problem of Robertson as a DAE, in the form of SUNDIALS' own example idaRoberts_dns; its printed values.
ROBERTSON = {0.4: (9.8517e-01, 3.3864e-05, 1.4794e-02), 4.0: (9.0551e-01, 2.2403e-05, 9.4473e-02),
             40.0: (7.1582e-01, 9.1850e-06, 2.8417e-01), 400.0: (4.5052e-01, 3.2232e-06, 5.4947e-01)}  # fmt: skip


def robertson(k):
    def f(t, u, du):
        slow, fast = k[0] * u[0], k[2] * u[1] * u[2]
        return torch.stack([fast - slow - du[0], slow - fast - k[1] * u[1] ** 2 - du[1], u.sum() - 1])

    return ps.DAEProblem(f, torch.zeros(3, dtype=torch.float64), vector(1.0, 0.0, 0.0), (0.0, 400.0))


@every_long_one
def test_robertson(alg, options):
    scale = vector(1.0, 1.0, 1.0).requires_grad_()
    k = vector(0.04, 3e7, 1e4)
    tight = {"reltol": 1e-9, "abstol": 1e-13}

    def value(scale):
        _, u = ps.solve(robertson(k * scale), alg, saveat=list(ROBERTSON), **tight, **options).u
        return u

    u = value(scale)
    torch.testing.assert_close(u, vector(*map(list, ROBERTSON.values())), rtol=2e-3, atol=0)
    torch.testing.assert_close(u.sum(1), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-9)
    (grad,) = torch.autograd.grad(u[:, 2].sum(), scale)
    with torch.no_grad():
        reference = gradient(lambda s: value(s)[:, 2].sum(), scale.detach())
    assert relative_error(grad, reference) < 1e-5


def pendulum(angle, length, gravity):
    """At rest at an angle; the constraint differentiated twice, so that the tension is algebraic: index 1."""

    def f(t, u, du):
        x, y, vx, vy, tension = u
        return torch.stack([du[0] - vx, du[1] - vy, du[2] + tension * x, du[3] + tension * y + gravity,
                            vx**2 + vy**2 - tension * length**2 - gravity * y])  # fmt: skip

    zero = torch.zeros_like(angle)
    u0 = torch.stack([length * torch.sin(angle), -length * torch.cos(angle), zero, zero, zero])
    return ps.DAEProblem(f, torch.zeros(5, dtype=torch.float64), u0, (0.0, 3.0))


def swing(x, t):
    """The angle of a pendulum that was let go, by Jacobi's elliptic functions."""
    angle, length, gravity = x.tolist()
    k = math.sin(angle / 2)
    _, cn, dn, _ = ellipj(math.sqrt(gravity / length) * t, k**2)
    return 2 * math.asin(k * cn / dn)


@every_long_one
def test_pendulum(alg, options):
    x = vector(1.0, 1.5, 9.81).requires_grad_()
    _, u = ps.solve(pendulum(*x), alg, saveat=[1.0, 3.0], **TIGHT, **options).u
    for row, t in zip(u, (1.0, 3.0), strict=True):
        truth = vector(math.sin(swing(x, t)), -math.cos(swing(x, t))) * 1.5
        torch.testing.assert_close(row[:2].detach(), truth, rtol=0, atol=1e-6)
    assert (u[:, 0] ** 2 + u[:, 1] ** 2 - 1.5**2).abs().max() < 1e-6
    (grad,) = torch.autograd.grad(u[-1, 0], x)
    reference = gradient(lambda x: x[1].detach() * math.sin(swing(x, 3.0)), x.detach())
    assert relative_error(grad, reference) < 1e-5


def test_a_network_in_the_residual():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()

    def value(weights):
        def f(t, u, du):
            rate = torch.func.functional_call(net, weights, u[:1])
            return torch.cat([du[:1] + u[1:], u[1:] - rate])

        return ps.solve(ps.DAEProblem(f, vector(0.0, 0.0), vector(1.0, 0.0), (0.0, 1.0)), ps.IDA(), engine="embedded",
                        reltol=1e-11, abstol=1e-12).u[1][-1].sum()  # fmt: skip

    weights = dict(net.named_parameters())
    value(weights).backward()
    first = net[0].weight
    reference = gradient(lambda w: value({**weights, "0.weight": w}).detach(), first.detach())
    assert relative_error(first.grad, reference) < 1e-5


def test_what_is_differential_is_found_or_given():
    prob = logarithmic(vector(1.0, 2.0), (0.0, 1.0))
    assert [m.tolist() for m in prob.mass_matrix] == [[0.0, 0.0], [1.0, 0.0]]
    given = logarithmic(vector(1.0, 2.0), (0.0, 1.0), differential_vars=torch.tensor([True, False]))
    assert given.mass_matrix[1].tolist() == [1.0, 0.0]
    with pytest.raises(ps.InvalidInputError, match=r"differential_vars must be true or false[\s\S]*\[2\] torch.bool"):
        logarithmic(vector(1.0, 2.0), (0.0, 1.0), differential_vars=torch.tensor([1.0, 0.0]))
    with pytest.raises(ps.InvalidInputError, match="du0 and u0 must have one structure"):
        ps.DAEProblem(lambda t, u, du: du, vector(0.0), vector(1.0, 2.0), (0.0, 1.0))


def test_trees_of_states():
    def f(t, u, du):
        return {"a": du["a"] + u["b"], "b": u["b"] - u["a"]}

    start = {"a": vector(1.0), "b": vector(0.0)}
    _, u = ps.solve(ps.DAEProblem(f, start, start, (0.0, 1.0)), engine="embedded", **TIGHT).u
    assert u["a"][-1].item() == pytest.approx(math.exp(-1), abs=1e-7)


def test_other_solvers_say_what_they_miss():
    prob = logarithmic(vector(1.0, 2.0), (0.0, 1.0))
    with pytest.raises(ps.UnsupportedError, match=r"DP5[\s\S]*IDA"):
        ps.solve(prob, ps.DP5(), engine="embedded")
    with pytest.raises(ps.UnsupportedError, match=r"DFBDF[\s\S]*julia"):
        ps.solve(prob, ps.DFBDF(), engine="embedded")


@every
def test_a_higher_index_is_refused(alg, options):
    def f(t, u, du):  # position and multiplier, held at the position itself
        return torch.stack([du[0] - u[1], du[1] + u[2], u[0] - 1.0])

    prob = ps.DAEProblem(f, torch.zeros(3, dtype=torch.float64), vector(1.0, 0.3, 0.0), (0.0, 1.0))
    with pytest.raises(ps.SolveError, match="index"):
        ps.solve(prob, alg, maxiters=1000, **options)


@pytest.mark.julia
@pytest.mark.parametrize("sensealg", [ps.ForwardSensitivity(), ps.InterpolatingAdjoint()], ids=lambda s: s.name)
def test_solvers_by_the_residual_have_fewer_gradients(sensealg):
    with pytest.raises(ps.UnsupportedError, match=rf"{sensealg.name}[\s\S]*IDA"):
        ps.solve(logarithmic(vector(1.0, 2.0), (0.0, 1.0)), ps.IDA(), sensealg=sensealg, engine="julia")


@pytest.mark.julia
@pytest.mark.parametrize("alg", [ps.IDA(), ps.DFBDF()], ids=lambda a: a.name)
def test_solvers_by_the_residual_solve_ordinary_problems(alg):
    k = vector(2.0).requires_grad_()
    prob = ps.ODEProblem(lambda t, u: -k * u, vector(1.0), (0.0, 1.0))
    u = ps.solve(prob, alg, saveat=[1.0], **TIGHT, engine="julia").u
    (grad,) = torch.autograd.grad(u.sum(), k)
    assert u.item() == pytest.approx(math.exp(-2), abs=1e-7)
    assert grad.item() == pytest.approx(-math.exp(-2), abs=1e-7)
