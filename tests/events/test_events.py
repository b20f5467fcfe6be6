"""Events, against closed forms."""

import math

import pytest
import torch
from event_cases import EMBEDDED, TIGHT, decay, every, number

import pysciml as ps
from pysciml.events import segments


@every
def test_bouncing_ball(alg, options):
    h, g, r = number(2.0, True), number(9.81, True), number(0.9, True)
    prob = ps.ODEProblem(lambda t, u: torch.stack([u[1], -g]), torch.stack([h, number(0.0)]), (0.0, 1.5))
    bounce = ps.ContinuousCallback(lambda t, u: u[0], lambda t, u: torch.stack([u[0], -r * u[1]]))
    sol = ps.solve(prob, alg, callback=bounce, saveat=[1.5], **TIGHT, **options)
    tau = 1.5 - (2 * h / g).sqrt()
    exact = r * (2 * g * h).sqrt() * tau - g * tau**2 / 2
    assert sol.u[-1, 0].item() == pytest.approx(exact.item(), abs=1e-7)
    found = torch.autograd.grad(sol.u[-1, 0], [h, g, r])
    torch.testing.assert_close(found, torch.autograd.grad(exact, [h, g, r]), rtol=0, atol=1e-6)


@every
def test_dose_and_its_time_are_learned(alg, options):
    dose, when = number(2.0, True), number([1.0], True)
    given = ps.PresetTimeCallback(when, lambda t, u: u + dose)
    last = ps.solve(decay(), alg, callback=given, saveat=[3.0], **TIGHT, **options).u.sum()
    last.backward()
    assert last.item() == pytest.approx(math.exp(-3) + 2 * math.exp(-2), abs=1e-7)
    assert dose.grad.item() == pytest.approx(math.exp(-2), abs=1e-6)
    assert when.grad.item() == pytest.approx(2 * math.exp(-2), abs=1e-6)


@every
def test_a_learned_threshold_ends_the_solve(alg, options):
    level = number(0.5, True)
    stop = ps.ContinuousCallback(lambda t, u: u[0] - level, terminate=True)
    sol = ps.solve(decay(), alg, callback=stop, **TIGHT, **options)
    assert sol.retcode is ps.ReturnCode.Terminated
    assert sol.t[-1].item() == pytest.approx(math.log(2), abs=1e-8)
    sol.t[-1].backward()
    assert level.grad.item() == pytest.approx(-2.0, abs=1e-6)


@pytest.mark.parametrize(("direction", "expected"), [(0, [1, 2]), (1, [2]), (-1, [1])])
@every
def test_direction(alg, options, direction, expected):
    prob = ps.ODEProblem(lambda t, u: torch.stack([u[1], -u[0]]), number([1.0, 0.0]), (0.0, 6.0))
    seen = ps.ContinuousCallback(lambda t, u: u[0], direction=direction)
    times = [e.t.item() for e in ps.solve(prob, alg, callback=seen, **TIGHT, **options).events]
    assert times == pytest.approx([(2 * k - 1) * math.pi / 2 for k in expected], abs=1e-7)


@every
def test_several_and_vectors(alg, options):
    prob = ps.ODEProblem(lambda t, u: torch.stack([u[1], 0 * u[1]]), number([0.5, 1.0]), (0.0, 2.2))
    walls = ps.VectorContinuousCallback(
        lambda t, u: torch.stack([u[0], 1.0 - u[0]]), lambda t, u, index: torch.stack([u[0], -u[1]]), 2
    )
    push = ps.PresetTimeCallback([2.0], lambda t, u: 0 * u)
    sol = ps.solve(prob, alg, callback=[walls, push], saveat=[1.0, 2.2], **TIGHT, **options)
    assert [(round(e.t.item(), 6), e.index) for e in sol.events] == [(0.5, 1), (1.5, 0), (2.0, 0)]
    torch.testing.assert_close(sol.u, number([[0.5, -1.0], [0.0, 0.0]]), rtol=0, atol=1e-6)


@pytest.mark.julia
def test_discrete():
    stop = ps.DiscreteCallback(lambda t, u: u[0] < 0.5, terminate=True)
    sol = ps.solve(decay(), ps.Tsit5(), engine="julia", callback=stop, dtmax=0.1)
    assert math.log(2) <= sol.t[-1].item() <= math.log(2) + 0.1


def test_messages(monkeypatch):
    wrong = ps.ContinuousCallback(lambda t, u: u[0] - 0.5, lambda t, u: u[0])
    with pytest.raises(ps.InvalidInputError, match="must return the state after the event"):
        ps.solve(decay(), ps.CVODE_BDF(), callback=wrong, **EMBEDDED)
    with pytest.raises(ps.UnsupportedError, match=r"solver's steps[\s\S]*engine=\"julia\""):
        ps.solve(decay(), ps.DP5(), callback=ps.DiscreteCallback(lambda t, u: u[0] < 0.5), **EMBEDDED)
    with pytest.raises(ps.InvalidInputError, match="must return 1 value"):
        ps.solve(decay(), ps.DP5(), callback=ps.ContinuousCallback(lambda t, u: torch.cat([u, u])), **EMBEDDED)
    for name, value in {"direction": 2, "interp_points": 0}.items():
        with pytest.raises(ps.InvalidInputError, match=f"{name} must be"):
            ps.ContinuousCallback(lambda t, u: u[0], **{name: value})
    with pytest.raises(ps.InvalidInputError, match="callback must be a callback"):
        ps.CallbackSet(3)
    monkeypatch.setattr(segments, "MAX_EVENTS", 2)
    with pytest.raises(ps.SolveError, match="too many events"):
        ps.solve(decay(), ps.DP5(), callback=ps.PresetTimeCallback([0.5, 1.0, 1.5]), **EMBEDDED)


@pytest.mark.parametrize(
    "option",
    [{"tstops": [1.0]}, {"d_discontinuities": [1.0]}, {"save_everystep": True}, {"save_idxs": 0}, {"progress": True}],
    ids=lambda option: next(iter(option)),
)
def test_what_does_not_go_together(option):
    with pytest.raises(ps.UnsupportedError, match=f"{next(iter(option))} does not go together"):
        ps.solve(decay(), ps.DP5(), callback=ps.PresetTimeCallback([1.0]), **option, **EMBEDDED)
