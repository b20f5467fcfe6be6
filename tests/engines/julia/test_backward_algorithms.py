"""What solves backwards after a solver that switches: by what the forward solve needed."""

from __future__ import annotations

import pytest
import torch
from finite_differences import gradient, relative_error
from problems import lotka_volterra, vector

import pysciml as ps

pytestmark = pytest.mark.julia
TIMES = torch.tensor([0.5, 2.0], dtype=torch.float64)


def van_der_pol(t, u, p):
    return torch.stack([u[1], p[0] * (1 - u[0] ** 2) * u[1] - u[0]])


def solved(f, p, alg, **options):
    prob = ps.ODEProblem(f, vector(1.0, 0.8), (0.0, 2.0), p)
    return ps.solve(prob, alg, saveat=TIMES, engine="julia", **options)


@pytest.mark.parametrize(
    ("alg", "tolerance", "expected"),
    [
        (None, 1e-5, "Tsit5"),
        (None, 1e-9, "Vern7"),
        (ps.AutoTsit5(), 1e-6, "Tsit5"),
        (ps.AutoVern9(ps.Rodas5P()), 1e-6, "Vern9"),
        (ps.AutoSwitch(ps.Tsit5(), ps.Rosenbrock23()), 1e-6, "Tsit5"),
    ],
    ids=str,
)
def test_what_was_never_stiff_goes_back_by_the_explicit_method(alg, tolerance, expected):
    p = vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
    sol = solved(lotka_volterra, p, alg, reltol=tolerance, abstol=tolerance)
    (sol.u**2).sum().backward()
    assert sol.stats.njacs == 0
    assert sol.stats.backward.alg == expected
    assert sol.stats.backward.njacs == 0


@pytest.mark.parametrize("alg", [None, ps.AutoTsit5(), ps.AutoVern7(ps.Rodas5P())], ids=str)
def test_what_was_stiff_goes_back_by_an_implicit_one(alg):
    p, options = vector(1000.0).requires_grad_(), {"reltol": 1e-8, "abstol": 1e-8}
    sol = solved(van_der_pol, p, alg, **options)
    (sol.u**2).sum().backward()
    assert sol.stats.njacs > 0
    assert sol.stats.backward.alg == "Rodas5P"
    expected = gradient(lambda p: (solved(van_der_pol, p, ps.Rodas5P(), reltol=1e-12, abstol=1e-12).u ** 2).sum(), p)
    assert relative_error(p.grad, expected) < 1e-4


def test_a_chosen_algorithm_is_taken():
    p = vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
    sol = solved(lotka_volterra, p, None, sensealg=ps.GaussAdjoint(alg=ps.Rodas5P()))
    (sol.u**2).sum().backward()
    assert sol.stats.backward.alg == "Rodas5P"


def test_so_do_the_members_of_an_ensemble():
    p = vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
    prob = ps.ODEProblem(lotka_volterra, vector(1.0, 0.8), (0.0, 2.0), p)
    many = ps.EnsembleProblem(prob, u0=torch.tensor([[1.0, 0.8], [0.5, 1.2], [1.4, 1.0]], dtype=torch.float64))
    sol = ps.solve_ensemble(many, saveat=TIMES, engine="julia", reltol=1e-8, abstol=1e-8)
    (sol.u**2).sum().backward()
    grad, p.grad = p.grad, None
    for u0 in many.u0:
        one = ps.ODEProblem(lotka_volterra, u0, (0.0, 2.0), p)
        (ps.solve(one, ps.Tsit5(), saveat=TIMES, engine="julia", reltol=1e-10, abstol=1e-10).u ** 2).sum().backward()
    assert relative_error(grad, p.grad) < 1e-6
