"""What every engine promises. A new engine joins by adding itself to `ENGINES`."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from finite_differences import gradient, relative_error
from problems import ROBER_END, ROBER_REFERENCE, SMOOTH, Problem, lotka_volterra, robertson, vector

import pysciml as ps

F64 = torch.float64
ENGINES = ["embedded", pytest.param("julia", marks=pytest.mark.julia)]
TIGHT = {"reltol": 1e-10, "abstol": 1e-12}
REFERENCE = {"tol": {"reltol": 1e-13, "abstol": 1e-15}, "alg": ps.CVODE_Adams()}  # what finite differences are taken of

DAE = {"embedded": ps.IDA(), "julia": ps.Rodas5P()}

pytestmark = pytest.mark.parametrize("engine", ENGINES)
algorithms = pytest.mark.parametrize("alg", [ps.CVODE_BDF(), ps.CVODE_Adams()], ids=lambda a: a.name)
problems = pytest.mark.parametrize("problem", SMOOTH, ids=lambda p: p.name)
sensitivities = pytest.mark.parametrize(
    "sensealg",
    [ps.GaussAdjoint(), ps.InterpolatingAdjoint(checkpoints=30), ps.ForwardSensitivity()],
    ids=lambda s: s.name,
)


def states(problem: Problem, engine: str, *, alg=None, u0=None, p=None, t0=0.0, times=None, tol=TIGHT, **options):
    prob = ps.ODEProblem(
        problem.f, problem.u0 if u0 is None else u0, (t0, problem.tspan[1] + 0.5), problem.p if p is None else p
    )
    return ps.solve(prob, alg, saveat=problem.times if times is None else times, engine=engine, **tol, **options)


def weights(problem: Problem) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(len(problem.times), problem.u0.numel(), generator=generator, dtype=F64)


@algorithms
@pytest.mark.parametrize("problem", [p for p in SMOOTH if p.exact], ids=lambda p: p.name)
def test_reaches_the_exact_solution(engine, alg, problem):
    sol = states(problem, engine, alg=alg)
    assert relative_error(sol.u, problem.exact(problem.times)) < 1e-8
    assert sol.retcode is ps.ReturnCode.Success
    assert sol.u.shape == (len(problem.times), problem.u0.numel())


@algorithms
def test_error_falls_with_the_tolerance(engine, alg):
    problem = SMOOTH[1]
    errors = [
        relative_error(
            states(problem, engine, alg=alg, tol={"reltol": tol, "abstol": tol}).u, problem.exact(problem.times)
        )
        for tol in (1e-4, 1e-6, 1e-8, 1e-10)
    ]
    assert all(fine < coarse / 5 for coarse, fine in pairwise(errors)), errors


@algorithms
@sensitivities
@problems
def test_gradients_agree_with_finite_differences(engine, alg, sensealg, problem):
    w = weights(problem)
    u0, p = problem.u0.clone().requires_grad_(), problem.p.clone().requires_grad_()
    (w * states(problem, engine, alg=alg, u0=u0, p=p, sensealg=sensealg).u).sum().backward()
    by_u0 = gradient(lambda x: (w * states(problem, engine, u0=x, **REFERENCE).u).sum(), u0)
    by_p = gradient(lambda x: (w * states(problem, engine, p=x, **REFERENCE).u).sum(), p)
    assert relative_error(u0.grad, by_u0) < 1e-6
    assert relative_error(p.grad, by_p) < 1e-6


@algorithms
@problems
def test_time_gradients_agree_with_finite_differences(engine, alg, problem):
    w = weights(problem)
    t0 = torch.tensor(0.05, dtype=F64, requires_grad=True)
    times = problem.times.clone().requires_grad_()
    (w * states(problem, engine, alg=alg, t0=t0, times=times).u).sum().backward()
    by_t0 = gradient(lambda x: (w * states(problem, engine, t0=x, **REFERENCE).u).sum(), t0)
    by_times = gradient(lambda x: (w * states(problem, engine, t0=t0.detach(), times=x, **REFERENCE).u).sum(), times)
    assert relative_error(t0.grad, by_t0) < 1e-6
    assert relative_error(times.grad, by_times) < 1e-6


@problems
def test_gradients_agree_with_torchdiffeq(engine, problem):
    from torchdiffeq import odeint

    w = weights(problem)
    u0, p = problem.u0.clone().requires_grad_(), problem.p.clone().requires_grad_()
    (w * states(problem, engine, alg=ps.CVODE_BDF(), u0=u0, p=p).u).sum().backward()
    v0, q = problem.u0.clone().requires_grad_(), problem.p.clone().requires_grad_()
    grid = torch.cat([torch.zeros(1, dtype=F64), problem.times])
    (w * odeint(lambda t, u: problem.f(t, u, q), v0, grid, rtol=1e-10, atol=1e-12)[1:]).sum().backward()
    assert relative_error(u0.grad, v0.grad) < 1e-6
    assert relative_error(p.grad, q.grad) < 1e-6


def test_gradient_through_the_end_of_the_span(engine):
    t1 = torch.tensor(2.0, dtype=F64, requires_grad=True)
    prob = ps.ODEProblem(lambda t, u: -0.5 * u, vector(3.0), (0.0, t1))
    ps.solve(prob, engine=engine, **TIGHT).u[-1].sum().backward()
    assert t1.grad.item() == pytest.approx(-0.5 * 3.0 * torch.e ** (-1.0), rel=1e-7)


def test_dense_output_and_its_gradients(engine):
    p = vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
    t = vector(2.2, 0.7, 2.2, 4.0).requires_grad_()  # any order, repeated
    prob = ps.ODEProblem(lotka_volterra, vector(1.0, 1.0), (0.0, 5.0), p)
    sol = ps.solve(prob, ps.CVODE_Adams(), saveat=[5.0], engine=engine, **TIGHT)
    w = torch.randn(4, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    (w * sol(t)).sum().backward()
    assert torch.allclose(sol(t)[0], sol(t)[2], rtol=1e-7)
    saved = ps.solve(prob, ps.CVODE_Adams(), saveat=[0.7, 2.2, 4.0], engine=engine, **TIGHT).u
    assert torch.allclose(sol(t).detach(), saved[[1, 0, 1, 2]].detach(), rtol=1e-6)

    def loss(p, t):
        return (w * ps.solve(prob.remake(p=p), ps.CVODE_Adams(), saveat=[5.0], engine=engine, **TIGHT)(t)).sum()

    assert relative_error(p.grad, gradient(lambda x: loss(x, t.detach()), p)) < 1e-6
    assert relative_error(t.grad, gradient(lambda x: loss(p.detach(), x), t)) < 1e-6
    assert sol(1.0).shape == (2,)
    assert sol(torch.ones(2, 3, dtype=F64)).shape == (2, 3, 2)


@pytest.mark.parametrize("alg", [ps.CVODE_Adams(), ps.Tsit5()], ids=lambda a: a.name)
def test_dense_output_belongs_to_its_own_solve(engine, alg):
    p = vector(0.5).requires_grad_()
    sol = ps.solve(ps.ODEProblem(lambda t, u, p: -p * u, vector(1.0), (0.0, 2.0), p), alg, engine=engine, **TIGHT)
    with torch.no_grad():
        p += 1.0  # as an optimizer would
    if engine == "embedded" and alg.embedded == "torchdiffeq":
        with pytest.raises(ps.InvalidInputError, match="a parameter has changed"):
            sol(1.0)
        return
    value = sol(1.0)
    assert value.item() == pytest.approx(torch.e**-0.5, rel=1e-8)
    value.backward()
    assert p.grad.item() == pytest.approx(-(torch.e**-0.5), rel=1e-7)


def test_backwards_in_time(engine):
    p = vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
    forward = ps.solve(ps.ODEProblem(lotka_volterra, vector(1.0, 1.0), (0.0, 3.0), p), engine=engine, **TIGHT)
    back = ps.ODEProblem(lotka_volterra, forward.u[-1].detach(), (3.0, 0.0), p)
    sol = ps.solve(back, saveat=[2.0, 0.0], engine=engine, **TIGHT)
    assert torch.allclose(sol.u[-1], vector(1.0, 1.0), atol=1e-7)
    assert torch.allclose(sol(2.0), forward(2.0), atol=1e-7)
    sol.u.sum().backward()
    by_p = gradient(lambda x: ps.solve(back.remake(p=x), saveat=[2.0, 0.0], engine=engine, **TIGHT).u.sum(), p)
    assert relative_error(p.grad, by_p) < 1e-6


def test_state_and_parameters_are_pytrees(engine):
    def f(t, u, p):
        return {"speed": -p["k"] * u["at"], "at": u["speed"]}  # in another order than u0

    u0 = {"at": torch.eye(2, dtype=F64), "speed": torch.zeros(2, 2, dtype=F64)}
    p = {"k": torch.tensor(4.0, dtype=F64, requires_grad=True)}
    sol = ps.solve(ps.ODEProblem(f, u0, (0.0, 1.0), p), saveat=[0.5, 1.0], engine=engine, **TIGHT)
    assert sol.u["at"].shape == (2, 2, 2)
    assert torch.allclose(sol.u["at"][1], torch.eye(2, dtype=F64) * torch.cos(torch.tensor(2.0)), atol=1e-7)
    sol.u["at"][1, 0, 0].backward()  # cos(sqrt(k)), whose derivative is -sin(sqrt(k)) / (2 sqrt(k))
    assert p["k"].grad.item() == pytest.approx(-0.2273243567, rel=1e-7)


def test_modules_closures_and_intermediate_tensors_get_gradients(engine):
    net = torch.nn.Linear(2, 2, bias=False).double()
    log_rate = torch.tensor(-0.3, dtype=F64, requires_grad=True)
    rate = torch.exp(log_rate)  # not a leaf

    def solve(weight, rate):
        f = lambda t, u: -rate * u + torch.tanh(u @ weight.T)  # noqa: E731
        prob = ps.ODEProblem(f, vector(1.0, -0.5), (0.0, 2.0))
        return ps.solve(prob, ps.CVODE_Adams(), engine=engine, **TIGHT).u[-1].sum()

    solve(net.weight, rate).backward()
    by_weight = gradient(lambda w: solve(w, rate.detach()), net.weight)
    by_rate = gradient(lambda x: solve(net.weight.detach(), torch.exp(x)), log_rate)
    assert relative_error(net.weight.grad, by_weight) < 1e-6
    assert relative_error(log_rate.grad, by_rate) < 1e-6


def test_only_what_needs_a_gradient_gets_one(engine):
    u0, p = vector(1.0, 1.0), vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
    prob = ps.ODEProblem(lotka_volterra, u0, (0.0, 1.0), p)
    ps.solve(prob, engine=engine).u.sum().backward()
    assert u0.grad is None
    with torch.no_grad():
        assert not ps.solve(prob, engine=engine).u.requires_grad
    sol = ps.solve(prob.remake(p=p.detach()), engine=engine)
    assert not sol.u.requires_grad


def test_second_derivatives_are_right(engine):
    """With a path around the solve, too: y is part of the first gradient."""
    p = vector(0.5).requires_grad_()
    prob = ps.ODEProblem(lambda t, u, p: p * u, vector(1.0), (0.0, 1.0), p)
    y = ps.solve(prob, engine=engine, **TIGHT).u[-1].sum()
    (first,) = torch.autograd.grad(p[0] * y, p, create_graph=True)
    first.sum().backward()
    assert relative_error(p.grad, 2.5 * p.exp()) < 1e-7


def test_second_derivatives_refuse_values_that_have_changed(engine):
    p = vector(0.5).requires_grad_()
    y = ps.solve(ps.ODEProblem(lambda t, u, p: p * u, vector(1.0), (0.0, 1.0), p), engine=engine).u[-1].sum()
    with torch.no_grad():
        p += 1
    with pytest.raises(ps.InvalidInputError, match="changed since"):
        torch.autograd.grad(y, p, create_graph=True)


def test_float32_is_kept(engine):
    u0 = torch.tensor([1.0, 1.0], requires_grad=True)
    p = torch.tensor([1.5, 1.0, 1.0, 3.0], requires_grad=True)
    sol = ps.solve(ps.ODEProblem(lotka_volterra, u0, (0.0, 2.0), p), engine=engine)
    sol.u.sum().backward()
    assert sol.u.dtype is u0.grad.dtype is p.grad.dtype is torch.float32
    double = ps.solve(ps.ODEProblem(lotka_volterra, u0.double(), (0.0, 2.0), p.double()), engine=engine, **TIGHT)
    assert torch.allclose(sol.u, double.u.float(), rtol=1e-3)


def test_an_unreached_state_has_a_zero_gradient_and_says_so(engine):
    u0 = vector(1.0, 2.0).requires_grad_()
    ps.solve(ps.ODEProblem(lambda t, u: -u, u0, (0.0, 1.0)), engine=engine, **TIGHT).u[-1, 0].backward()
    assert u0.grad[1].item() == 0.0
    assert u0.grad[0].item() == pytest.approx(torch.e**-1, rel=1e-8)


def test_tolerance_per_state(engine):
    abstol = vector(1e-10, 1e-14, 1e-10)
    times = torch.tensor([40.0, 4e5], dtype=F64)
    prob = ps.ODEProblem(robertson, vector(1.0, 0.0, 0.0), (0.0, 4e5), vector(0.04, 3e7, 1e4))
    sol = ps.solve(prob, ps.CVODE_BDF(), saveat=times, reltol=1e-8, abstol=abstol, engine=engine)
    # Hindmarsh's tables for the same problem, to the digits printed with CVODE's own example.
    assert torch.allclose(sol.u[0], vector(0.7158, 9.185e-6, 0.2842), rtol=1e-3)
    assert torch.allclose(sol.u[1], vector(4.9385e-3, 1.9849e-8, 0.99506), rtol=1e-3)


def test_robertson_reaches_the_published_reference(engine):
    prob = ps.ODEProblem(robertson, vector(1.0, 0.0, 0.0), (0.0, ROBER_END), vector(0.04, 3e7, 1e4))
    sol = ps.solve(prob, ps.CVODE_BDF(), reltol=1e-10, abstol=vector(1e-14, 1e-18, 1e-14), engine=engine)
    assert torch.allclose(sol.u[-1], ROBER_REFERENCE, rtol=1e-4)


@pytest.mark.parametrize("sensealg", [ps.GaussAdjoint(), ps.ForwardSensitivity()], ids=lambda s: s.name)
def test_robertson_gradients_to_1e5(engine, sensealg):
    times = torch.logspace(-2, 5, 8, dtype=F64)
    w = vector(1.0, 1e4, 1.0)
    options = {"reltol": 1e-8, "abstol": vector(1e-10, 1e-13, 1e-10), "engine": engine, "saveat": times}

    def loss(p, **more):
        prob = ps.ODEProblem(robertson, vector(1.0, 0.0, 0.0), (0.0, 1e5), p)
        return (w * ps.solve(prob, ps.CVODE_BDF(), **{**options, **more}).u).sum()

    p = vector(0.04, 3e7, 1e4).requires_grad_()
    loss(p, sensealg=sensealg).backward()
    finer = {"reltol": 1e-11, "abstol": vector(1e-14, 1e-17, 1e-14)}
    scale = p.detach()
    by_log_p = gradient(lambda x: loss(scale * torch.exp(x), **finer), torch.zeros(3, dtype=F64))
    assert relative_error(p.grad * scale, by_log_p) < 1e-5


def test_semi_explicit_dae_and_its_gradients(engine):
    def dae(t, u, p):
        a, b, c = u
        return torch.stack([p[2] * b * c - p[0] * a, p[0] * a - p[1] * b * b - p[2] * b * c, a + b + c - 1])

    mass = vector(1.0, 1.0, 0.0)
    times = torch.logspace(-2, 5, 8, dtype=F64)
    options = {"reltol": 1e-9, "abstol": vector(1e-11, 1e-14, 1e-11), "engine": engine, "saveat": times}
    p, u0 = vector(0.04, 3e7, 1e4), vector(1.0, 0.0, 0.0)
    q = p.clone().requires_grad_()
    as_dae = ps.solve(ps.ODEProblem(dae, u0, (0.0, 1e5), q, mass_matrix=mass), DAE[engine], **options)
    as_ode = ps.solve(ps.ODEProblem(robertson, u0, (0.0, 1e5), p.requires_grad_()), ps.CVODE_BDF(), **options)
    assert torch.allclose(as_dae.u, as_ode.u, rtol=1e-6)
    w = vector(1.0, 1e4, 2.0)
    (w * as_dae.u).sum().backward()
    (w * as_ode.u).sum().backward()
    assert relative_error(q.grad * p.detach(), p.grad * p.detach()) < 1e-5


@pytest.mark.parametrize("sensealg", [ps.GaussAdjoint(), ps.ForwardSensitivity()], ids=lambda s: s.name)
def test_dae_gradients_of_initial_state_times_and_algebraic_variables(engine, sensealg):
    """x' = -p z, 0 = z - x^2: x = x0 / (1 + p x0 t), z = x^2."""

    def f(t, u, p):
        x, z = u
        return torch.stack([-p[0] * z, z - x**2])

    u0, p = vector(2.0, 4.0).requires_grad_(), vector(0.7).requires_grad_()
    times = vector(0.5, 1.0).requires_grad_()
    prob = ps.ODEProblem(f, u0, (0.0, 1.0), p, mass_matrix=vector(1.0, 0.0))
    sol = ps.solve(prob, DAE[engine], saveat=times, engine=engine, sensealg=sensealg, **TIGHT)
    x0, q, ts = vector(2.0).requires_grad_(), vector(0.7).requires_grad_(), times.detach().clone().requires_grad_()
    x = x0 / (1 + q * x0 * ts)
    exact = torch.stack([x, x**2], dim=1)
    assert torch.allclose(sol.u, exact, rtol=1e-8)
    w = torch.tensor([[1.0, 2.0], [-1.0, 0.5]], dtype=F64)
    (w * sol.u).sum().backward()
    (w * exact).sum().backward()
    assert torch.allclose(u0.grad, torch.stack([x0.grad[0], torch.zeros((), dtype=F64)]), rtol=1e-6)
    assert torch.allclose(p.grad, q.grad, rtol=1e-6)
    assert torch.allclose(times.grad, ts.grad, rtol=1e-6)


def test_a_mass_matrix_without_zeros(engine):
    mass = vector(2.0, 0.5)
    sol = ps.solve(
        ps.ODEProblem(lambda t, u: -u, vector(1.0, 1.0), (0.0, 1.0), mass_matrix=mass), engine=engine, **TIGHT
    )
    assert torch.allclose(sol.u[-1], torch.exp(-1.0 / mass), rtol=1e-7)


@sensitivities
def test_gradients_with_a_mass_matrix(engine, sensealg):
    """M u' = p u: u = u0 exp(p t / M)."""
    mass, times = vector(2.0, 0.5), vector(0.4, 1.0)
    u0, p = vector(1.5, 0.7).requires_grad_(), vector(-0.6).requires_grad_()
    prob = ps.ODEProblem(lambda t, u, p: p * u, u0, (0.0, 1.0), p, mass_matrix=mass)
    w = torch.tensor([[1.0, 2.0], [-1.0, 0.5]], dtype=F64)
    ((w * ps.solve(prob, saveat=times, engine=engine, sensealg=sensealg, **TIGHT).u) ** 2).sum().backward()
    v0, q = u0.detach().clone().requires_grad_(), p.detach().clone().requires_grad_()
    ((w * v0 * torch.exp(q * times[:, None] / mass)) ** 2).sum().backward()
    assert relative_error(u0.grad, v0.grad) < 1e-7
    assert relative_error(p.grad, q.grad) < 1e-7


def test_the_backward_solve_has_tolerances_of_its_own(engine):
    p = vector(1.5, 1.0, 1.0, 3.0)

    def error(**sense):
        q = p.clone().requires_grad_()
        sol = ps.solve(
            ps.ODEProblem(lotka_volterra, vector(1.0, 1.0), (0.0, 4.0), q), ps.CVODE_BDF(), engine=engine, **TIGHT,
            sensealg=ps.GaussAdjoint(**sense),
        )  # fmt: skip
        sol.u[-1].sum().backward()
        return q.grad

    exact = error()
    assert 1e-6 < relative_error(error(reltol=1e-3, abstol=1e-3), exact) < 0.5
    assert relative_error(error(reltol=1e-8, abstol=1e-8), exact) < 1e-5


def test_stats_count_and_time_both_ways(engine):
    p = vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
    sol = ps.solve(ps.ODEProblem(lotka_volterra, vector(1.0, 1.0), (0.0, 4.0), p), engine=engine)
    assert sol.stats.nf > sol.stats.naccept > 10
    assert sol.stats.engine == engine
    assert sol.stats.backward is None
    sol.u.sum().backward()
    assert sol.stats.backward.wall_time > 0


@pytest.mark.parametrize("end", [2.0, 60.0], ids=["short", "long"])
def test_equal_calls_give_equal_gradients_whatever_came_between(engine, end):
    def gradient_at(rate, span=end):
        p = (vector(1.5, 1.0, 1.0, 3.0) * rate).requires_grad_()
        sol = ps.solve(ps.ODEProblem(lotka_volterra, vector(1.0, 1.0), (0.0, span), p), ps.CVODE_BDF(), engine=engine)
        sol.u.sum().backward()
        return p.grad

    first = gradient_at(1.0)
    gradient_at(1.3)
    gradient_at(1.1, span=200.0)
    assert torch.equal(gradient_at(1.0), first)


def test_solves_in_threads_give_the_same(engine):
    from concurrent.futures import ThreadPoolExecutor

    def one(k):
        p = (vector(1.5, 1.0, 1.0, 3.0) * (1 + 0.01 * k)).requires_grad_()
        sol = ps.solve(ps.ODEProblem(lotka_volterra, vector(1.0, 1.0), (0.0, 4.0), p), saveat=0.5, engine=engine)
        sol.u.sum().backward()
        return sol.u.detach(), p.grad

    alone = [one(k) for k in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(one, range(8)))
    for (u, g), (v, h) in zip(alone, together, strict=True):
        assert torch.equal(u, v)
        assert torch.equal(g, h)


def falling(t, u, p):
    return torch.stack([u[1], -p[0] * torch.ones_like(u[1])])


def shaken(t, u, p):
    return p * torch.sin(50 * t) + 0.0 * u


@sensitivities
@algorithms
@pytest.mark.parametrize(
    ("f", "u0", "end", "exact"),
    [(falling, vector(2.0, 0.0), 3.0, -4.5), (shaken, vector(0.0), 10.0, (1 - math.cos(500.0)) / 50)],
    ids=["falling", "shaken"],
)
def test_an_adjoint_that_hardly_moves_has_its_parameters_gradient(engine, alg, sensealg, f, u0, end, exact):
    """Its solver takes steps as long as it likes, over all that df/dp does meanwhile."""
    p = vector(1.0).requires_grad_()
    options = {"reltol": 1e-8, "abstol": 1e-8, "engine": engine, "sensealg": sensealg}
    ps.solve(ps.ODEProblem(f, u0, (0.0, end), p), alg, saveat=[end], **options).u[-1, 0].backward()
    assert p.grad.item() == pytest.approx(exact, abs=1e-5)


def test_saved_times_in_a_list_are_those_numbers(engine):
    """A list of Python's numbers is not rounded to float32 on its way."""
    sol = ps.solve(ps.ODEProblem(lambda t, u: -u, vector(1.0), (0.0, 0.3)), saveat=[0.1, 0.3], engine=engine)
    assert sol.t.tolist() == [0.1, 0.3]
