"""Events in other problems than one of plain torch: mass matrices, Julia sources, ensembles, transforms."""

from __future__ import annotations

import math

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
