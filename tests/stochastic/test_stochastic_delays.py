"""Stochastic delay equations: closed forms by the method of steps, seeds, and what is refused."""

from __future__ import annotations

import pytest
import torch
from finite_differences import relative_error
from sde_cases import F64, number

import pysciml as ps

FINE = torch.linspace(0.0, 2.0, 4097, dtype=F64)
A, SIGMA = -1.3, 0.4


def drift(t, u, h):
    return A * h(t - 1.0)


def diffusion(t, u, h):
    return SIGMA * h(t - 1.0)


def constant(t, u, h):
    return SIGMA * torch.ones_like(u)


def problem(**changes) -> ps.SDDEProblem:
    fields = {"f": drift, "g": constant, "u0": number([1.0]), "h": 1.0, "tspan": (0.0, 2.0)} | changes
    return ps.SDDEProblem(**fields)


def by_steps(noise: ps.NoisePath, multiplicative: bool) -> torch.Tensor:
    """The solution at the times of the path: where the past is known its terms are integrals, of Ito where they are."""
    t, W = noise.t, noise.W[:, 0]
    one = int((t <= 1.0).sum()) - 1
    first = 1 + A * t[: one + 1] + SIGMA * W[: one + 1]
    dt, dW = t[one:].diff(), W[one:].diff()
    slope = A * (first[:-1] + first[1:]) / 2 * dt
    kick = SIGMA * first[:-1] * dW if multiplicative else SIGMA * dW
    return torch.cat([first, first[-1] + (slope + kick).cumsum(0)])


@pytest.mark.julia
@pytest.mark.parametrize("multiplicative", [False, True])
@pytest.mark.parametrize("route", ["compiled", "callback"])
def test_it_is_the_method_of_steps(multiplicative, route):
    noise = ps.NoisePath.sample(FINE, 1, seed=3)
    prob = problem(g=diffusion if multiplicative else constant)
    at = [0.5, 1.0, 1.5, 2.0]
    sol = ps.solve(prob, ps.EM(), dt=1 / 1024, saveat=at, noise=noise, engine="julia", route=route)
    exact = by_steps(noise, multiplicative)[[1024, 2048, 3072, 4096]]
    assert relative_error(sol.u[:, 0], exact) < 1e-2


@pytest.mark.julia
@pytest.mark.parametrize(
    "alg", [ps.EM(), ps.LambaEM(), ps.RKMil(), ps.SOSRI(), ps.SRIW1(), ps.SOSRA()], ids=lambda a: a.name
)
def test_solvers_come_to_the_mean_and_spread_of_many_paths(alg):
    """Of the linear equation with additive noise: its mean is the delay equation, its variance up to t = 1 is σ² t."""
    many = ps.EnsembleProblem(problem(), trajectories=2000)
    sol = ps.solve_ensemble(many, alg, dt=1 / 64, saveat=[1.0, 2.0], seed=1, engine="julia")
    mean = [1 + A, 1 + A + A * (1 + A / 2)]
    for k in range(2):
        assert abs(sol.u[:, k, 0].mean() - mean[k]) < 4 * sol.u[:, k, 0].std() / 2000**0.5
    assert sol.u[:, 0, 0].std().item() == pytest.approx(SIGMA, rel=0.08)


@pytest.mark.julia
def test_seeds_and_ensembles():
    first, again, other = (ps.solve(problem(), dt=0.01, seed=seed, engine="julia") for seed in (4, 4, 5))
    assert torch.equal(first.u, again.u)
    assert not torch.equal(first.u, other.u)
    many = ps.solve_ensemble(ps.EnsembleProblem(problem(), trajectories=5), dt=0.01, seed=4, engine="julia")
    assert torch.equal(many.u[0], first.u)
    along = ps.solve(problem(), dt=0.01, noise=first.noise, engine="julia")
    assert relative_error(along.u, first.u) < 1e-9


@pytest.mark.julia
def test_gradients_are_refused_not_zero():
    p = number([A]).requires_grad_()
    prob = ps.SDDEProblem(lambda t, u, h, p: p * h(t - 1.0), lambda t, u, h, p: 0.1 * u, number([1.0]), 1.0,
                          (0.0, 2.0), p)  # fmt: skip
    sol = ps.solve(prob, dt=0.1, seed=1, engine="julia")
    for x in (sol.u, sol(0.5)):
        with pytest.raises(ps.UnsupportedError, match="no gradients through a stochastic delay") as caught:
            x.sum().backward()
        assert caught.value.fix


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: problem(f=3), "f must be callable"),
        (lambda: problem(interpretation="both"), "no such interpretation"),
        (lambda: problem(tspan=(1.0, 0.0)), "solved forwards"),
        (lambda: problem(h=number([1.0, 2.0])), "h must be a function of time, or constants"),
        (lambda: problem().remake(x=1), "has no field 'x'"),
        (lambda: ps.solve(problem(), ps.EM(), engine="julia"), "needs dt"),
        (lambda: ps.solve(problem(), 3), "an algorithm or its name"),
    ],
)
def test_what_means_nothing_is_refused(make, message):
    with pytest.raises(ps.InvalidInputError, match=message) as caught:
        make()
    assert caught.value.got


@pytest.mark.julia
def test_an_equation_without_delays_is_refused():
    with pytest.raises(ps.InvalidInputError, match="neither f nor g asks for the past"):
        ps.solve(problem(f=constant), dt=0.1, engine="julia")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: problem(g=ps.JuliaFunction("(du, u, h, p, t) -> nothing")), "torch functions or modules"),
        (lambda: problem(u0=number([1.0]).to(torch.complex128), h=lambda s: 1.0), "real states"),
        (lambda: ps.solve(problem(), dt=0.1, engine="embedded"), "no library for stochastic delay equations"),
        (lambda: ps.solve(problem(), ps.Tsit5(), dt=0.1), "`Tsit5` cannot solve an SDDEProblem"),
        (lambda: ps.solve(problem(), ps.ImplicitEM(), dt=0.1), "`ImplicitEM` is not offered"),
        (lambda: ps.solve(problem(), ps.TorchSDE(), dt=0.1), "`TorchSDE` is not offered"),
        (lambda: ps.solve(problem(), dt=0.1, sensealg=ps.GaussAdjoint()), "takes no `sensealg`"),
        (lambda: torch.func.grad(lambda u: ps.solve(problem(u0=u), dt=0.1).u.sum())(number([2.0])), "not transformed"),
    ],
)
def test_what_cannot_be_done_says_what_can(make, message):
    with pytest.raises(ps.UnsupportedError, match=message) as caught:
        make()
    assert caught.value.fix
