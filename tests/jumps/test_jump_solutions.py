"""Paths of jump processes: distributions and means that are known, seeds, saved times, ensembles, and how paths end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jump_cases import (
    BIRTH,
    DEATH,
    DIMER_CHANGES,
    END,
    F64,
    START,
    dimer_distribution,
    dimer_rates,
    dimerization,
    immigration,
    immigration_by_mass_action,
    mean,
    number,
    poisson,
)

import pysciml as ps

pytestmark = pytest.mark.julia
ANY = [ps.Direct(), ps.SortingDirect(), ps.NRM(), ps.DirectCR()]
EXACT = [*ANY, ps.RSSA(), ps.RSSACR()]


def ends(prob: ps.JumpProblem, alg: object, paths: int, seed: int = 1, **options) -> torch.Tensor:
    """(paths, n) the states at the end."""
    many = ps.EnsembleProblem(prob, trajectories=paths)
    return ps.solve_ensemble(many, alg, seed=seed, engine="julia", **options).u[:, -1].double()


def distance(counts: np.ndarray, expected: np.ndarray) -> float:
    """Chi-squared per degree of freedom, of the values that should turn up five times or more."""
    found = np.bincount(counts.astype(int), minlength=expected.size)[: expected.size]
    often = expected * counts.size >= 5
    wanted = expected[often] * counts.size
    return float(((found[often] - wanted) ** 2 / wanted).sum() / (often.sum() - 1))


@pytest.mark.parametrize("alg", EXACT, ids=lambda a: a.name)
def test_immigration_settles_to_poisson(alg):
    prob = immigration_by_mass_action(end=15.0) if alg.mass_action else immigration(end=15.0)
    counts = ends(prob, alg, 4000)[:, 0].numpy()
    assert counts.mean() == pytest.approx(BIRTH / DEATH, abs=4 * np.sqrt(BIRTH / DEATH / 4000))
    assert distance(counts, poisson(BIRTH / DEATH, 60)) < 1.9


@pytest.mark.parametrize("alg", EXACT, ids=lambda a: a.name)
def test_dimers_follow_the_master_equation(alg):
    prob = dimerization() if alg.mass_action else dimerization(dimer_rates)
    u = ends(prob, alg, 4000)
    assert torch.equal(u[:, 0] + 2 * u[:, 1], torch.full((4000,), 30.0, dtype=F64))
    assert distance(u[:, 1].numpy(), dimer_distribution(4.0)) < 2.4


@pytest.mark.parametrize("route", ["compiled", "callback"])
def test_the_mean_of_linear_rates_obeys_the_ode(route):
    paths, at = (4000, [0.3, 1.0, END]) if route == "compiled" else (400, [1.0, END])
    many = ps.EnsembleProblem(immigration(), trajectories=paths)
    sol = ps.solve_ensemble(many, saveat=at, seed=9, engine="julia", route=route)
    for k, t in enumerate(at):
        u = sol.u[:, k, 0]
        assert abs(u.mean() - mean(number([BIRTH, DEATH]), t)) < 4 * u.std() / np.sqrt(paths)


@pytest.mark.parametrize("make", [immigration, immigration_by_mass_action])
def test_fixed_leaps_come_to_the_mean_with_order_one(make):
    """The mean of leaps of linear rates is that of Euler's method, exactly: so the error is known, and halves."""
    paths = 8000
    for n in (5, 40):
        prob = make().remake(u0=number([60.0]))  # no leap ends below zero
        u = ends(prob, ps.SimpleTauLeaping(), paths, dt=END / n)[:, 0]
        euler = 60.0
        for _ in range(n):
            euler += END / n * (BIRTH - DEATH * euler)
        assert abs(u.mean() - euler) < 4 * u.std() / np.sqrt(paths)
    assert abs(euler - mean(number([BIRTH, DEATH]), END, 60.0)) < 0.5


def large(mass_action: bool = False) -> ps.JumpProblem:
    """Counts of thousands, where leaps pay."""
    rates = ps.MassAction([[0], [1]], number([3000.0, 1.0])) if mass_action else (
        lambda t, u: torch.stack([number(3000.0) + 0 * u[0], u[0]])
    )  # fmt: skip
    return ps.JumpProblem(rates, [[1], [-1]], number([1000.0]), (0.0, 1.0))


@pytest.mark.parametrize(
    ("alg", "mass_action"),
    [(ps.SimpleTauLeaping(), False), (ps.SimpleTauLeaping(), True), (ps.SimpleExplicitTauLeaping(epsilon=0.01), True)],
)
def test_leaps_of_large_counts_come_to_the_mean(alg, mass_action):
    u = ends(large(mass_action), alg, 400, **({} if alg.adaptive else {"dt": 0.01}))[:, 0]
    expected = 3000 - 2000 * np.exp(-1.0)
    assert abs(u.mean() / expected - 1) < 0.01
    assert u.std() < 100


def test_rates_may_depend_on_time_in_leaps():
    prob = ps.JumpProblem(lambda t, u: torch.stack([20 * t + 0 * u[0]]), [[1]], number([0.0]), (0.0, 1.0))
    u = ends(prob, ps.SimpleTauLeaping(), 4000, dt=0.01)
    assert abs(u.mean() - 20 * (0.5 - 0.005)) < 4 * u.std() / np.sqrt(4000)
    with pytest.raises(ps.UnsupportedError, match="these depend on t"):
        ps.solve(prob, ps.Direct(), engine="julia")


@pytest.mark.parametrize("alg", [*EXACT, ps.SimpleTauLeaping(), ps.SimpleExplicitTauLeaping()], ids=lambda a: a.name)
def test_a_seed_tells_the_path(alg):
    prob = immigration_by_mass_action()
    options = {"saveat": [0.5, 1.0, 2.0], "engine": "julia"} | ({"dt": 0.1} if alg.name == "SimpleTauLeaping" else {})
    first, again, other = (ps.solve(prob, alg, seed=s, **options) for s in (3, 3, 4))
    assert torch.equal(first.u, again.u)
    assert not torch.equal(first.u, other.u)
    assert first.seed == 3
    many = ps.solve_ensemble(ps.EnsembleProblem(prob, trajectories=6), alg, seed=3, **options)
    assert torch.equal(many.u[0], first.u)
    assert not torch.equal(many.u[1], first.u)
    more = ps.solve_ensemble(ps.EnsembleProblem(prob, trajectories=9), alg, seed=3, **options)
    assert torch.equal(more.u[:6], many.u)


def test_manual_seed_repeats_what_no_seed_was_given_for():
    torch.manual_seed(5)
    first = ps.solve(immigration(), engine="julia")
    torch.manual_seed(5)
    assert torch.equal(ps.solve(immigration(), engine="julia").u, first.u)


@pytest.mark.parametrize("alg", EXACT, ids=lambda a: a.name)
def test_the_events_are_the_path(alg):
    prob = dimerization()
    at = [0.0, 0.4, 1.7, 4.0]
    sol = ps.solve(prob, alg, saveat=at, seed=2, engine="julia")
    assert sol.jumps.t.diff().min() > 0
    for k, t in enumerate(at):
        fired = sol.jumps.channel[sol.jumps.t <= t]
        assert torch.equal(sol.u[k], prob.u0 + number(DIMER_CHANGES)[fired].sum(0))
    assert torch.equal(sol(number(at)), sol.u)
    assert torch.equal(sol(sol.jumps.t[0]), prob.u0 + number(DIMER_CHANGES)[sol.jumps.channel[0]])
    assert len(sol.jumps.t) == sol.stats.naccept
    assert "jumps" in repr(sol)


def test_the_routes_come_to_the_same_path():
    compiled, called = (ps.solve(immigration(), seed=6, engine="julia", route=r) for r in ("compiled", "callback"))
    assert torch.equal(compiled.jumps.t, called.jumps.t)
    assert torch.equal(compiled.u, called.u)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32, torch.float64])
def test_results_have_the_dtype_of_u0(dtype):
    prob = dimerization(u0=torch.tensor([30, 0], dtype=dtype))
    sol = ps.solve(prob, seed=2, engine="julia")
    assert sol.u.dtype == sol(1.0).dtype == dtype
    assert torch.equal(sol.u.double(), ps.solve(dimerization(), seed=2, engine="julia").u)


def test_members_of_an_ensemble_differ_in_counts_and_parameters():
    p = number([[BIRTH, DEATH], [20.0, 1.0], [0.0, 5.0]])
    u0 = number([[3.0], [40.0], [7.0]])
    for prob in (immigration(), immigration_by_mass_action()):
        many = ps.EnsembleProblem(prob, u0=u0, p=p)
        sol = ps.solve_ensemble(many, saveat=[0.0, 20.0 / 10], seed=3, engine="julia")
        assert torch.equal(sol.u[:, 0], u0)
        first = ps.solve(many.member(0), saveat=[0.0, 2.0], seed=3, engine="julia")
        assert torch.equal(sol.u[0], first.u)
        assert sol.u[2, 1, 0] < 3


def test_susceptible_infected_recovered_ends_when_nobody_is_infected():
    prob = ps.JumpProblem(ps.MassAction([[1, 1, 0], [0, 1, 0]], number([0.002, 0.3])), [[-1, 1, 0], [0, -1, 1]],
                          torch.tensor([400, 3, 0]), (0.0, 500.0))  # fmt: skip
    sol = ps.solve(prob, seed=1, engine="julia")
    assert sol.u[-1, 1] == 0
    assert sol.u.sum(dim=1).tolist() == [403, 403]
    assert sol.jumps.t[-1] < 500


P = number([BIRTH, DEATH]).requires_grad_()


@pytest.mark.parametrize("what", ["p", "u0", "captured", "dense"])
def test_the_gradient_of_a_path_is_refused_not_zero(what):
    captured = number(DEATH).requires_grad_()
    prob = {
        "p": lambda: immigration(p=P), "dense": lambda: immigration(p=P),
        "u0": lambda: immigration(u0=number([3.0]).requires_grad_()),
        "captured": lambda: ps.JumpProblem(lambda t, u: torch.stack([number(8.0), captured * u[0]]), [[1], [-1]],
                                           number([3.0]), (0.0, 1.0)),
    }[what]()  # fmt: skip
    sol = ps.solve(prob, seed=1, engine="julia")
    x = sol(0.5) if what == "dense" else sol.u
    with pytest.raises(ps.UnsupportedError, match="says nothing of the mean") as caught:
        x.sum().backward()
    assert "log_likelihood" in caught.value.fix
    many = ps.solve_ensemble(ps.EnsembleProblem(prob, trajectories=2), seed=1, engine="julia")
    with pytest.raises(ps.UnsupportedError, match="says nothing of the mean"):
        many.u.sum().backward()


def test_integers_do_not_hide_a_gradient():
    prob = immigration(u0=torch.tensor([3]), p=P)
    with pytest.raises(ps.UnsupportedError, match="integers carry no gradient"):
        ps.solve(prob, engine="julia")
    with torch.no_grad():
        assert ps.solve(prob, engine="julia").u.dtype == torch.int64


def test_a_solve_without_gradients_gives_plain_states():
    with torch.no_grad():
        assert not ps.solve(immigration(p=P), engine="julia").u.requires_grad
    assert not ps.solve(immigration(), engine="julia").u.requires_grad


@pytest.mark.parametrize(
    ("prob", "options", "message"),
    [
        (ps.JumpProblem(lambda t, u: u - 1.5, [[-1.0]], number([5.0]), (0.0, 50.0)), {}, "a rate is negative"),
        (ps.JumpProblem(lambda t, u: torch.log(u) + 1, [[-1.0]], number([2.0]), (0.0, 50.0)), {}, "a rate is NaN"),
        (ps.JumpProblem(lambda t, u: 5 * u, [[1.0]], number([5.0]), (0.0, 50.0)), {"maxiters": 1000}, "more events"),
        (ps.JumpProblem(lambda t, u: u, [[-1.0]], number([5.0]), (0.0, 50.0)),
         {"alg": ps.SimpleTauLeaping(), "dt": 10.0}, "a rate is negative"),
        (ps.JumpProblem(ps.MassAction([[1]], number([1.0])), [[-1.0]], number([5.0]), (0.0, 50.0)),
         {"alg": ps.SimpleTauLeaping(), "dt": 10.0}, "a count below zero"),
    ],
)  # fmt: skip
def test_a_path_that_cannot_go_on_says_why(prob, options, message):
    with pytest.raises(ps.SolveError, match=message) as caught:
        ps.solve(prob, seed=1, engine="julia", **options)
    assert caught.value.fix
    assert 0 <= caught.value.t < 50


def test_a_path_that_fails_leaves_the_others():
    prob = ps.JumpProblem(lambda t, u: torch.stack([u[0], 4.5 - u[0]]), [[1.0], [-1.0]], number([1.0]), (0.0, 0.6))
    with pytest.warns(ps.PySciMLWarning, match="trajectories failed"):
        sol = ps.solve_ensemble(ps.EnsembleProblem(prob, trajectories=20), seed=1, engine="julia")
    assert 0 < len(sol.failures) < 20
    assert torch.equal(torch.isnan(sol.u[:, -1, 0]), ~sol.successful)


def test_what_rates_raise_arrives_as_it_was():
    class OopsError(Exception):
        pass

    def rates(t, u):
        if u[0].item() > 4:
            raise OopsError("too many")
        return u + 1.0

    prob = ps.JumpProblem(rates, [[1]], number([1.0]), (0.0, 50.0))
    with pytest.raises(OopsError, match="too many"):
        ps.solve(prob, route="callback", seed=1, engine="julia")


def test_leaps_know_saved_times_alone():
    sol = ps.solve(immigration(), ps.SimpleTauLeaping(), dt=0.1, saveat=[0.0, 0.55], seed=1, engine="julia")
    assert sol.jumps is None
    assert sol.u[0].item() == START
    with pytest.raises(ps.UnsupportedError, match="known at the saved times alone"):
        sol(0.3)
