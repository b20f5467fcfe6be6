"""What is remembered of a solve with its problem: nothing that could make the next one another."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch

import pysciml as ps
from pysciml import flat
from pysciml.engines import select

TS = torch.linspace(0.0, 1.0, 5, dtype=torch.float64)


class Decay(torch.nn.Module):
    def __init__(self, rate: float = 1.0):
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor(rate, dtype=torch.float64))
        self.power = 1

    def forward(self, t, u):
        return -self.rate * u**self.power


def problem(f) -> ps.ODEProblem:
    return ps.ODEProblem(f, torch.ones(2, dtype=torch.float64), (0.0, 1.0))


def solve(prob, alg=None, **options):
    return ps.solve(prob, alg or ps.CVODE_Adams(), saveat=TS, **{"engine": "embedded", "reltol": 1e-9} | options)


@pytest.fixture
def settled(monkeypatch):
    """How often a solve was settled anew."""
    counts = []
    make = flat.request_maker
    monkeypatch.setattr(flat, "request_maker", lambda *args, **options: counts.append(1) or make(*args, **options))
    return counts


def test_a_training_loop_settles_its_solve_once(settled):
    prob = problem(Decay())
    for _ in range(3):
        solve(prob, ps.CVODE_Adams())  # another object each time, and the same algorithm
    assert len(settled) == 1


def test_values_that_changed_in_place_are_solved_with():
    f = Decay()
    prob = problem(f)
    for rate in (1.0, 2.0):
        with torch.no_grad():
            f.rate.fill_(rate)
        assert torch.allclose(solve(prob).u[:, 0], torch.exp(-rate * TS), atol=1e-7)
    with torch.no_grad():
        prob.u0.mul_(3)
    assert torch.allclose(solve(prob).u[:, 1], 3 * torch.exp(-2 * TS), atol=1e-6)


@pytest.mark.parametrize("change", [
    lambda f: setattr(f, "power", 2),
    lambda f: setattr(f, "rate", torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))),
    lambda f: f.rate.requires_grad_(False),
])  # fmt: skip
def test_an_f_that_changed_is_seen(change):
    f = Decay()
    prob = problem(f)
    solve(prob)
    change(f)
    here, anew = solve(prob).u, solve(problem(f)).u
    assert torch.equal(here, anew)
    assert here.requires_grad == anew.requires_grad == f.rate.requires_grad
    if here.requires_grad:
        here.sum().backward()
        found, f.rate.grad = f.rate.grad, None
        anew.sum().backward()
        assert torch.equal(found, f.rate.grad)


def test_a_tensor_that_shall_be_learned_later_gets_its_gradient():
    rate = torch.tensor(0.5, dtype=torch.float64)
    prob = problem(lambda t, u: -rate * u)
    assert not solve(prob).u.requires_grad
    rate.requires_grad_()
    solve(prob).u[-1, 0].backward()
    assert rate.grad.item() == pytest.approx(-torch.exp(torch.tensor(-0.5)).item(), rel=1e-6)


def test_a_first_solve_without_gradient_leaves_the_next_its_own():
    f = Decay()
    prob = problem(f)
    with torch.no_grad():
        solve(prob)
    solve(prob).u[-1, 0].backward()
    assert f.rate.grad.item() == pytest.approx(-torch.exp(torch.tensor(-1.0)).item(), rel=1e-6)


@pytest.mark.parametrize("options", [
    {"reltol": 1e-3}, {"alg": ps.CVODE_BDF()}, {"sensealg": ps.ForwardSensitivity()}, {"save_idxs": [0]},
    {"tstops": [0.5]}, {"d_discontinuities": [0.5]}, {"abstol": torch.full((2,), 1e-3, dtype=torch.float64)},
    {"maxiters": 500}, {"callback": ps.PresetTimeCallback([0.5], lambda t, u: 2 * u)},
])  # fmt: skip
def test_another_option_is_another_solve(options, settled):
    prob = problem(Decay())
    solve(prob)
    found, before = solve(prob, **options), len(settled)
    assert before > 1
    expected = solve(problem(prob.f), **options)
    assert torch.equal(found.u, expected.u)
    assert torch.equal(found.t, expected.t)


def test_a_tolerance_that_changes_in_place_is_another(settled):
    prob, abstol = problem(Decay()), torch.full((2,), 1e-3, dtype=torch.float64)
    loose = [solve(prob, abstol=abstol, reltol=1e-12).u for _ in range(2)]
    assert torch.equal(*loose)
    assert len(settled) == 1
    abstol.fill_(1e-12)
    tight = solve(prob, abstol=abstol, reltol=1e-12)
    assert not torch.equal(loose[0], tight.u)
    assert torch.equal(tight.u, solve(problem(prob.f), abstol=abstol, reltol=1e-12).u)


def test_times_are_looked_at_each_time():
    prob, ts = problem(Decay()), TS.clone()
    ps.solve(prob, ps.CVODE_Adams(), saveat=ts, engine="embedded")
    ts.numpy()[-1] = 7.0  # torch does not see it
    with pytest.raises(ps.InvalidInputError, match="inside tspan"):
        ps.solve(prob, ps.CVODE_Adams(), saveat=ts, engine="embedded")


def test_a_span_of_tensors_may_move():
    t1 = torch.tensor(1.0, dtype=torch.float64)
    prob = ps.ODEProblem(Decay(), torch.ones(1, dtype=torch.float64), (0.0, t1))
    ps.solve(prob, ps.CVODE_Adams(), engine="embedded")
    t1.fill_(0.5)
    sol = ps.solve(prob, ps.CVODE_Adams(), engine="embedded", reltol=1e-9)
    assert sol.u[-1].item() == pytest.approx(torch.exp(torch.tensor(-0.5)).item(), rel=1e-6)


def test_transforms_after_a_plain_solve():
    f = Decay()
    prob = problem(f)
    solve(prob)

    def last(rate):
        f = lambda t, u: -rate * u  # noqa: E731
        return solve(prob.remake(f=f)).u[-1, 0]

    def of_start(u0):
        return solve(prob.remake(u0=u0)).u[-1].sum()

    rates = torch.tensor([0.5, 1.5], dtype=torch.float64)
    assert torch.allclose(torch.func.vmap(torch.func.grad(last))(rates), -torch.exp(-rates), rtol=1e-6)
    assert torch.allclose(torch.func.grad(of_start)(prob.u0), torch.exp(-f.rate.detach()).expand(2), rtol=1e-6)
    assert torch.func.vmap(lambda scale: scale * solve(prob).u[-1, 0])(rates).shape == (2,)


def test_copies_and_pickles_come_without_it():
    prob = problem(Decay())
    expected = solve(prob).u
    for other in (copy.copy(prob), copy.deepcopy(prob), pickle.loads(pickle.dumps(prob))):  # noqa: S301
        assert vars(other).keys() <= {"f", "u0", "tspan", "p", "mass_matrix"}
        assert torch.equal(solve(other).u, expected)


def test_a_problem_can_be_let_go():
    prob = problem(Decay())
    solve(prob)
    gone = weakref.ref(prob)
    del prob
    gc.collect()
    assert gone() is None


def test_single_precision_may_be_asked_for_later(monkeypatch, settled):
    prob = ps.ODEProblem(Decay().float(), torch.ones(2), (0.0, 1.0))
    ps.solve(prob, ps.CVODE_Adams(), engine="embedded")
    with ps.config.override(single_precision=True):
        ps.solve(prob, ps.CVODE_Adams(), engine="embedded")
    assert len(settled) == 2


def test_another_engine_may_be_configured_later(monkeypatch):
    prob = problem(Decay())
    with ps.config.override(engine="embedded"):
        assert ps.solve(prob, ps.CVODE_Adams(), saveat=TS).stats.engine == "embedded"
    monkeypatch.setattr(select, "_julia", lambda: pytest.fail("julia was asked for"))
    with ps.config.override(engine="julia"), pytest.raises(pytest.fail.Exception, match="julia was asked for"):
        ps.solve(prob, ps.CVODE_Adams(), saveat=TS)
