"""What the tests of events have in common: every engine and route, and problems with closed forms."""

from __future__ import annotations

import math

import pytest
import torch

import pysciml as ps

TIGHT = {"reltol": 1e-10, "abstol": 1e-11}
ALGS = [
    pytest.param(ps.CVODE_BDF(), {"engine": "embedded"}, id="bdf"),
    pytest.param(ps.CVODE_Adams(), {"engine": "embedded"}, id="adams"),
    pytest.param(ps.DP5(), {"engine": "embedded"}, id="dp5"),
    *(
        pytest.param(alg, {"engine": "julia", "route": route}, id=f"{name}-{route}", marks=pytest.mark.julia)
        for name, alg in [("tsit5", ps.Tsit5()), ("rodas", ps.Rodas5P()), ("jbdf", ps.CVODE_BDF()), ("default", None)]
        for route in ("compiled", "callback")
    ),
]
every = pytest.mark.parametrize(("alg", "options"), ALGS)
EMBEDDED = {"engine": "embedded"}


def number(x, grad=False):
    return torch.tensor(x, dtype=torch.float64, requires_grad=grad)


def decay():
    return ps.ODEProblem(lambda t, u: -u, number([1.0]), (0.0, 3.0))


def oscillator(t0=0.0, t1=6.0, **options):
    """cos t, and its slope."""
    u0 = number([math.cos(t0), -math.sin(t0)])
    return ps.ODEProblem(lambda t, u: torch.stack([u[1], -u[0]]), u0, (t0, t1), **options)


def ball(h, g, t1):
    """Falls from height h."""
    return ps.ODEProblem(lambda t, u: torch.stack([u[1], -g]), torch.stack([h, number(0.0)]), (0.0, t1))


def bounce(r):
    return ps.ContinuousCallback(lambda t, u: u[0], lambda t, u: torch.stack([u[0], -r * u[1]]))


def bounced(h, g, r, t):
    """The height at t of a ball that falls from h and keeps the share r of its speed at each bounce."""
    speed, last = (2 * g * h).sqrt(), (2 * h / g).sqrt()
    if t < last.item():
        return h - g * t**2 / 2
    while True:
        speed = r * speed
        following = last + 2 * speed / g
        if t < following.item():
            return speed * (t - last) - g * (t - last) ** 2 / 2
        last = following


def grads(out, inputs):
    return torch.autograd.grad(out, inputs, retain_graph=True, allow_unused=True, materialize_grads=True)


def assert_same(found, exact, inputs, atol=1e-6):
    """Value and gradients."""
    assert abs(found.item() - exact.item()) < atol
    torch.testing.assert_close(grads(found, inputs), grads(exact, inputs), rtol=0, atol=10 * atol)
