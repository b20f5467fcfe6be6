"""Paths of stochastic equations: closed forms, orders of convergence, seeds, and paths that are given."""

from __future__ import annotations

import math

import pytest
import torch
from finite_differences import relative_error
from sde_cases import (
    ADDITIVE,
    BATCHED,
    ENGINES,
    F64,
    GENERAL,
    GEOMETRIC,
    GEOMETRIC_STRATONOVICH,
    SCALAR,
    number,
    stratonovich,
)

import pysciml as ps

engines = pytest.mark.parametrize("engine", ENGINES)
FINE = torch.linspace(0.0, 1.0, 4097, dtype=F64)


def path(prob: ps.SDEProblem, seed: int = 3, paths: int | None = None) -> ps.NoisePath:
    return ps.NoisePath.sample(FINE, prob.motions, seed=seed, paths=paths)


@engines
@pytest.mark.parametrize(
    ("case", "alg", "bound"),
    [(GEOMETRIC, ps.EM(), 2e-2), (GEOMETRIC, ps.RKMil(), 5e-4), (SCALAR, ps.EM(), 2e-2),
     (GEOMETRIC_STRATONOVICH, ps.EulerHeun(), 5e-4), (GEOMETRIC_STRATONOVICH, ps.RKMil(), 5e-4)],
    ids=lambda x: getattr(x, "name", None),
)  # fmt: skip
def test_geometric_brownian_motion_is_the_closed_form(engine, case, alg, bound):
    prob = case.problem()
    noise = path(prob)
    sol = ps.solve(prob, alg, dt=1 / 2048, adaptive=False, saveat=[0.5, 1.0], noise=noise, engine=engine)
    exact = torch.stack([case.exact(t, noise.W[k], prob.u0, prob.p) for t, k in ((0.5, 2048), (1.0, 4096))])
    assert relative_error(sol.u, exact) < bound
    assert torch.equal(sol.t, number([0.5, 1.0]))


def strong_errors(case, alg, engine: str, steps: tuple[int, ...], paths: int = 200, **options) -> torch.Tensor:
    """The mean error at t = 1 against the closed form, or else against the same solver at 1/16 of the smallest step."""
    prob = case.problem()
    ensemble = ps.EnsembleProblem(prob, trajectories=paths)
    noise = path(prob, paths=paths)

    def solve(n: int) -> torch.Tensor:
        steps = {"dt": 1 / n, "adaptive": False, "saveat": [1.0], "noise": noise, "engine": engine}
        return ps.solve_ensemble(ensemble, alg, **steps, **options).u[:, -1].detach()

    truth = case.exact(1.0, noise.W[:, -1], prob.u0, prob.p) if case.exact else solve(16 * steps[-1])
    return torch.stack([(solve(n) - truth).abs().mean() for n in steps])


def order(errors: torch.Tensor, steps: tuple[int, ...]) -> float:
    x = torch.log(torch.tensor(steps, dtype=F64))
    y = torch.log(errors)
    return float(-((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


@engines
@pytest.mark.parametrize(
    ("case", "alg", "expected"),
    [(GEOMETRIC, ps.EM(), 0.5), (GEOMETRIC, ps.RKMil(), 1.0), (GEOMETRIC_STRATONOVICH, ps.EulerHeun(), 1.0)],
    ids=lambda x: getattr(x, "name", None),
)
def test_strong_order(engine, case, alg, expected):
    steps = (16, 32, 64, 128)
    assert order(strong_errors(case, alg, engine, steps), steps) == pytest.approx(expected, abs=0.15)


@pytest.mark.julia
@pytest.mark.parametrize(
    ("case", "alg", "expected"),
    [(stratonovich(GENERAL), ps.EulerHeun(), 0.5), (GEOMETRIC, ps.ImplicitEM(), 0.5),
     (GEOMETRIC, ps.ImplicitRKMil(), 1.0), (GEOMETRIC, ps.LambaEM(), 0.5),
     (GEOMETRIC_STRATONOVICH, ps.LambaEulerHeun(), 1.0), (GEOMETRIC_STRATONOVICH, ps.ImplicitEulerHeun(), 1.0)],
    ids=lambda x: getattr(x, "name", None),
)  # fmt: skip
def test_strong_order_of_julias_solvers(case, alg, expected):
    steps = (16, 32, 64, 128)
    assert order(strong_errors(case, alg, "julia", steps), steps) == pytest.approx(expected, abs=0.3)


def matched(case, paths: int, coarse: int, fine: int) -> tuple[list[ps.NoisePath], torch.Tensor]:
    """The same Brownian motions on grids of `coarse` steps and its multiples up to `fine`, and their values at the end.

    What solvers of order 1.5 call dZ makes dt (dW + dZ / √3) / 2 the integral of W over a step, so on each grid Z
    follows from that integral.
    """
    prob = case.problem()
    grid = torch.linspace(0.0, 1.0, fine + 1, dtype=F64)
    base = ps.NoisePath.sample(grid, prob.motions, seed=11, paths=paths)
    h = 1.0 / fine
    area = torch.zeros_like(base.W)
    area[:, 1:] = torch.cumsum(
        h * (base.W[:, :-1] + 0.5 * base.W.diff(dim=1) + base.Z.diff(dim=1) / (2 * math.sqrt(3))), 1
    )
    found, n = [], coarse
    while n <= fine:
        every = fine // n
        t, W, A = grid[::every], base.W[:, ::every], area[:, ::every]
        inside = A.diff(dim=1) - W[:, :-1] / n  # of W - W(t0) over each step
        dz = math.sqrt(3) * (2 * n * inside - W.diff(dim=1))
        Z = torch.cat([torch.zeros_like(dz[:, :1]), dz.cumsum(1)], dim=1)
        found.append(ps.NoisePath(t, W, Z))
        n *= 2
    return found, base.W[:, -1]


@pytest.mark.julia
@pytest.mark.parametrize("alg", [ps.SRIW1(), ps.SRIW2(), ps.SOSRI(), ps.SOSRI2()], ids=lambda a: a.name)
def test_strong_order_one_and_a_half_for_diagonal_noise(alg):
    prob = GEOMETRIC.problem()
    noises, last = matched(GEOMETRIC, 200, 8, 64)
    truth = GEOMETRIC.exact(1.0, last, prob.u0, prob.p)
    steps = (8, 16, 32, 64)
    errors = [(at_end(prob, alg, n, noise) - truth).abs().mean() for n, noise in zip(steps, noises, strict=True)]
    assert order(torch.stack(errors), steps) == pytest.approx(1.5, abs=0.2)


@pytest.mark.julia
@pytest.mark.parametrize("alg", [ps.SRA1(), ps.SRA2(), ps.SRA3(), ps.SOSRA(), ps.SOSRA2(), ps.SKenCarp()],
                         ids=lambda a: a.name)  # fmt: skip
def test_strong_order_one_and_a_half_for_additive_noise(alg):
    prob = ADDITIVE.problem()
    noises, _ = matched(ADDITIVE, 100, 8, 1024)
    truth = at_end(prob, ps.SRA3(), 1024, noises[-1])
    steps = (8, 16, 32, 64)
    errors = [(at_end(prob, alg, n, noise) - truth).abs().mean() for n, noise in zip(steps, noises, strict=False)]
    assert order(torch.stack(errors), steps) > 1.35


def at_end(prob, alg, n: int, noise: ps.NoisePath) -> torch.Tensor:
    many = ps.EnsembleProblem(prob, trajectories=len(noise.W))
    return (
        ps.solve_ensemble(many, alg, dt=1 / n, adaptive=False, saveat=[1.0], noise=noise, engine="julia")
        .u[:, -1]
        .detach()
    )


@engines
def test_weak_order_one(engine):
    """The error of the mean of u(1), with the same paths in all so that it is the method's and not the sample's."""
    steps, paths = (4, 8, 16), 4000
    prob = GEOMETRIC.problem(p=number([1.5, 0.2]))
    noise = ps.NoisePath.sample(torch.linspace(0, 1, 65, dtype=F64), prob.motions, seed=2, paths=paths)
    exact = GEOMETRIC.exact(1.0, noise.W[:, -1], prob.u0, prob.p).mean(0)
    ensemble = ps.EnsembleProblem(prob, trajectories=paths)
    errors = torch.stack(
        [
            (
                ps.solve_ensemble(ensemble, ps.EM(), dt=1 / n, saveat=[1.0], noise=noise, engine=engine)
                .u[:, -1]
                .detach()
                .mean(0)
                - exact
            )
            .abs()
            .sum()
            for n in steps
        ]
    )
    assert order(errors, steps) == pytest.approx(1.0, abs=0.25)


@engines
def test_ornstein_uhlenbeck_has_its_mean_and_variance(engine):
    theta, sigma = 1.5, 0.4
    prob = ps.SDEProblem(lambda t, u: -theta * u, lambda t, u: sigma * torch.ones_like(u), number([2.0]), (0.0, 1.0))
    alg = ps.SOSRA() if engine == "julia" else ps.EM()
    many, steps = ps.EnsembleProblem(prob, trajectories=4000), {"dt": 0.01, "adaptive": False}
    sol = ps.solve_ensemble(many, alg, saveat=[1.0], seed=5, engine=engine, **steps)
    variance = sigma**2 / (2 * theta) * (1 - math.exp(-2 * theta))
    assert sol.u.mean().item() == pytest.approx(2 * math.exp(-theta), abs=4 * math.sqrt(variance / 4000) + 0.01)
    assert sol.u.var().item() == pytest.approx(variance, rel=0.1)


@engines
def test_a_seed_makes_the_same_path_and_another_one_does_not(engine):
    prob, alg = GEOMETRIC.problem(), ps.EM()
    one, again, other = (ps.solve(prob, alg, dt=0.02, seed=s, engine=engine) for s in (4, 4, 5))
    assert torch.equal(one.u, again.u)
    assert not torch.equal(one.u, other.u)
    assert one.seed == 4
    torch.manual_seed(8)
    drawn = ps.solve(prob, alg, dt=0.02, engine=engine)
    torch.manual_seed(8)
    assert torch.equal(ps.solve(prob, alg, dt=0.02, engine=engine).u, drawn.u)
    assert torch.equal(ps.solve(prob, alg, dt=0.02, seed=drawn.seed, engine=engine).u, drawn.u)


@pytest.mark.julia
def test_the_first_path_of_an_ensemble_is_the_path_alone():
    prob = GEOMETRIC.problem()
    alone = ps.solve(prob, ps.SOSRI(), seed=4, engine="julia", saveat=0.25)
    many = ps.solve_ensemble(ps.EnsembleProblem(prob, trajectories=20), ps.SOSRI(), seed=4, engine="julia", saveat=0.25)
    assert torch.equal(many.u[0], alone.u)
    assert len({float(x) for x in many.u[:, -1, 0]}) == 20
    assert many.seed == 4


@pytest.mark.julia
@pytest.mark.parametrize(
    ("alg", "case"),
    [(ps.EM(), GEOMETRIC), (ps.EM(), BATCHED), (ps.RKMil(), GEOMETRIC), (ps.EulerHeun(), stratonovich(GENERAL))],
    ids=lambda x: getattr(x, "name", None),
)
def test_both_engines_take_the_same_steps_along_a_given_path(alg, case):
    prob = case.problem()
    noise = path(prob)
    steps = {"dt": 1 / 64, "adaptive": False, "saveat": 1 / 4, "noise": noise}
    here, there = (ps.solve(prob, alg, **steps, engine=e).u for e in ("embedded", "julia"))
    assert relative_error(here, there) < 1e-12


@pytest.mark.julia
@pytest.mark.parametrize("alg", [ps.SOSRI(), ps.RKMil()], ids=lambda a: a.name)
def test_two_tolerances_follow_one_path(alg):
    prob = GEOMETRIC.problem()
    noise = ps.NoisePath.sample(torch.linspace(0, 1, 2**14 + 1, dtype=F64), prob.motions, seed=1)
    exact = GEOMETRIC.exact(1.0, noise.W[-1], prob.u0, prob.p)
    errors = [relative_error(ps.solve(prob, alg, reltol=tol, abstol=tol, noise=noise, engine="julia").u[-1], exact)
              for tol in (1e-1, 1e-4)]  # fmt: skip
    assert errors[1] < errors[0] / 3
    assert errors[1] < 2e-2


@pytest.mark.julia
def test_a_solution_knows_its_noise_and_another_solve_follows_it():
    prob = GEOMETRIC.problem()
    coarse = ps.solve(prob, ps.SOSRI(), seed=3, engine="julia", reltol=1e-2, abstol=1e-2)
    exact = GEOMETRIC.exact(1.0, coarse.noise.W[-1], prob.u0, prob.p)
    assert relative_error(coarse.u[-1], exact) < 0.05
    times = torch.cat([coarse.noise.t, torch.linspace(0, 1, 2049, dtype=F64)]).unique()
    fine = ps.solve(
        prob, ps.RKMil(), dt=1 / 1024, adaptive=False, noise=coarse.noise.refined(times, seed=1), engine="julia"
    )
    assert relative_error(fine.u[-1], exact) < 2e-3
    assert "motions" in repr(coarse.noise)


@engines
def test_dense_output_is_linear_between_steps(engine):
    prob = GEOMETRIC.problem()
    sol = ps.solve(prob, ps.EM(), dt=0.25, saveat=0.25, seed=1, engine=engine)
    assert torch.allclose(sol(0.25), sol.u[1])
    assert torch.allclose(sol(number([0.375, 0.5])), torch.stack([(sol.u[1] + sol.u[2]) / 2, sol.u[2]]))


@engines
def test_pytrees_keep_their_structure(engine):
    def f(t, u):
        return {"x": -u["x"], "y": -2 * u["y"]}

    def g(t, u):
        return {"x": 0.1 * u["x"], "y": 0.2 * torch.ones_like(u["y"])}

    prob = ps.SDEProblem(f, g, {"x": number(1.0), "y": number([[1.0, 2.0]])}, (0.0, 1.0))
    sol = ps.solve(prob, ps.EM(), dt=0.1, seed=1, saveat=0.5, engine=engine)
    assert {k: tuple(v.shape) for k, v in sol.u.items()} == {"x": (3,), "y": (3, 1, 2)}


@engines
def test_single_precision_is_kept(engine):
    prob = ps.SDEProblem(lambda t, u: -u, lambda t, u: 0.1 * u, torch.ones(2), (0.0, 1.0))
    assert ps.solve(prob, ps.EM(), dt=0.1, seed=1, engine=engine).u.dtype is torch.float32


@pytest.mark.julia
def test_a_path_that_fails_leaves_the_others():
    prob = ps.SDEProblem(lambda t, u, p: p * u * u, lambda t, u, p: 0.01 * u, number([1.0]), (0.0, 2.0), number([0.1]))
    many = ps.EnsembleProblem(prob, p=number([[0.1], [2.0], [0.2]]))
    with pytest.warns(ps.PySciMLWarning, match="1 of 3 trajectories failed; number 1"):
        sol = ps.solve_ensemble(many, ps.SOSRI(), seed=1, engine="julia")
    assert sol.failed == [1]
    assert torch.isfinite(sol.u[sol.successful]).all()
    with pytest.raises(ps.SolveError, match="stopped at t ="):
        ps.solve(many.member(1), ps.SOSRI(), seed=1, engine="julia")


def test_the_embedded_engine_says_that_a_path_ended_at_infinity():
    prob = ps.SDEProblem(lambda t, u: u * u, lambda t, u: 0.01 * u, number([5.0]), (0.0, 9.0))
    with pytest.raises(ps.SolveError, match="NaN or infinity"):
        ps.solve(prob, ps.EM(), dt=0.05, seed=1, engine="embedded")


@pytest.mark.julia
def test_stiff_drift_wants_an_implicit_solver():
    prob = ps.SDEProblem(
        lambda t, u: -1e5 * (u - torch.cos(t)), lambda t, u: 0.01 * torch.ones_like(u), number([0.0]), (0.0, 1.0)
    )
    for alg in (ps.SKenCarp(), ps.ImplicitEM()):
        sol = ps.solve(prob, alg, dt=0.01, adaptive=False, seed=1, engine="julia", saveat=[0.5, 1.0])
        assert relative_error(sol.u[:, 0], torch.cos(sol.t)) < 3e-2  # the noise of the last step is not damped


@pytest.mark.julia
def test_steps_that_are_taken_back_leave_the_law_as_it_is():
    """An Ornstein-Uhlenbeck process has a known mean, which was 7 % too small where what follows was drawn anew."""
    prob = ps.SDEProblem(lambda t, u: -1.5 * u, lambda t, u: 0.4 * torch.ones_like(u), number([2.0]), (0.0, 1.0))
    count = 2000
    many = ps.EnsembleProblem(prob, trajectories=count)
    sol = ps.solve_ensemble(many, ps.SOSRA(), dt=0.05, saveat=[1.0], seed=1, engine="julia")
    ends, mean, variance = sol.u.ravel(), 2 * math.exp(-1.5), 0.16 / 3 * (1 - math.exp(-3))
    assert sol.stats.nreject > count
    assert abs(ends.mean().item() - mean) < 4 * math.sqrt(variance / count)
    assert abs(ends.var().item() / variance - 1) < 4 * math.sqrt(2 / count)


@pytest.mark.julia
def test_adaptive_steps_with_noise_that_many_states_share():
    """A batch of general noise, whose steps came to a halt where noise was drawn anew."""
    torch.manual_seed(0)
    drift, spread = torch.nn.Linear(3, 3).double(), torch.nn.Linear(3, 6).double()
    prob = ps.SDEProblem(
        lambda t, u: drift(u), lambda t, u: spread(u).view(8, 3, 2), torch.full((8, 3), 0.1, dtype=torch.float64),
        (0.0, 1.0), noise_type="general",
    )  # fmt: skip
    sol = ps.solve(prob, ps.LambaEM(), reltol=1e-2, abstol=1e-3, seed=1, engine="julia")
    assert sol.stats.nreject > 0
    assert torch.isfinite(sol.u).all()
