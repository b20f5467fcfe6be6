"""Where functions are not smooth, every form has torch's value and torch's derivative, CasADi's own AD included."""

from __future__ import annotations

import math

import casadi as ca
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from against_torch import check, column

from pysciml.rhs import lower_casadi
from pysciml.rhs.graph import evaluate
from pysciml.rhs.trace import compiled, record

INF = math.inf


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


AT_0 = tensor(0.0, -0.5, 0.5)

KINKS = {
    # name: (f of u, the point)
    **{name: (getattr(F, name), AT_0) for name in
       "relu elu celu selu leaky_relu logsigmoid softsign gelu silu mish softplus".split()},
    "abs": (torch.abs, AT_0),
    "sign": (torch.sign, AT_0),
    "relu6": (F.relu6, tensor(0.0, 6.0, 7.0)),
    "hardtanh": (F.hardtanh, tensor(-1.0, 1.0, 0.3)),
    "hardsigmoid": (nn.Hardsigmoid(), tensor(-3.0, 3.0, 4.0)),
    "hardswish": (F.hardswish, tensor(-3.0, 3.0, -4.0)),
    "hardshrink": (F.hardshrink, tensor(0.5, -0.5, 0.7)),
    "softshrink": (F.softshrink, tensor(0.5, -0.5, 0.7)),
    "threshold": (lambda u: F.threshold(u, 0.5, 2.0), tensor(0.5, 0.6, 0.4)),
    "prelu": (lambda u: F.prelu(u, tensor(0.2)), AT_0),
    "clamp": (lambda u: u.clamp(-0.5, 0.5), tensor(-0.5, 0.5, 0.7)),
    "clamp-min": (lambda u: u.clamp(min=0.0), AT_0),
    "maximum": (lambda u: torch.maximum(u, u.flip(0)), tensor(1.0, 1.0, 1.0)),
    "minimum": (lambda u: torch.minimum(u, tensor(1.0, 2.0, 0.0)), tensor(1.0, 2.0, 3.0)),
    "maximum-zero": (lambda u: torch.maximum(u, torch.zeros_like(u)), AT_0),
    "fmax": (lambda u: torch.fmax(u, torch.zeros_like(u)), AT_0),
    "max": (lambda u: u * u.max(), tensor(2.0, 2.0, 1.0)),
    "max-of-three": (lambda u: u + u.max(), tensor(2.0, 2.0, 2.0)),
    "amax": (lambda u: u + u.amax(), tensor(2.0, 2.0, 2.0)),
    "amax-of-five": (lambda u: u + u.amax(), tensor(2.0, 1.0, 2.0, 2.0, 0.0)),
    "amin": (lambda u: u + u.amin(0), tensor(-2.0, -2.0, -2.0)),
    "max-dim": (lambda u: u + u.max(0).values, tensor(2.0, 2.0, 2.0)),
    "min-dim": (lambda u: u + u.min(0).values, tensor(3.0, 2.0, 2.0)),
    "max-pool": (lambda u: F.max_pool1d(u[None], 3, 1, 1)[0], tensor(1.0, 1.0, 0.0, 0.0, 0.0)),
    "max-pool-of-relu": (lambda u: F.max_pool1d(F.relu(u)[None], 3, 1, 1)[0], tensor(-1.0, -2.0, 0.0, 3.0)),
    "norm": (lambda u: u.norm() + u, tensor(0.0, 0.0, 0.0)),
    "norm-1": (lambda u: u.norm(1) + u, tensor(0.0, 1.0, -1.0)),
    "norm-inf": (lambda u: u.norm(INF) + u, tensor(-2.0, 2.0, 1.0)),
    "norm-3": (lambda u: u.norm(3) + u, tensor(0.0, 0.0, 0.0)),
    "norm-1.5": (lambda u: u.norm(1.5) + u, tensor(0.0, 1.0, 2.0)),
    "distance": (lambda u: torch.cdist(u[:, None], u[:, None]).sum(1), tensor(1.0, 2.0, 2.0)),
    "std": (lambda u: u.std() + u, tensor(1.0, 1.0, 1.0)),
    "normalize": (lambda u: F.normalize(u, dim=0), tensor(0.0, 0.0, 0.0)),
    "square": (lambda u: u**2 + u**3 + u**1 + u**0, AT_0),
    "power-of-zero": (lambda u: u ** tensor(0.0, 1.0, 2.5), tensor(0.0, 0.0, 0.0)),
    "atan2": (lambda u: torch.atan2(u, u.flip(0)), tensor(0.0, 1.0, 0.0)),
    "sinc": (torch.sinc, AT_0),
    "xlogy": (lambda u: torch.xlogy(u, tensor(0.0, 1.0, 2.0)), tensor(0.0, 0.0, 2.0)),
    "logaddexp": (lambda u: torch.logaddexp(u, torch.zeros_like(u)), AT_0),
    "logsumexp": (lambda u: u + u.logsumexp(0), tensor(1.0, 1.0, 1.0)),
    "softmax": (lambda u: u.softmax(0), tensor(1.0, 1.0, 1.0)),
    "prod": (lambda u: u + u.prod(), tensor(0.0, 1.0, 2.0)),
    "prod-two-zeros": (lambda u: u + u.prod(), tensor(0.0, 0.0, 2.0)),
    "cumprod": (lambda u: u.cumprod(0), tensor(2.0, 0.0, 3.0)),
    "round": (lambda u: u + torch.round(u), tensor(0.5, 1.5, -0.5, 2.5)),
    "floor": (lambda u: u + torch.floor(u) + torch.ceil(u) + torch.trunc(u) + torch.frac(u), tensor(1.0, -1.0, 0.0)),
    "remainder": (lambda u: u % 0.1, tensor(1.0, 0.3, -0.7)),
    "fmod": (lambda u: torch.fmod(u, 0.25), tensor(1.0, 0.25, -0.5)),
    "where-safe": (lambda u: torch.where(u > 0, torch.sqrt(torch.where(u > 0, u, 1.0)), 0.0), tensor(-1.0, 0.0, 4.0)),
    "where-equal": (lambda u: torch.where(u >= 0, u * 2, u * 3), AT_0),
    "pow-half": (lambda u: torch.where(u > 0, u, 1.0) ** 0.5, AT_0),
    "extreme-sigmoid": (torch.sigmoid, tensor(-800.0, 800.0, -40.0)),
    "extreme-softplus": (F.softplus, tensor(-800.0, 800.0, 20.0)),
    "extreme-logsigmoid": (F.logsigmoid, tensor(-800.0, 800.0, -40.0)),
    "extreme-tanh": (torch.tanh, tensor(-800.0, 800.0, 20.0)),
    "extreme-silu": (F.silu, tensor(-800.0, 800.0, -40.0)),
    "extreme-softmax": (lambda u: u.softmax(0), tensor(-800.0, 800.0, 799.0)),
    "extreme-logsumexp": (lambda u: u + u.logsumexp(0), tensor(-800.0, 800.0, 799.0)),
    "upwind": (lambda u: torch.clamp(u, min=0) * (u - u.roll(1)) + torch.clamp(u, max=0) * (u.roll(-1) - u), AT_0),
}  # fmt: skip


@pytest.mark.parametrize(("f", "u"), [pytest.param(*case, id=name) for name, case in KINKS.items()])
def test_derivatives_at_kinks(f, u):
    loose = f is KINKS["hardsigmoid"][0]  # torch's own hardsigmoid takes 1/6 in single precision
    check(lambda t, u: f(u), u, points=1, tol=1e-7 if loose else 1e-10)


def test_a_power_of_a_state_that_starts_at_zero_has_a_gradient_in_its_exponent():
    def hill(t, u, p):
        return p[0] * u ** p[1] / (p[2] ** p[1] + u ** p[1]) - u

    for n in (1.0, 2.0, 2.5):
        check(hill, tensor(0.0, 0.0, 0.7), tensor(1.5, n, 0.4), points=1)


def both(f, u):
    """Values of f by its graph and by both lowerings."""
    program = record(lambda t, u: f(u), torch.tensor(0.0, dtype=u.dtype), torch.full_like(u, 0.5))
    graph = compiled(program).graph("f")
    p = torch.cat([torch.zeros(0), *(x.reshape(-1) for x in program.captured)]).double()
    yield evaluate(graph, t=torch.tensor(0.0), u=u, p=p)
    for scalar in (True, False):
        out = lower_casadi.function(graph, "f", scalar)(0.0, column(u), column(p))
        yield torch.from_numpy(ca.DM(out).full().ravel().copy())


@pytest.mark.parametrize(
    "f",
    [
        lambda u: torch.where(u > 0, torch.sqrt(u), 0.0),
        lambda u: torch.where(u > 0, torch.log(u), torch.zeros_like(u)),
        lambda u: torch.where(u == 0, 1.0, torch.sin(u) / u),
        lambda u: torch.where(u < 0, 0.0, 1 / u),
        lambda u: torch.nan_to_num(torch.log(u), nan=3.0, posinf=1.0, neginf=-7.0),
        lambda u: torch.where(torch.isnan(torch.sqrt(u)), -1.0, u),
        lambda u: torch.where(torch.isfinite(1 / u), u, 5.0),
        lambda u: (u > 0) & (u < 2) | torch.isinf(u),
    ],
)
def test_what_where_leaves_out_does_no_harm(f):
    u = tensor(-1.0, 0.0, 2.0)
    for ours in both(lambda u: f(u).double(), u):
        torch.testing.assert_close(ours, f(u).double())


@pytest.mark.parametrize(
    "f",
    [
        F.relu, torch.abs, F.leaky_relu, F.elu, F.hardtanh, F.relu6, F.hardswish, F.softplus, torch.sigmoid,
        F.threshold,
        lambda u: u.clamp(-1, 1),
        lambda u: torch.maximum(u, torch.zeros_like(u)),
        lambda u: torch.minimum(torch.zeros_like(u), u),
        lambda u: u.amax() * torch.ones_like(u),
        lambda u: u.max(0).values * torch.ones_like(u),
        lambda u: u.norm() * torch.ones_like(u),
        lambda u: torch.where(u > 0, u, 0.0) + u,
    ],
)  # fmt: skip
def test_nan_gets_through(f):
    """A solver that meets NaN must see it, and not the 0 that C's fmax would give."""
    g = (lambda u: F.threshold(u, 0.1, 0.0)) if f is F.threshold else f
    u = tensor(math.nan, 1.0, -1.0)
    truth = g(u)
    assert truth.isnan().any()
    for ours in both(g, u):
        torch.testing.assert_close(ours, truth, equal_nan=True)
