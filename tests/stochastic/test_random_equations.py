"""Random ordinary differential equations: closed forms along a path, orders, seeds, gradients, and what is refused."""

from __future__ import annotations

import pytest
import torch
from finite_differences import relative_error
from sde_cases import F64, number

import pysciml as ps

FINE = torch.linspace(0.0, 1.0, 4097, dtype=F64)
SOLVERS = [ps.RandomEM(), ps.RandomHeun(), ps.RandomTamedEM()]


def growth(t, u, w, p):
    return p[0] * u * torch.sin(w)


def problem(u0: torch.Tensor | None = None, p: torch.Tensor | None = None) -> ps.RODEProblem:
    return ps.RODEProblem(growth, number([1.0]) if u0 is None else u0, (0.0, 1.0), number([2.0]) if p is None else p)


def exact(noise: ps.NoisePath) -> float:
    """u = exp(∫ 2 sin W), by the trapezoid rule along the path."""
    return float(torch.exp(torch.trapezoid(2 * torch.sin(noise.W[:, 0]), noise.t)))


@pytest.mark.julia
@pytest.mark.parametrize(("alg", "bound"), [(ps.RandomEM(), 5e-3), (ps.RandomHeun(), 1e-3), (ps.RandomTamedEM(), 5e-3)])
def test_it_is_the_closed_form_along_the_path(alg, bound):
    noise = ps.NoisePath.sample(FINE, 1, seed=3)
    sol = ps.solve(problem(), alg, dt=1 / 2048, saveat=[0.5, 1.0], noise=noise, engine="julia")
    assert abs(sol.u[-1].item() / exact(noise) - 1) < bound
    assert sol.u.shape == (2, 1)


@pytest.mark.julia
@pytest.mark.parametrize("alg", SOLVERS, ids=lambda a: a.name)
def test_the_order_along_paths_is_one(alg):
    paths = 100
    noise = ps.NoisePath.sample(FINE, 1, seed=5, paths=paths)
    truth = torch.exp(torch.trapezoid(2 * torch.sin(noise.W[..., 0]), noise.t, dim=1))
    ensemble = ps.EnsembleProblem(problem(), trajectories=paths)
    errors = [
        (ps.solve_ensemble(ensemble, alg, dt=1 / n, saveat=[1.0], noise=noise, engine="julia").u[:, -1, 0] - truth)
        .abs().mean()
        for n in (16, 128)
    ]  # fmt: skip
    assert torch.log(errors[0] / errors[1]).item() / torch.log(number(8.0)).item() == pytest.approx(1.0, abs=0.25)


@pytest.mark.julia
@pytest.mark.parametrize("alg", SOLVERS, ids=lambda a: a.name)
@pytest.mark.parametrize("route", ["compiled", "callback"])
def test_gradients_are_those_of_the_steps(alg, route):
    def f(t, u, w, p):
        return torch.stack([p[0] * torch.sin(w[0] - u[1]) * u[0], w[1] * p[1] - u[1] * torch.cos(w[2] + t)])

    noise = ps.NoisePath.sample(FINE, 3, seed=7)
    weights = number([[0.3, -1.0], [1.0, 0.5]])

    def loss(u0, p):
        prob = ps.RODEProblem(f, u0, (0.0, 1.0), p, noise_size=3)
        sol = ps.solve(prob, alg, dt=1 / 50, saveat=[0.41, 1.0], noise=noise, engine="julia", route=route)
        return (weights * sol.u).sum()

    u0, p = number([1.0, 0.5]).requires_grad_(), number([0.8, -0.6]).requires_grad_()
    ours = torch.autograd.grad(loss(u0, p), (u0, p))
    for x, found in zip((u0, p), ours, strict=True):
        for i in range(2):
            moved = [x.detach().clone() for _ in range(2)]
            moved[0][i] += 1e-6
            moved[1][i] -= 1e-6
            high, low = (loss(*((y, p.detach()) if x is u0 else (u0.detach(), y))) for y in moved)
            assert relative_error(found[i], (high - low) / 2e-6) < 1e-6


@pytest.mark.julia
def test_seeds_noise_and_ensembles():
    prob = ps.RODEProblem(lambda t, u, w: torch.sin(w) - u, number([1.0, 2.0]), (0.0, 1.0))
    first, again, other = (ps.solve(prob, dt=0.01, seed=seed, engine="julia") for seed in (4, 4, 5))
    assert torch.equal(first.u, again.u)
    assert not torch.equal(first.u, other.u)
    assert first.noise.W.shape == (101, 2)
    along = ps.solve(prob, dt=0.01, noise=first.noise, engine="julia")
    assert relative_error(along.u, first.u) < 1e-12
    many = ps.solve_ensemble(ps.EnsembleProblem(prob, trajectories=5), dt=0.01, seed=4, engine="julia")
    assert torch.equal(many.u[0], first.u)
    assert relative_error(first(0.5), first(number([0.25, 0.5]))[1]) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ps.RODEProblem(3, number([1.0]), (0.0, 1.0)), "f must be callable"),
        (lambda: ps.RODEProblem(growth, number([1.0]), (1.0, 0.0)), "solved forwards"),
        (lambda: ps.RODEProblem(growth, number([1.0]), (0.0, 1.0), noise_size=0), "the number of Brownian motions"),
        (lambda: problem().remake(g=1), "has no field 'g'"),
        (lambda: problem().remake(f=lambda t, u, w, p: u[0]).slope(number(0.0), number([1.0, 0.0]), number([2.0])),
         "structure and shapes of u"),
        (lambda: ps.solve(problem(), ps.RandomEM()), "needs dt"),
        (lambda: ps.solve(problem(), 3), "an algorithm or its name"),
        (lambda: ps.solve(problem(), ps.RandomEM(), dt=-1.0), "dt must be a positive number"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(make, message):
    with pytest.raises(ps.InvalidInputError, match=message) as caught:
        make()
    assert caught.value.got


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ps.solve(problem(), dt=0.1, engine="embedded"), "no library for random equations"),
        (lambda: ps.solve(problem(), ps.EM(), dt=0.1), "`EM` cannot solve a RODEProblem"),
        (lambda: ps.solve(problem(), dt=0.1, reltol=0.1), "the solve of a RODEProblem takes no `reltol`"),
        (lambda: ps.solve(problem(u0=number([1.0]).to(torch.complex128)), dt=0.1), "real states"),
        (lambda: ps.solve(problem(), dt=0.1, saveat=number([0.5]).requires_grad_()), "no derivative in time"),
        (lambda: torch.func.grad(lambda p: ps.solve(problem(p=p), dt=0.1).u.sum())(number([2.0])), "not transformed"),
        (lambda: problem().remake(f=ps.JuliaFunction("(du, u, p, t) -> nothing")), "torch functions"),
    ],
)
def test_what_cannot_be_done_says_what_can(make, message):
    with pytest.raises(ps.UnsupportedError, match=message) as caught:
        make()
    assert caught.value.fix
