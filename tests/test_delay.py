"""Delay problems as far as they need no Julia: what is made of f and h, and what is refused."""

from __future__ import annotations

import gc
import re
import weakref

import pytest
import torch
from problems import vector

import pysciml as ps
from pysciml.delay.pieces import pieces
from pysciml.delay.solve import _prepared
from pysciml.rhs.graph import evaluate

F64 = torch.float64
LAG = torch.tensor(2.0, dtype=F64, requires_grad=True)


def mackey_glass(t, u, h, p):
    past = h(t - LAG)
    return p[0] * past / (1 + past ** p[1]) - u


def decay(t, u, h):
    return -h(t - 1.0)


def problem(**changes) -> ps.DDEProblem:
    return ps.DDEProblem(**{"f": decay, "u0": vector(1.0), "h": 1.0, "tspan": (0.0, 2.0), **changes})


def graphs(prob: ps.DDEProblem):
    return [(program, rhs.graph("f", program)) for program, rhs in _prepared(prob, None)]


def test_f_becomes_three_functions():
    past = torch.nn.Linear(1, 2).double()
    prob = problem(f=mackey_glass, u0=vector(0.5, 0.7), h=lambda s, p: past(s.reshape(1)) * p[0], p=vector(2.0, 9.65))
    (slope, g), (lags, alpha), (before, h) = graphs(prob)
    assert [len(x.captured) for x in (slope, lags, before)] == [1, 1, 2]
    t, p, u, v = torch.tensor(0.3, dtype=F64), vector(2.0, 9.65, 2.0), vector(0.5, 0.7), vector(0.6, 0.4)
    found = evaluate(g, t=t, u=torch.cat([u, v]), p=p)
    torch.testing.assert_close(found, torch.cat([2 * v / (1 + v**9.65) - u, torch.zeros(2, dtype=F64)]))
    torch.testing.assert_close(
        evaluate(alpha, t=t, u=u, p=p), torch.cat([t.reshape(1) - 2.0, torch.zeros(1, dtype=F64)])
    )
    own = torch.cat([vector(2.0, 9.65), *(x.detach().reshape(-1) for x in before.captured)])
    torch.testing.assert_close(evaluate(h, t=t, u=u, p=own), 2 * past(t.reshape(1)).detach())


def test_states_of_the_past_have_the_structure_of_u0():
    def f(t, u, h):
        past = h(t - u["x"].sum() ** 2)
        return {"y": past["x"].sum() * u["y"], "x": -past["x"]}

    u0 = {"x": vector(1.0, 2.0), "y": torch.ones(2, 2, dtype=F64)}
    prob = problem(f=f, u0=u0, h=lambda s: {"x": torch.cos(s) * vector(1.0, 1.0), "y": torch.zeros(2, 2, dtype=F64)})
    (_, g), (_, alpha), (_, h) = graphs(prob)
    z = torch.cat([vector(1.0, 2.0, 1.0, 1.0, 1.0, 1.0), vector(3.0, 4.0, 0.0, 0.0, 0.0, 0.0)])
    t = torch.tensor(0.5, dtype=F64)
    assert evaluate(g, t=t, u=z, p=vector())[:6].tolist() == [-3.0, -4.0, 7.0, 7.0, 7.0, 7.0]
    assert evaluate(alpha, t=t, u=z[:6], p=vector())[0] == 0.5 - 9.0
    assert evaluate(h, t=t, u=z[:6], p=vector())[2:].tolist() == [0.0] * 4


def test_what_is_known_of_f_does_not_keep_it_alive():
    class Net(torch.nn.Module):
        def forward(self, t, u, h):
            return -h(t - 1.0)

    net = Net()
    prob = problem(f=net, h=lambda s: vector(1.0))
    first = pieces(prob)
    again = pieces(prob.remake(u0=vector(2.0)))
    assert all(x is y for x, y in zip(again, first, strict=True))
    other = pieces(prob.remake(u0=vector(2.0, 1.0), h=lambda s: vector(1.0, 1.0)))
    assert not any(x is y for x, y in zip(other, first, strict=True))
    gone = weakref.ref(net)
    del net, prob, other
    gc.collect()
    assert gone() is None


def test_another_number_of_calls_is_seen():
    twice = False

    def f(t, u, h):
        return -h(t - 1.0) - h(t - 0.5) if twice else -h(t - 1.0)

    prob = problem(f=f, h=lambda s: vector(1.0))
    assert graphs(prob)[0][1].inputs["u"].shape == (2,)
    twice = True
    assert graphs(prob)[0][1].inputs["u"].shape == (3,)


def test_it_can_be_made_again_with_changes():
    prob = problem().remake(tspan=(0.0, 5.0))
    assert prob.span == (0.0, 5.0)
    assert repr(prob) == "DDEProblem(decay, u0: [1] torch.float64, tspan=(0, 5))"
    with pytest.raises(ps.InvalidInputError, match="no field 'lags'"):
        prob.remake(lags=[1.0])


calls = 0


def counting(t, u, h):
    global calls
    calls += 1
    return sum(h(t - 1.0 - i) for i in range(calls))


INVALID = {
    "f is no function": (lambda: problem(f=3.0), "f must be callable", "float"),
    "h of another shape": (lambda: problem(h=vector(1.0, 2.0)), "constants in the structure", r"\[2\] torch.float64"),
    "h of another dtype": (lambda: problem(h=torch.ones(1)), "constants in the structure", "torch.float32"),
    "NaN in h": (lambda: problem(h=vector(float("nan"))), "`h` must be finite", "1 NaN"),
    "h is a string": (lambda: problem(h="one"), "`h` must be a floating tensor", "str"),
    "endless span": (lambda: problem(tspan=(0.0, float("inf"))), "must be finite", "inf"),
    "f that asks for nothing": (lambda: graphs(problem(f=lambda t, u, h: -u)), "never asks for the past", "call h"),
    "f that asks for two times at once": (
        lambda: graphs(problem(f=lambda t, u, h: h(torch.stack([t, t])))), "takes one time", r"shape \[2\]"),
    "f that asks for no time": (lambda: graphs(problem(f=lambda t, u, h: h("now"))), "takes one time", "str"),
    "f that asks for more and more": (
        lambda: graphs(problem(f=counting)), "another number of past states at each call", "branch"),
    "f of another shape": (
        lambda: graphs(problem(f=lambda t, u, h: h(t - 1.0).repeat(2))), "f must return the structure", r"\[2\]"),
    "h that returns another shape": (
        lambda: graphs(problem(h=lambda s: s)), "h must return the structure", r"Got \[\]"),
    "h that returns no tensor": (
        lambda: graphs(problem(h=lambda s: 1.0)), "h must return the structure", "Got float"),
    "no algorithm": (lambda: ps.solve(problem(), 3), "must be an algorithm", "3"),
    "a step without end": (lambda: ps.solve(problem(), dtmax=float("inf")), "dtmax must be positive", "inf"),
    "a method of a method": (
        lambda: ps.MethodOfSteps(ps.MethodOfSteps()), "made of an algorithm for ODEs", "MethodOfSteps"),
    "stages": (lambda: ps.CollocationAdjoint(stages=1), "has 2 to 12 stages", "stages=1"),
    "tolerances of the sweep": (
        lambda: ps.CollocationAdjoint(reltol=1e-6), "takes the steps of the solution", "reltol=1e-06"),
}  # fmt: skip


@pytest.mark.parametrize("name", INVALID)
def test_mistakes_are_told_with_a_way_out(name):
    run, what, got = INVALID[name]
    with pytest.raises(ps.InvalidInputError, match=what) as caught:
        run()
    assert caught.value.fix
    assert re.search(got, str(caught.value))


UNSUPPORTED = {
    "complex": (lambda: problem(u0=torch.ones(1, dtype=torch.complex128), h=lambda s: 1.0), "no complex numbers"),
    "a lag made of the past": (
        lambda: graphs(problem(f=lambda t, u, h: h(t - h(t - 1.0)[0]))), "depends on another past state"),
    "the embedded engine": (lambda: ps.solve(problem(), engine="embedded"), "embedded engine has no solver for delays"),
    "another sensealg": (
        lambda: ps.solve(problem(), sensealg=ps.GaussAdjoint(), engine="julia"), "`GaussAdjoint` is not available"),
    "an option it does not take": (lambda: ps.solve(problem(), progress=True), "a DDEProblem takes no `progress`"),
    "Julia's own source": (
        lambda: ps.solve(problem(f=ps.JuliaFunction("f(u, p, t) = -u")), engine="julia"), "takes no JuliaFunction"),
    "torch.func": (
        lambda: torch.func.grad(lambda x: ps.solve(problem(u0=x), engine="julia").u.sum())(vector(1.0)),
        "cannot be transformed by torch.func"),
    "SUNDIALS": (lambda: ps.MethodOfSteps(ps.CVODE_BDF()), "does not tell the past"),
    "a fully implicit method": (lambda: ps.MethodOfSteps(ps.RadauIIA5()), "cannot be made of `RadauIIA5`"),
    "a multistep method": (lambda: ps.MethodOfSteps(ps.FBDF()), "start anew at each breaking point"),
    "a method for halves": (lambda: ps.MethodOfSteps(ps.KahanLi8()), "cannot solve an ODEProblem"),
    "ODEs by the method of steps": (
        lambda: ps.solve(ps.ODEProblem(lambda t, u: -u, vector(1.0), (0.0, 1.0)), ps.MethodOfSteps()),
        "cannot solve an ODEProblem"),
    "ODEs by its gradient": (
        lambda: ps.solve(ps.ODEProblem(lambda t, u: -u, vector(1.0), (0.0, 1.0)), sensealg=ps.CollocationAdjoint()),
        "`CollocationAdjoint` is not available"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_cannot_be_done_says_what_can(name):
    run, what = UNSUPPORTED[name]
    with pytest.raises(ps.UnsupportedError, match=what) as caught:
        run()
    assert caught.value.fix


def test_without_julia_it_says_how_to_get_it(no_julia):
    with ps.config.override(engine="auto"), pytest.raises(ps.EngineMissingError, match="julia install"):
        ps.solve(problem())
