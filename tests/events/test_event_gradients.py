"""Gradients through several events, against closed forms and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from event_cases import TIGHT, assert_same, ball, bounce, bounced, decay, every, number, oscillator
from finite_differences import gradient, relative_error

import pysciml as ps


def learned():
    return number(2.0, True), number(9.81, True), number(0.8, True)


@every
def test_several_bounces(alg, options):
    h, g, r = given = learned()
    sol = ps.solve(ball(h, g, 3.5), alg, callback=bounce(r), saveat=[3.5], **TIGHT, **options)
    assert len(sol.events) == 4
    assert_same(sol.u[-1, 0], bounced(h, g, r, 3.5), given)


@every
def test_dense_output_across_events(alg, options):
    h, g, r = given = learned()
    times = number([2.9, 0.3, 1.1, 2.2], True)
    sol = ps.solve(ball(h, g, 3.0), alg, callback=bounce(r), **TIGHT, **options)
    at = sol(times)[:, 0]
    for k, t in enumerate(times):
        assert_same(at[k], bounced(h, g, r, t), (*given, times))
    first = sol.events[0]
    torch.testing.assert_close(sol(first.t.detach()), first.before, rtol=0, atol=1e-7)


@every
def test_affect_neg(alg, options):
    up, down = given = number(0.7, True), number(0.5, True)
    seen = ps.ContinuousCallback(
        lambda t, u: u[0],
        lambda t, u: torch.stack([u[0], up * u[1]]),
        lambda t, u: torch.stack([u[0], down * u[1]]),
    )
    sol = ps.solve(oscillator(), alg, callback=seen, saveat=[6.0], **TIGHT, **options)
    assert_same(sol.u[-1, 0], up * down * math.sin(6.0 - 1.5 * math.pi), given)


@every
def test_backwards_in_time(alg, options):
    """From negative to positive is meant along the solve."""
    up, down = given = number(0.7, True), number(0.5, True)
    seen = ps.ContinuousCallback(
        lambda t, u: u[0],
        lambda t, u: torch.stack([u[0], up * u[1]]),
        lambda t, u: torch.stack([u[0], down * u[1]]),
    )
    prob = oscillator(6.0, -2.0)
    sol = ps.solve(prob, alg, callback=seen, saveat=[3.0, -2.0], **TIGHT, **options)
    assert [e.t.item() for e in sol.events] == pytest.approx([k * math.pi / 2 for k in (3, 1, -1)], abs=1e-7)
    assert_same(sol.u[0, 0], down * math.cos(3.0), given)
    assert_same(sol.u[-1, 0], down * up * down * math.cos(-2.0), given)
    rising = ps.ContinuousCallback(lambda t, u: u[0], direction=1)
    (event,) = ps.solve(prob, alg, callback=rising, **TIGHT, **options).events
    assert event.t.item() == pytest.approx(math.pi / 2, abs=1e-7)


@every
def test_a_schedule_of_doses(alg, options):
    sizes, times = given = number([1.0, 0.5, 2.0], True), number([0.5, 1.25, 2.5], True)
    doses = [ps.PresetTimeCallback(t, lambda t, u, size=size: u + size) for size, t in zip(sizes, times, strict=True)]
    sol = ps.solve(decay(), alg, callback=doses, saveat=[1.0, 3.0], **TIGHT, **options)
    assert_same(sol.u[0, 0], math.exp(-1) + sizes[0] * torch.exp(times[0] - 1.0), given)
    assert_same(sol.u[1, 0], math.exp(-3) + (sizes * torch.exp(times - 3.0)).sum(), given)


@every
def test_a_learned_condition(alg, options):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)).double()
    with torch.no_grad():
        net[2].bias.fill_(-0.1)
    switch = ps.ContinuousCallback(lambda t, u: net(u) + u[0] - 0.3, lambda t, u: 0.5 * u + 0.2)
    shape = [x.shape for x in net.parameters()]

    def loss(flat):
        torch.nn.utils.vector_to_parameters(flat, net.parameters())
        sol = ps.solve(oscillator(0.0, 2.0), alg, callback=switch, saveat=[2.0], **TIGHT, **options)
        assert len(sol.events) >= 1
        return (sol.u**2).sum() + sol.events[0].t

    start = torch.nn.utils.parameters_to_vector(net.parameters()).detach()
    found = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss(start), list(net.parameters()))])
    assert len(shape) == 4
    assert found.abs().max() > 0.1
    assert relative_error(found, gradient(loss, start)) < 1e-5


@every
def test_float32(alg, options):
    h, g, r = given = [x.detach().float().requires_grad_() for x in learned()]
    u0 = torch.stack([h, torch.zeros(())])
    prob = ps.ODEProblem(lambda t, u: torch.stack([u[1], -g]), u0, (0.0, 2.0))
    sol = ps.solve(prob, alg, callback=bounce(r), saveat=[2.0], **options)
    assert (sol.u.dtype, len(sol.events)) == (torch.float32, 2)
    found, exact = sol.u[-1, 0], bounced(h, g, r, 2.0)
    assert found.item() == pytest.approx(exact.item(), abs=2e-3)
    torch.testing.assert_close(grads32(found, given), grads32(exact, given), rtol=2e-2, atol=2e-2)


def grads32(out, inputs):
    return torch.autograd.grad(out, inputs, retain_graph=True)


@every
def test_a_crossing_without_slope_has_no_gradient(alg, options):
    level = number(0.0, True)
    flat = ps.ContinuousCallback(lambda t, u: (t - 1.0) ** 3 - level, lambda t, u: 2 * u)
    sol = ps.solve(decay(), alg, callback=flat, saveat=[3.0], **TIGHT, **options)
    assert sol.events[0].t.item() == pytest.approx(1.0, abs=1e-5)
    assert sol.u.item() == pytest.approx(2 * math.exp(-3), abs=1e-7)
    with pytest.raises(ps.SolveError, match="has no derivative: its condition only touches zero") as info:
        sol.events[0].t.backward()
    assert info.value.t == pytest.approx(1.0, abs=1e-5)


@every
def test_second_derivatives(alg, options):
    """Those in a preset time and a dose are there; those through the time of an event raise."""
    dose, when, level = number(2.0, True), number(1.0, True), number(0.5, True)
    given = ps.PresetTimeCallback(when, lambda t, u: u + dose)
    last = ps.solve(decay(), alg, callback=given, saveat=[3.0], **TIGHT, **options).u.sum()
    (slope,) = torch.autograd.grad(last, when, create_graph=True)
    found = torch.autograd.grad(slope, [when, dose])
    assert [x.item() for x in found] == pytest.approx([2 * math.exp(-2), math.exp(-2)], abs=1e-5)
    double = ps.ContinuousCallback(lambda t, u: u[0] - level, lambda t, u: 2 * u)
    sol = ps.solve(decay(), alg, callback=double, saveat=[0.1, 1.0], **TIGHT, **options)
    for out in (sol.events[0].t, sol.u[-1, 0]):
        (slope,) = torch.autograd.grad(out, level, create_graph=True)
        with pytest.raises(ps.UnsupportedError, match=r"second derivatives through an event[\s\S]*differences of it"):
            torch.autograd.grad(slope, level)
