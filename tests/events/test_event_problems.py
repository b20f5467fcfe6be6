"""Events in other problems than one of plain torch: mass matrices, Julia sources, ensembles, transforms."""

from __future__ import annotations

import pytest
import torch
from event_cases import EMBEDDED, TIGHT, assert_same, ball, bounce, bounced, decay, number

import pysciml as ps

DAE = [
    pytest.param(ps.IDA(), {"engine": "embedded"}, id="ida"),
    *(
        pytest.param(alg, {"engine": "julia", "route": route}, id=f"{name}-{route}", marks=pytest.mark.julia)
        for name, alg in [("rodas", ps.Rodas5P()), ("default", None)]
        for route in ("compiled", "callback")
    ),
]
every_dae = pytest.mark.parametrize(("alg", "options"), DAE)


def index_one(k, t1):
    """x' = -z with z = k x, from x = 1 and another z."""
    return ps.ODEProblem(lambda t, u: torch.stack([-u[1], u[1] - k * u[0]]), number([1.0, 0.2]), (0.0, t1),
                         mass_matrix=number([1.0, 0.0]))  # fmt: skip


@pytest.mark.parametrize("watched", [0, 1], ids=["x", "z"])
@every_dae
def test_algebraic_variables_follow_an_affect(alg, options, watched):
    level, more, k = given = number(0.5, True), number(1.5, True), number(1.25, True)
    size = 1.0 if watched == 0 else k
    seen = ps.ContinuousCallback(lambda t, u: u[watched] - level * size, lambda t, u: torch.stack([u[0] + more, u[1]]))
    sol = ps.solve(index_one(k, 1.0), alg, callback=seen, saveat=[0.1, 1.0], **TIGHT, **options)
    (event,) = sol.events
    when = -torch.log(level) / k
    exact = (level + more) * torch.exp(k * (when - 1.0))
    for j, factor in enumerate([1.0, k]):
        assert_same(sol.u[1, j], factor * exact, given)
        assert_same(event.after[j], factor * (level + more), given)
    assert_same(event.t, when, given)


@every_dae
def test_algebraic_variables_follow_a_dose(alg, options):
    dose, when, k = given = number(2.0, True), number(1.0, True), number(1.25, True)
    put = ps.PresetTimeCallback(when, lambda t, u: torch.stack([u[0] + dose, u[1]]))
    sol = ps.solve(index_one(k, 3.0), alg, callback=put, saveat=[3.0], **TIGHT, **options)
    exact = torch.exp(-3 * k) + dose * torch.exp(k * (when - 3.0))
    for j, factor in enumerate([1.0, k]):
        assert_same(sol.u[0, j], factor * exact, given)


@every_dae
def test_a_start_that_does_not_fit_has_the_gradient_of_its_time(alg, options):
    """No event: what a stretch after one builds on."""
    t0, k = given = number(0.3, True), number(1.25, True)
    sol = ps.solve(index_one(k, 1.0).remake(tspan=(t0, 1.0)), alg, saveat=[1.0], **TIGHT, **options)
    for j, factor in enumerate([1.0, k]):
        assert_same(sol.u[0, j], factor * torch.exp(k * (t0 - 1.0)), given)


@pytest.mark.julia
@pytest.mark.parametrize("alg", [ps.Tsit5(), ps.Vern7()], ids=lambda a: a.name)
def test_a_julia_source(alg):
    h, g, r = given = number(2.0, True), number(9.81, True), number(0.8, True)
    fall = ps.JuliaFunction("function (du, u, p, t)\n du[1] = u[2]\n du[2] = -p[1]\nend")
    prob = ps.ODEProblem(fall, torch.stack([h, number(0.0)]), (0.0, 2.0), torch.stack([g]))
    hit = ps.ContinuousCallback(lambda t, u, p: u[0], lambda t, u, p: torch.stack([u[0], -r * u[1]]))
    sol = ps.solve(prob, alg, callback=hit, saveat=[2.0], engine="julia", **TIGHT)
    assert len(sol.events) == 2
    assert_same(sol.u[-1, 0], bounced(h, g, r, 2.0), given)


TRANSFORMS = {
    "grad": lambda loss: torch.func.grad(loss)(number(0.5)),
    "vmap": lambda loss: torch.func.vmap(loss)(number([0.5, 0.6])),
    "jvp": lambda loss: torch.func.jvp(loss, (number(0.5),), (number(1.0),)),
    "jacrev": lambda loss: torch.func.jacrev(loss)(number(0.5)),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_say_what_to_do(transform):
    def loss(level):
        stop = ps.ContinuousCallback(lambda t, u: u[0] - level, terminate=True)
        return ps.solve(decay(), ps.CVODE_BDF(), callback=stop, **EMBEDDED).t[-1]

    with pytest.raises(ps.UnsupportedError, match=r"cannot be transformed by torch.func[\s\S]*torch.autograd.grad"):
        transform(loss)


def test_other_problems_say_what_to_do():
    stop = ps.ContinuousCallback(lambda t, u: u[0] - 0.5, terminate=True)
    u0 = torch.ones(1, dtype=torch.complex128)
    with pytest.raises(ps.UnsupportedError, match=r"no complex numbers[\s\S]*view_as_real"):
        ps.solve(ps.ODEProblem(lambda t, u: -u, u0, (0.0, 1.0)), callback=stop, **EMBEDDED)
    split = ps.SplitODEProblem(lambda t, u: -u, lambda t, u: 0 * u, number([1.0]), (0.0, 1.0))
    with pytest.raises(ps.UnsupportedError, match=r"no problem in parts[\s\S]*ODEProblem"):
        ps.solve(split, callback=stop, **EMBEDDED)


@pytest.mark.parametrize("engine", ["embedded", pytest.param("julia", marks=pytest.mark.julia)])
def test_ensembles(engine):
    """Each member meets its own events."""
    heights, r = number([2.0, 1.0], True), number(0.8, True)
    g = number(9.81)
    many = ps.EnsembleProblem(ball(number(1.0), g, 1.0), u0=torch.stack([heights, 0 * heights], dim=1))
    sol = ps.solve_ensemble(many, ps.CVODE_BDF(), saveat=[0.1, 1.0], callback=bounce(r), engine=engine, **TIGHT)
    assert [len(events) for events in sol.events] == [1, 1]
    for k in range(2):
        assert_same(sol.u[k, 1, 0], bounced(heights[k], g, r, 1.0), (heights, r))


def test_ensembles_say_what_they_cannot():
    many = ps.EnsembleProblem(decay(), u0=number([[1.0], [2.0]]))
    for executor in ("processes", "threads"):
        with pytest.raises(ps.UnsupportedError, match=r"the serial executor alone[\s\S]*executor=\"serial\""):
            ps.solve_ensemble(many, callback=ps.PresetTimeCallback([1.0]), executor=executor)
    with pytest.raises(ps.UnsupportedError, match="no event can end one"):
        ps.solve_ensemble(many, callback=ps.PresetTimeCallback([1.0], terminate=True))


def test_a_solver_that_fails_after_an_event_does_not_matter():
    prob = ps.ODEProblem(lambda t, u: u**2, number([1.0]), (0.0, 2.0))
    for level in (3.0, 30.0):
        stop = ps.ContinuousCallback(lambda t, u, level=level: u[0] - level, terminate=True)
        for alg in (ps.CVODE_BDF(), ps.DP5()):
            sol = ps.solve(prob, alg, callback=stop, **TIGHT, **EMBEDDED)
            assert sol.t[-1].item() == pytest.approx(1 - 1 / level, abs=1e-7)
    with pytest.raises(ps.SolveError, match="stopped at t = "):
        ps.solve(prob, ps.CVODE_BDF(), callback=ps.ContinuousCallback(lambda t, u: u[0] + 1), **TIGHT, **EMBEDDED)


def test_a_dose_at_the_start_may_end_the_solve():
    stop = ps.PresetTimeCallback([0.0], lambda t, u: 2 * u, terminate=True)
    sol = ps.solve(decay(), ps.DP5(), callback=stop, saveat=[0.0, 1.0], **EMBEDDED)
    assert (sol.t.tolist(), sol.u.ravel().tolist()) == ([0.0, 0.0], [1.0, 2.0])
    with pytest.raises(ps.InvalidInputError, match=r"gone on from its start[\s\S]*sol.u\[-1\]"):
        sol(0.0)
