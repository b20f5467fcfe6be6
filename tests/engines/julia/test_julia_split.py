"""Split problems: solvers that take the two parts in two ways, their order of accuracy and their gradients."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from finite_differences import gradient, relative_error
from problems import vector

import pysciml as ps

pytestmark = pytest.mark.julia
MATRIX = torch.tensor([[-50.0, 10.0], [5.0, -40.0]], dtype=torch.float64)
CAPTURED = vector(0.3, 0.7)
START = vector(1.0, 0.5, 1.2, 2.0)
FINEST = {"reltol": 1e-12, "abstol": 1e-13}


def stiff(t, u, p):
    return p[0] * (MATRIX @ u)


def other(t, u, p):
    return torch.sin(u * p[1]) + CAPTURED * torch.cos(t)


def loss(x, alg, f1=stiff, f2=other, **options):
    prob = ps.SplitODEProblem(f1, f2, x[:2], (0.0, 1.0), x[2:])
    u = ps.solve(prob, alg, saveat=[0.1, 0.5, 1.0], engine="julia", **{"reltol": 1e-9, "abstol": 1e-9, **options}).u
    return (u**2).sum() + u[1, 0]


@cache
def truth():
    return loss(START, ps.Vern9(), **FINEST).item(), gradient(lambda x: loss(x, ps.Vern9(), **FINEST), START)


@pytest.mark.parametrize(("alg", "options", "bound"), [
    (ps.KenCarp4(), {"reltol": 1e-11, "abstol": 1e-11}, 1e-6),
    (ps.KenCarp4(), {"route": "callback"}, 1e-5),
    (ps.KenCarp47(), {"sensealg": ps.InterpolatingAdjoint()}, 1e-5),
    (ps.ARKODE(), {}, 1e-5),
    (ps.ARS343(), {"reltol": 1e-7, "abstol": 1e-7}, 1e-5),
    (ps.SBDF2(), {"dt": 2e-4}, 1e-4),
    (ps.ETDRK4(), {"dt": 2e-3}, 1e-6),
    (ps.ETDRK4(), {"dt": 2e-3, "route": "callback"}, 1e-6),
    (ps.Tsit5(), {}, 1e-6),
], ids=str)  # fmt: skip
def test_solution_and_gradients(alg, options, bound):
    value, reference = truth()
    x = START.clone().requires_grad_()
    found = loss(x, alg, **options)
    found.backward()
    assert found.item() == pytest.approx(value, rel=bound)
    assert relative_error(x.grad, reference) < bound


def test_captured_parameters_of_either_part_have_their_gradients():
    a, b, c = (vector(x).requires_grad_() for x in (30.0, 0.7, 1.3))

    def value(alg):
        def f2(t, u):
            return b * torch.cos(t) + c * torch.sin(u)

        prob = ps.SplitODEProblem(lambda t, u: -a * u * c, f2, vector(1.0), (0.0, 1.0))
        return ps.solve(prob, alg, saveat=[0.05, 1.0], engine="julia", **FINEST).u.sum()

    found = torch.autograd.grad(value(ps.KenCarp47()), (a, b, c))
    whole = torch.autograd.grad(value(ps.Vern9()), (a, b, c))
    assert all(relative_error(x, y) < 1e-6 for x, y in zip(found, whole, strict=True))


def test_only_the_first_part_is_solved_implicitly():
    """Its Jacobian alone is asked for: a second part whose Jacobian cannot be computed does no harm forwards."""
    calls = {"f1": 0, "f2": 0}

    def counted(name, f):
        def g(t, u, p):
            calls[name] += 1
            return f(t, u, p)

        return g

    with torch.no_grad():
        loss(START, ps.KenCarp4(), counted("f1", stiff), counted("f2", other), route="callback")
    assert calls["f1"] > 1.5 * calls["f2"] > 0


def test_a_model_solved_apart_can_be_solved_whole():
    first = loss(START, ps.Rodas5P()).item()
    loss(START, ps.KenCarp4())
    assert loss(START, ps.Rodas5P()).item() == first


def test_what_f_raises_in_a_part_arrives_unchanged():
    def broken(t, u, p):
        if t > 0.3:
            raise ZeroDivisionError("mine")
        return stiff(t, u, p)

    with pytest.raises(ZeroDivisionError, match="mine"):
        loss(START, ps.KenCarp4(), broken, route="callback")


def test_exponential_solvers_take_a_linear_part():
    for f1 in (lambda t, u, p: -p[0] * u**2, lambda t, u, p: -p[0] * t * u, lambda t, u, p: 1 - u):
        with pytest.raises(ps.UnsupportedError, match=r"takes f1 as a matrix[\s\S]*KenCarp4"):
            loss(START, ps.ETDRK4(), f1, dt=0.01)
    with pytest.raises(ps.UnsupportedError, match="ForwardSensitivity"):
        loss(START, ps.ETDRK4(), dt=0.01, sensealg=ps.ForwardSensitivity())


def test_an_ensemble_on_threads_is_refused_and_one_by_one_solved():
    prob = ps.SplitODEProblem(stiff, other, START[:2], (0.0, 1.0), START[2:])
    many = ps.EnsembleProblem(prob, u0=torch.stack([START[:2], 2 * START[:2]]))
    with pytest.raises(ps.UnsupportedError, match=r"takes the parts of a problem apart[\s\S]*serial"):
        ps.solve_ensemble(many, ps.ETDRK4(), dt=0.01, executor="threads", engine="julia")
    u = ps.solve_ensemble(many, ps.ETDRK4(), dt=0.01, saveat=[1.0], engine="julia").u
    one = ps.solve(prob, ps.ETDRK4(), dt=0.01, saveat=[1.0], engine="julia").u
    assert torch.equal(u[0], one)
