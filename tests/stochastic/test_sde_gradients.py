"""Pathwise gradients of stochastic equations: finite differences on a fixed path at fixed steps, and closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from finite_differences import gradient, relative_error
from sde_cases import ADDITIVE, ENGINES, EVERY, F64, GEOMETRIC, LORENZ_LIKE, label, number

import pysciml as ps

engines = pytest.mark.parametrize("engine", ENGINES)
TIMES = [0.3, 0.8, 1.0]


@pytest.mark.parametrize(("engine", "alg", "case"), EVERY, ids=label)
def test_gradients_are_those_of_finite_differences_on_the_path(engine, alg, case):
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(len(TIMES), *case.u0.shape, generator=generator, dtype=F64)
    noise = None
    if not isinstance(alg, ps.TorchSDE):
        noise = ps.NoisePath.sample(torch.linspace(0, 1, 101, dtype=F64), case.problem().motions, seed=2)
    tight = {"reltol": 1e-10, "abstol": 1e-10} if alg.implicit else {}  # of the iteration in a step

    def loss(u0=case.u0, p=case.p):
        sol = ps.solve(
            case.problem(u0, p), alg, saveat=TIMES, dt=0.05, adaptive=False, noise=noise, seed=4, engine=engine, **tight
        )
        return (w * sol.u).sum()

    u0, p = case.u0.clone().requires_grad_(), case.p.clone().requires_grad_()
    loss(u0, p).backward()
    assert relative_error(u0.grad, gradient(lambda x: loss(u0=x), u0)) < 1e-7
    assert relative_error(p.grad, gradient(lambda x: loss(p=x), p)) < 1e-7


@pytest.mark.julia
@pytest.mark.parametrize("alg", [ps.SOSRI(), ps.SOSRA(), ps.RKMil(), ps.LambaEM(), ps.ImplicitRKMil(), ps.SKenCarp()],
                         ids=lambda a: a.name)  # fmt: skip
def test_steps_of_the_solvers_choice_are_differentiated_as_they_were_taken(alg):
    """Against the closed form: as good as the solution."""
    case = ADDITIVE if "additive" in alg.noises and "diagonal" not in alg.noises else GEOMETRIC
    if case is ADDITIVE:  # an Ornstein-Uhlenbeck process, exact in u0
        a = number(1.3).requires_grad_()
        u0 = number([1.0]).requires_grad_()
        prob = ps.SDEProblem(lambda t, u: -a * u, lambda t, u: 0.3 * torch.ones_like(u), u0, (0.0, 1.0))
        noise = ps.NoisePath.sample(torch.linspace(0, 1, 2**12 + 1, dtype=F64), 1, seed=3)
        ps.solve(prob, alg, noise=noise, engine="julia", reltol=1e-5, abstol=1e-7).u[-1].sum().backward()
        assert u0.grad.item() == pytest.approx(math.exp(-1.3), rel=1e-3)
        return
    u0, p = case.u0.clone().requires_grad_(), case.p.clone().requires_grad_()
    prob = case.problem(u0, p)
    tight = (
        {} if alg.order < 1 else {"reltol": 1e-4, "abstol": 1e-6}
    )  # a step of order 1/2 comes down to rounding for it
    noise = ps.NoisePath.sample(torch.linspace(0, 1, 2**12 + 1, dtype=F64), 2, seed=3)
    sol = ps.solve(prob, alg, noise=noise, engine="julia", **tight)
    sol.u[-1].sum().backward()
    end, W = sol.u[-1].detach(), noise.W[-1]
    loose = 0.15 if alg.order < 1 else 2e-2
    assert relative_error(u0.grad, end / case.u0) < loose
    assert relative_error(p.grad, torch.stack([end.sum(), (end * (W - case.p[1])).sum()])) < loose


@engines
def test_geometric_brownian_motion_has_the_gradients_of_its_closed_form(engine):
    """d/dmu = t u, d/dsigma = (W - sigma t) u, d/du0 = u / u0, by Milstein's method at a small step."""
    u0, p = GEOMETRIC.u0.clone().requires_grad_(), GEOMETRIC.p.clone().requires_grad_()
    noise = ps.NoisePath.sample(torch.linspace(0, 1, 2049, dtype=F64), 2, seed=6)
    ps.solve(GEOMETRIC.problem(u0, p), ps.RKMil(), dt=1 / 2048, adaptive=False, noise=noise, engine=engine).u[
        -1
    ].sum().backward()
    end = GEOMETRIC.exact(1.0, noise.W[-1], GEOMETRIC.u0, GEOMETRIC.p)
    assert relative_error(u0.grad, end / GEOMETRIC.u0) < 2e-3
    by_p = torch.stack([end.sum(), (end * (noise.W[-1] - GEOMETRIC.p[1])).sum()])
    assert relative_error(p.grad, by_p) < 5e-3


@engines
def test_ornstein_uhlenbeck_has_the_gradients_of_its_closed_form(engine):
    """u(1) = u0 exp(-a) + b ∫ exp(-a (1 - s)) dW: linear in u0 and in b, and in a by the product rule."""
    a, b, u0 = (number(x).requires_grad_() for x in (0.8, 0.5, 1.5))
    t = torch.linspace(0, 1, 2049, dtype=F64)
    noise = ps.NoisePath.sample(t, 1, seed=6)
    prob = ps.SDEProblem(lambda t, u: -a * u, lambda t, u: b * torch.ones_like(u), u0[None], (0.0, 1.0))
    ps.solve(prob, ps.EM(), dt=1 / 2048, noise=noise, engine=engine).u[-1].sum().backward()
    dw, mid = noise.W[:, 0].diff(), (t[1:] + t[:-1]) / 2
    kernel = torch.exp(-0.8 * (1 - mid))
    assert u0.grad.item() == pytest.approx(math.exp(-0.8), rel=1e-3)
    assert b.grad.item() == pytest.approx((kernel * dw).sum().item(), rel=5e-3)
    exact = -1.5 * math.exp(-0.8) - 0.5 * ((1 - mid) * kernel * dw).sum().item()
    assert a.grad.item() == pytest.approx(exact, rel=5e-3)


@engines
def test_captured_tensors_and_modules_of_both_parts_get_their_gradients(engine):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    scale, both = number(0.3).requires_grad_(), number(0.7).requires_grad_()
    prob = ps.SDEProblem(
        lambda t, u: both * net(u), lambda t, u: scale * torch.cos(both * u), number([0.5, -0.2]), (0.0, 1.0)
    )

    def loss() -> torch.Tensor:
        return (
            ps.solve(prob, ps.RKMil(), dt=0.05, adaptive=False, seed=1, saveat=[0.5, 1.0], engine=engine)
            .u.square()
            .sum()
        )

    loss().backward()
    for x in (scale, both, net[0].weight, net[2].bias):
        found = x.grad.clone()

        def moved(value: torch.Tensor, x=x) -> torch.Tensor:
            with torch.no_grad():
                before = x.clone()
                x.copy_(value)
                out = loss()
                x.copy_(before)
            return out

        assert relative_error(found, gradient(moved, x)) < 1e-7


@engines
def test_an_expectation_over_many_paths_is_differentiated_through_all(engine):
    """d/da of the mean of an Ornstein-Uhlenbeck process is -t u0 exp(-a t), whatever the noise, as it is linear."""
    a = number(0.8).requires_grad_()
    prob = ps.SDEProblem(lambda t, u: -a * u, lambda t, u: 0.1 * torch.ones_like(u), number([1.5]), (0.0, 1.0))
    many = ps.EnsembleProblem(prob, trajectories=400)
    sol = ps.solve_ensemble(many, ps.EM(), dt=0.005, seed=1, saveat=[1.0], engine=engine)
    sol.u.mean().backward()
    assert a.grad.item() == pytest.approx(-1.5 * math.exp(-0.8), rel=2e-2)
    one = sum(torch.autograd.grad(
        ps.solve_ensemble(ps.EnsembleProblem(prob, trajectories=400), ps.EM(), dt=0.005, seed=1, saveat=[1.0],
                          engine=engine).u[i].sum(), a)[0] for i in (0, 399))  # fmt: skip
    assert math.isfinite(one)


@engines
def test_members_have_initial_states_and_parameters_of_their_own(engine):
    u0 = number([[1.0, 0.5], [2.0, 0.1], [0.5, 0.4]]).requires_grad_()
    p = number([[0.4, 0.6], [0.1, 0.2], [0.3, 0.3]]).requires_grad_()
    many = ps.EnsembleProblem(GEOMETRIC.problem(), u0=u0, p=p)
    noise = ps.NoisePath.sample(torch.linspace(0, 1, 65, dtype=F64), 2, seed=1, paths=3)
    sol = ps.solve_ensemble(many, ps.EM(), dt=1 / 64, noise=noise, engine=engine)
    sol.u[:, -1].sum().backward()
    for i in range(3):
        x, q = u0[i].detach().requires_grad_(), p[i].detach().requires_grad_()
        own = ps.NoisePath(noise.t, noise.W[i])
        alone = ps.solve(GEOMETRIC.problem(x, q), ps.EM(), dt=1 / 64, noise=own, engine=engine)
        alone.u[-1].sum().backward()
        assert torch.allclose(alone.u, sol.u[i], rtol=1e-12)
        assert torch.allclose(x.grad, u0.grad[i], rtol=1e-10)
        assert torch.allclose(q.grad, p.grad[i], rtol=1e-10)


@engines
def test_dense_output_has_gradients(engine):
    p = LORENZ_LIKE.p.clone().requires_grad_()
    given = {"dt": 0.1, "adaptive": False, "seed": 2, "engine": engine}
    ps.solve(LORENZ_LIKE.problem(p=p), ps.RKMil(), saveat=[0.2, 0.7], **given).u.sum().backward()
    by_saving, p.grad = p.grad, None
    sol = ps.solve(LORENZ_LIKE.problem(p=p), ps.RKMil(), saveat=[0.2, 0.7, 1.0], **given)
    sol(number([0.2, 0.7])).sum().backward()
    assert torch.allclose(p.grad, by_saving, rtol=1e-9)


@pytest.mark.julia
def test_a_second_derivative_is_refused():
    p = GEOMETRIC.p.clone().requires_grad_()
    end = ps.solve(GEOMETRIC.problem(p=p), ps.EM(), dt=0.1, seed=1, engine="julia").u[-1].sum()
    (first,) = torch.autograd.grad(end, p, create_graph=True)
    with pytest.raises(ps.UnsupportedError, match="second derivatives through a stochastic equation"):
        first.sum().backward()


@pytest.mark.julia
def test_a_drift_that_cannot_be_compiled_is_called_back_with_the_same_numbers():
    def f(t, u, p):
        return p[0] * u if u[0].item() > -1e9 else u

    x, y = (GEOMETRIC.p.clone().requires_grad_() for _ in range(2))
    given = {"dt": 0.1, "seed": 1, "engine": "julia"}
    compiled = ps.solve(GEOMETRIC.problem(p=x), ps.EM(), **given)
    prob = ps.SDEProblem(f, GEOMETRIC.g, GEOMETRIC.u0, (0.0, 1.0), y)
    with pytest.warns(ps.PySciMLWarning, match="called back from Julia"):
        called = ps.solve(prob, ps.EM(), **given)
    for sol in (compiled, called):
        sol.u.sum().backward()
    assert torch.allclose(compiled.u, called.u, rtol=1e-12)
    assert torch.allclose(x.grad, y.grad, rtol=1e-10)
