"""Several events at one time, and events that must be found once: no fewer, no more."""

from __future__ import annotations

import math

import pytest
from event_cases import TIGHT, ball, bounce, decay, every, number, oscillator

import pysciml as ps


def add(u):
    return u + 1.0


def twice(u):
    return 2 * u


def preset(change):
    return ps.PresetTimeCallback([1.0], lambda t, u: change(u))


def met(change):
    return ps.ContinuousCallback(lambda t, u: t - 1.0, lambda t, u: change(u))


@pytest.mark.parametrize("first", [preset, met])
@pytest.mark.parametrize("second", [preset, met])
@every
def test_the_first_given_acts_first(alg, options, first, second):
    for changes in ((add, twice), (twice, add)):
        both = ps.CallbackSet(first(changes[0]), second(changes[1]))
        sol = ps.solve(decay(), alg, callback=both, saveat=[1.0, 2.0], **TIGHT, **options)
        before = math.exp(-1)
        after = changes[1](changes[0](before))
        assert [e.t.item() for e in sol.events] == pytest.approx([1.0, 1.0], abs=1e-12)
        assert [e.callback for e in sol.events] == list(both.callbacks)
        assert sol.u.ravel().tolist() == pytest.approx([before, after * math.exp(-1)], abs=1e-7)


@every
def test_an_event_at_the_end_of_the_span(alg, options):
    seen = ps.ContinuousCallback(lambda t, u: t - 3.0, lambda t, u: u + 1.0)
    sol = ps.solve(decay(), alg, callback=seen, saveat=[3.0], **TIGHT, **options)
    assert sol.u.item() == pytest.approx(math.exp(-3), abs=1e-8)
    assert [e.t.item() for e in sol.events] == [3.0]
    assert sol.events[0].after.item() == pytest.approx(math.exp(-3) + 1, abs=1e-8)


@pytest.mark.parametrize("reltol", [1e-3, 1e-4, 1e-6])
@every
def test_loose_tolerances_find_each_event_once(alg, options, reltol):
    loose = {"reltol": reltol, "abstol": reltol / 10, **options}
    seen = ps.ContinuousCallback(lambda t, u: u[0])
    times = [e.t.item() for e in ps.solve(oscillator(0.0, 18.0), alg, callback=seen, **loose).events]
    assert times == pytest.approx([(k + 0.5) * math.pi for k in range(6)], abs=300 * reltol)
    sol = ps.solve(ball(number(2.0), number(9.81), 4.0), alg, callback=bounce(0.8), **loose)
    first = math.sqrt(4 / 9.81)
    exact = [first + sum(2 * 0.8**j * first for j in range(1, k + 1)) for k in range(5)]
    exact = [t for t in exact if t < 4.0]
    assert [e.t.item() for e in sol.events] == pytest.approx(exact, abs=100 * reltol)
