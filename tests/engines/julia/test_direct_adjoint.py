"""The steps of Tsit5 read backwards: against differences of the very same steps, and against other gradients."""

from __future__ import annotations

import pytest
import torch
from finite_differences import gradient, relative_error
from problems import lotka_volterra, vector

import pysciml as ps

pytestmark = pytest.mark.julia
DIRECT, JULIA = ps.DirectAdjoint(), {"engine": "julia"}
TIMES = vector(0.5, 0.62, 0.9, 1.4999, 2.0)
WEIGHTS = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
# What no error estimate shortens: the same steps at every value, so that differences are those of the numbers.
FIXED = {"dt": 0.1, "dtmax": 0.1, "reltol": 1e10, "abstol": 1e10}


def forced(t, u, p):
    return torch.stack([u[1] * torch.cos(t) - p[0] * u[0] ** 2, torch.sin(p[0] * u[1]) - p[1] * u[0]])


def inputs():
    return vector(1.0, 0.3).requires_grad_(), vector(0.7, 1.3).requires_grad_()


def loss(u0, p, ts=TIMES, tspan=(0.5, 2.0), f=forced, **options):
    prob = ps.ODEProblem(f, u0, tspan, p)
    sol = ps.solve(prob, ps.Tsit5(), saveat=ts, sensealg=DIRECT, **JULIA, **{**FIXED, **options})
    return (sol.u * WEIGHTS[: len(ts)]).sum()


def check(tolerance: float, **options):
    u0, p = inputs()
    loss(u0, p, **options).backward()
    by_u0 = gradient(lambda x: loss(x, p.detach(), **options), u0)
    by_p = gradient(lambda x: loss(u0.detach(), x, **options), p)
    assert relative_error(u0.grad, by_u0) < tolerance
    assert relative_error(p.grad, by_p) < tolerance


@pytest.mark.parametrize("route", ["compiled", "callback"])
def test_it_is_the_derivative_of_the_numbers(route):
    check(1e-9, route=route)


@pytest.mark.parametrize("ts", [TIMES[-1:], TIMES[:1], TIMES[1:3]], ids=["the end", "the start", "between steps"])
def test_of_a_few_times(ts):
    u0, p = inputs()
    loss(u0, p, ts=ts).backward()
    assert relative_error(u0.grad, gradient(lambda x: loss(x, p.detach(), ts=ts), u0)) < 1e-9
    by_p = gradient(lambda x: loss(u0.detach(), x, ts=ts), p)
    assert (p.grad - by_p).norm() < 1e-9 * (1 + by_p.norm())
    if ts[0] == 0.5:
        assert p.grad.abs().max() == 0


def test_backwards_in_time():
    check(1e-9, ts=vector(2.0, 1.83, 1.5, 1.4), tspan=(2.0, 1.4))


def test_times_to_step_on_and_jumps():
    check(1e-9, tstops=[0.777])
    check(1e-9, d_discontinuities=[1.2])


def test_an_event_in_the_middle():
    def ends(u0, p, sensealg):
        prob = ps.ODEProblem(forced, u0, (0.5, 2.0), p)
        bounce = ps.ContinuousCallback(lambda t, u, p: u[0] - 0.8, lambda t, u, p: torch.stack([u[0], u[1] - 0.5]))
        sol = ps.solve(
            prob, ps.Tsit5(), saveat=[2.0], callback=bounce, sensealg=sensealg, reltol=1e-9, abstol=1e-9, **JULIA
        )
        assert sol.events
        return sol.u[-1].sum()

    found = []
    for sensealg in (DIRECT, ps.GaussAdjoint()):
        u0, p = inputs()
        ends(u0, p, sensealg).backward()
        found.append(torch.cat([u0.grad, p.grad]))
    assert relative_error(*found) < 1e-6


def test_dense_output_and_times():
    u0, p = inputs()
    ts = TIMES[1:4].clone().requires_grad_()
    options = {"sensealg": DIRECT, "reltol": 1e-10, "abstol": 1e-10, **JULIA}
    sol = ps.solve(ps.ODEProblem(forced, u0, (0.5, 2.0), p), ps.Tsit5(), saveat=ts, **options)
    (sol(1.234).sum() + sol.u.sum()).backward()
    expected = []
    for x in (u0, p, ts):

        def at(y, x=x):
            mine = [y if x is z else z.detach() for z in (u0, p, ts)]
            sol = ps.solve(ps.ODEProblem(forced, mine[0], (0.5, 2.0), mine[1]), ps.Tsit5(), saveat=mine[2],
                           **{**options, "reltol": 1e-12, "abstol": 1e-12})  # fmt: skip
            return sol(1.234).sum() + sol.u.sum()

        expected.append(gradient(at, x))
    for x, y in zip((u0, p, ts), expected, strict=True):
        assert relative_error(x.grad, y) < 1e-6


def test_a_network_gets_the_gradient_of_every_weight():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)).double()
    found = []
    for sensealg in (DIRECT, ps.GaussAdjoint()):
        net.zero_grad()
        prob = ps.ODEProblem(lambda t, u: net(u) - u, vector(1.0, -1.0), (0.0, 3.0))
        sol = ps.solve(prob, ps.Tsit5(), saveat=0.5, sensealg=sensealg, reltol=1e-9, abstol=1e-9, **JULIA)
        (sol.u**2).sum().backward()
        found.append(torch.cat([x.grad.reshape(-1) for x in net.parameters()]))
    assert relative_error(*found) < 1e-6


def test_its_error_falls_with_the_tolerance():
    def at(tol, sensealg):
        u0, p = vector(1.0, 0.8).requires_grad_(), vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
        prob = ps.ODEProblem(lotka_volterra, u0, (0.0, 5.0), p)
        ps.solve(
            prob, ps.Tsit5(), saveat=0.5, sensealg=sensealg, reltol=tol, abstol=tol, **JULIA
        ).u.square().sum().backward()
        return torch.cat([u0.grad, p.grad])

    truth = at(1e-12, ps.GaussAdjoint())
    errors = [relative_error(at(tol, DIRECT), truth) for tol in (1e-4, 1e-6, 1e-8, 1e-10)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-8


def test_single_precision():
    u0, p = torch.tensor([1.0, 0.3]), torch.tensor([0.7, 1.3], requires_grad=True)
    with ps.config.override(single_precision=True):
        sol = ps.solve(ps.ODEProblem(forced, u0, (0.5, 2.0), p), ps.Tsit5(), saveat=[2.0], sensealg=DIRECT, **JULIA)
        sol.u.sum().backward()
    exact = vector(0.7, 1.3).requires_grad_()
    prob = ps.ODEProblem(forced, u0.double(), (0.5, 2.0), exact)
    ps.solve(prob, ps.Tsit5(), saveat=[2.0], sensealg=DIRECT, reltol=1e-9, **JULIA).u.sum().backward()
    assert relative_error(p.grad.double(), exact.grad) < 1e-3


def test_a_second_derivative():
    p = vector(0.7, 1.3).requires_grad_()
    prob = ps.ODEProblem(forced, vector(1.0, 0.3), (0.5, 2.0), p)
    tight = {"reltol": 1e-10, "abstol": 1e-10}
    out = ps.solve(prob, ps.Tsit5(), saveat=[2.0], sensealg=DIRECT, **tight, **JULIA).u.sum()
    (first,) = torch.autograd.grad(out, p, create_graph=True)
    (second,) = torch.autograd.grad(first[0], p)

    def slope(x):
        x = x.detach().requires_grad_()
        prob = ps.ODEProblem(forced, vector(1.0, 0.3), (0.5, 2.0), x)
        with torch.enable_grad():
            out = ps.solve(prob, ps.Tsit5(), saveat=[2.0], sensealg=DIRECT, **tight, **JULIA).u.sum()
        return torch.autograd.grad(out, x)[0][0].item()

    assert relative_error(second, gradient(slope, p)) < 1e-5


def test_what_it_cannot_do_is_said():
    prob = ps.ODEProblem(forced, vector(1.0, 0.3), (0.5, 2.0), vector(0.7, 1.3))
    with pytest.raises(ps.UnsupportedError, match="does not know the steps of Vern7") as caught:
        ps.solve(prob, ps.Vern7(), sensealg=DIRECT, **JULIA)
    assert "pysciml.Tsit5()" in str(caught.value)
    own = ps.ODEProblem(ps.JuliaFunction("(du, u, p, t) -> (du .= -p[1] .* u)"), vector(1.0), (0.0, 1.0), vector(1.0))
    with pytest.raises(ps.UnsupportedError, match="for right-hand sides in torch"):
        ps.solve(own, ps.Tsit5(), sensealg=DIRECT, **JULIA)


# Ensembles: each member is solved once more for its gradient.


def members(n: int = 7):
    generator = torch.Generator().manual_seed(5)
    u0 = (1 + 0.3 * torch.rand(n, 2, dtype=torch.float64, generator=generator)).requires_grad_()
    return u0, (0.5 + torch.rand(n, 2, dtype=torch.float64, generator=generator)).requires_grad_()


@pytest.mark.parametrize("shared", [False, True], ids=["own parameters", "shared parameters"])
def test_an_ensemble_has_the_gradients_of_its_members(shared):
    u0, p = members()
    q = vector(0.7, 1.3).requires_grad_()
    prob = ps.ODEProblem(forced, u0[0].detach(), (0.5, 2.0), q)
    many = ps.EnsembleProblem(prob, u0=u0, p=None if shared else p)
    options = {"saveat": TIMES, "sensealg": DIRECT, "reltol": 1e-8, "abstol": 1e-8, **JULIA}
    sol = ps.solve_ensemble(many, ps.Tsit5(), executor="threads", **options)
    (sol.u * WEIGHTS).sum().backward()
    own = q if shared else p
    threads = u0.grad.clone(), own.grad.clone()
    u0.grad = own.grad = None
    alone = [ps.solve(many.member(i), ps.Tsit5(), **options).u for i in range(len(u0))]
    assert torch.equal(sol.u, torch.stack(alone))
    (torch.stack(alone) * WEIGHTS).sum().backward()
    assert relative_error(threads[0], u0.grad) < 1e-11
    assert relative_error(threads[1], own.grad) < 1e-11
    assert sol.stats.backward.naccept == sol.stats.naccept > 0


@pytest.mark.parametrize("sensealg", [ps.GaussAdjoint(), ps.CollocationAdjoint(), ps.QuadratureAdjoint()],
                         ids=lambda s: s.name)  # fmt: skip
def test_of_many_members_nothing_is_kept_and_gradients_are_the_same(sensealg, monkeypatch):
    from pysciml.engines.julia import ensembles

    u0, p = members()
    prob, found = ps.ODEProblem(forced, u0[0].detach(), (0.5, 2.0), p[0].detach()), []
    for kept in (1000, 3):
        monkeypatch.setattr(ensembles, "_MANY", kept)
        u0.grad = p.grad = None
        sol = ps.solve_ensemble(ps.EnsembleProblem(prob, u0=u0, p=p), ps.Vern7(), executor="threads", saveat=TIMES,
                                sensealg=sensealg, **JULIA)  # fmt: skip
        sol.u.sum().backward()
        found.append(torch.cat([u0.grad, p.grad]))
    assert torch.equal(*found)


def test_an_ensemble_keeps_what_it_solved_with():
    """Its members are solved again when the gradient is asked for, with the values of then."""
    u0, p = members()
    prob = ps.ODEProblem(forced, u0[0].detach(), (0.5, 2.0), p[0].detach())
    found = []
    for spoil in (False, True):
        u0.grad = p.grad = None
        sol = ps.solve_ensemble(ps.EnsembleProblem(prob, u0=u0, p=p), ps.Tsit5(), executor="threads", saveat=TIMES,
                                sensealg=DIRECT, **JULIA)  # fmt: skip
        if spoil:
            with torch.no_grad():
                u0.add_(1.0)
                p.mul_(2.0)
        sol.u.sum().backward()
        found.append(torch.cat([u0.grad, p.grad]))
    assert torch.equal(*found)


@pytest.mark.parametrize("sensealg", [DIRECT, None], ids=["DirectAdjoint", "no gradient"])
def test_members_that_fail_leave_the_others_as_they_are(sensealg):
    u0 = torch.tensor([[0.5], [2.0], [0.25], [3.0], [0.5]], dtype=torch.float64)
    u0.requires_grad_(sensealg is not None)
    prob = ps.ODEProblem(lambda t, u: u**2, vector(0.5), (0.0, 1.0))  # 1 / (1 / u0 - t)
    options = {"executor": "threads", "saveat": [0.5, 1.0], "reltol": 1e-9, "abstol": 1e-9, **JULIA}
    with pytest.warns(ps.PySciMLWarning, match="2 of 5 trajectories failed"):
        sol = ps.solve_ensemble(ps.EnsembleProblem(prob, u0=u0), ps.Tsit5(), sensealg=sensealg, **options)
    assert sol.failed == [1, 3]
    assert 0.49 < sol.stopped[1] < 0.51
    good = [0, 2, 4]
    assert torch.allclose(sol.u[good, -1, 0], 1 / (1 / u0.detach()[good, 0] - 1), rtol=1e-7)
    assert torch.equal(sol.u[0], sol.u[4])
    if sensealg is not None:
        sol.u[sol.successful, -1].sum().backward()
        assert torch.allclose(u0.grad[good, 0], (1 - u0.detach()[good, 0]) ** -2, rtol=1e-6)
        assert torch.equal(u0.grad[[1, 3]], torch.zeros(2, 1, dtype=torch.float64))


@pytest.mark.parametrize("alg", [ps.Tsit5(), ps.Vern7(), ps.Vern9()], ids=lambda a: a.name)
@pytest.mark.parametrize("options", [{}, {"dtmax": 0.05}, {"maxiters": 5000}, {"dt": 1e-3}], ids=str)
def test_an_integrator_that_starts_again_takes_the_steps_of_a_new_one(alg, options):
    u0, p = members()
    prob = ps.ODEProblem(forced, u0[0].detach(), (0.5, 2.0), p[0].detach())
    many = ps.EnsembleProblem(prob, u0=u0.detach(), p=p.detach())
    with torch.no_grad():
        sol = ps.solve_ensemble(many, alg, executor="threads", saveat=TIMES, **JULIA, **options)
        alone = [ps.solve(many.member(i), alg, saveat=TIMES, **JULIA, **options) for i in range(len(many))]
    assert torch.equal(sol.u, torch.stack([x.u for x in alone]))
    assert sol.stats.naccept == sum(x.stats.naccept for x in alone)
    assert sol.stats.nf == sum(x.stats.nf for x in alone)
