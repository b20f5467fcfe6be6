"""Times a rounding error outside of the span, which most solvers have no state at: they are saved at its end."""

from __future__ import annotations

import pytest
import torch

import pysciml as ps

D = torch.float64
OUTSIDE = [-5e-13, 0.5, 1 + 5e-13]
JULIA = [pytest.param(alg, "julia", marks=pytest.mark.julia)
         for alg in (ps.Tsit5(), ps.Vern7(), ps.Rodas5P(), ps.FBDF(), ps.CVODE_BDF(), ps.CVODE_Adams())]  # fmt: skip
EMBEDDED = [(alg, "embedded") for alg in (ps.Tsit5(), ps.CVODE_BDF(), ps.CVODE_Adams(), ps.IDA())]
ENGINES = pytest.mark.parametrize(("alg", "engine"), [*JULIA, *EMBEDDED], ids=lambda x: getattr(x, "name", x))


def decay(span=(0.0, 1.0)) -> ps.ODEProblem:
    return ps.ODEProblem(lambda t, u: -u, torch.ones(1, dtype=D), span)


@ENGINES
def test_a_spacing_that_does_not_divide_the_span_exactly(alg, engine):
    assert 3 * 0.1 > 0.3
    sol = ps.solve(decay((0.0, 0.3)), alg, engine=engine, saveat=0.1)
    assert sol.t[-1] == 0.3
    torch.testing.assert_close(sol.u[:, 0], torch.exp(-sol.t), rtol=1e-4, atol=0)


@ENGINES
def test_times_beside_the_ends_and_their_gradients(alg, engine):
    ts = torch.tensor(OUTSIDE, dtype=D, requires_grad=True)
    sol = ps.solve(decay(), alg, engine=engine, saveat=ts)
    assert sol.t.tolist() == [0.0, 0.5, 1.0]
    torch.testing.assert_close(sol.u[:, 0].detach(), torch.exp(-sol.t).detach(), rtol=1e-4, atol=0)
    (slopes,) = torch.autograd.grad(sol.u.sum(), ts)
    torch.testing.assert_close(slopes, -torch.exp(-sol.t).detach(), rtol=1e-3, atol=0)


@ENGINES
def test_a_solution_is_asked_there(alg, engine):
    sol = ps.solve(decay(), alg, engine=engine)
    u = sol(torch.tensor([1 + 5e-13, -5e-13], dtype=D))
    torch.testing.assert_close(u[:, 0], torch.tensor([1.0, 0.0], dtype=D).neg().exp(), rtol=1e-4, atol=0)


def test_of_a_span_that_goes_back():
    sol = ps.solve(decay((1.0, 0.0)), engine="embedded", saveat=OUTSIDE[::-1])
    assert sol.t.tolist() == [1.0, 0.5, 0.0]
    torch.testing.assert_close(sol.u[:, 0], torch.exp(1 - sol.t), rtol=1e-4, atol=0)


def test_two_that_would_be_one_and_one_that_is_farther_outside_are_refused():
    with pytest.raises(ps.InvalidInputError, match="strictly monotone"):
        ps.solve(decay(), engine="embedded", saveat=[0.5, 1.0, 1 + 5e-13])
    with pytest.raises(ps.InvalidInputError, match="must lie inside tspan"):
        ps.solve(decay(), engine="embedded", saveat=[0.5, 1 + 1e-9])


def test_members_of_a_vmap_have_their_own_ends():
    ends = torch.tensor([0.3, 1.0], dtype=D)

    def last(end):
        prob = ps.ODEProblem(lambda t, u: -u, torch.ones(1, dtype=D), (0.0, end))
        return ps.solve(prob, ps.CVODE_BDF(), engine="embedded", saveat=(end * (1 + 5e-13)).reshape(1)).u[0, 0]

    torch.testing.assert_close(torch.func.vmap(last)(ends), torch.exp(-ends), rtol=1e-4, atol=0)
