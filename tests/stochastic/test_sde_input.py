"""What a stochastic equation cannot be, and what would work instead."""

from __future__ import annotations

import pytest
import torch
from sde_cases import ENGINES, F64, GENERAL, GEOMETRIC, LORENZ_LIKE, number

import pysciml as ps

engines = pytest.mark.parametrize("engine", ENGINES)
ONE = number([1.0])
JULIA = ps.JuliaFunction("f(u, p, t) = u")


def f(t, u):
    return -u


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ps.SDEProblem(3, f, ONE, (0.0, 1.0)), ps.InvalidInputError, "f must be callable"),
        (lambda: ps.SDEProblem(f, 3, ONE, (0.0, 1.0)), ps.InvalidInputError, "g must be callable"),
        (lambda: ps.SDEProblem(f, JULIA, ONE, (0.0, 1.0)), ps.UnsupportedError, "in torch"),
        (lambda: ps.SDEProblem(f, f, ONE, (1.0, 0.0)), ps.InvalidInputError, "forwards in time"),
        (lambda: ps.SDEProblem(f, f, ONE, (0.0, 1.0), noise_type="white"), ps.InvalidInputError, "no such noise_type"),
        (lambda: ps.SDEProblem(f, f, ONE, (0.0, 1.0), interpretation="Ito"), ps.InvalidInputError,
         "no such interpretation"),
        (lambda: ps.SDEProblem(f, f, torch.tensor(1.0), (0.0, 1.0), noise_type="general"), ps.InvalidInputError,
         "one tensor"),
        (lambda: ps.SDEProblem(f, f, (ONE, ONE), (0.0, 1.0), noise_type="scalar"), ps.InvalidInputError, "one tensor"),
        (lambda: ps.SDEProblem(f, f, torch.tensor([1]), (0.0, 1.0)), ps.InvalidInputError, "float32 or float64"),
        (lambda: GEOMETRIC.problem().remake(drift=f), ps.InvalidInputError, "no field 'drift'"),
        (lambda: ps.SDEProblem(f, f, ONE, (0.0, 1.0), noise_type="general").motions, ps.InvalidInputError,
         "one more dimension"),
        (lambda: ps.NoisePath([0.0], [[0.0]]), ps.InvalidInputError, "two or more times"),
        (lambda: ps.NoisePath([0.0, 1.0], [0.0, 1.0]), ps.InvalidInputError, "a row for each time"),
        (lambda: ps.NoisePath([0.0, 1.0], [[0.0], [float("nan")]]), ps.InvalidInputError, "must be finite"),
        (lambda: ps.NoisePath.sample([0.0, 1.0], 1).refined([0.0, 0.5]), ps.InvalidInputError, "keep the times"),
        (lambda: ps.EnsembleProblem(GEOMETRIC.problem(), trajectories=0), ps.InvalidInputError, "number of members"),
        (lambda: ps.EnsembleProblem(ps.ODEProblem(f, ONE, (0.0, 1.0)), trajectories=5), ps.InvalidInputError,
         "with noise"),
        (lambda: ps.ImplicitEM(theta=0.2), ps.InvalidInputError, "theta from 0.5 to 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert caught.value.fix
    assert caught.value.got


@engines
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alg": ps.Tsit5()}, ps.UnsupportedError, "`Tsit5` cannot solve an SDEProblem"),
        ({"alg": 3}, ps.InvalidInputError, "an algorithm or its name"),
        ({"alg": ps.EM()}, ps.InvalidInputError, "fixed steps needs dt"),
        ({"alg": ps.EM(), "dt": -1.0}, ps.InvalidInputError, "dt must be a positive number"),
        ({"alg": ps.EulerHeun(), "dt": 0.1}, ps.UnsupportedError, "solves Stratonovich's equations"),
        ({"alg": ps.EM(), "dt": 0.1, "noise": 3}, ps.InvalidInputError, "noise must be a path"),
        ({"alg": ps.EM(), "dt": 0.1, "noise": ps.NoisePath.sample([0.0, 1.0], 5)}, ps.InvalidInputError, "2 motions"),
        ({"alg": ps.EM(), "dt": 0.1, "noise": ps.NoisePath.sample([0.0, 0.5], 2)}, ps.InvalidInputError,
         "enclose the span"),
        ({"alg": ps.EM(), "dt": 0.1, "saveat": torch.tensor([0.5], requires_grad=True)}, ps.UnsupportedError,
         "no derivative in time"),
        ({"alg": ps.EM(), "dt": 0.1, "tstops": [0.5]}, ps.UnsupportedError,
         "the solve of an SDEProblem takes no `tstops`"),
        ({"alg": ps.EM(), "dt": 0.1, "sensealg": ps.GaussAdjoint()}, ps.UnsupportedError, "for stochastic equations"),
        ({"alg": ps.EM(), "dt": 0.1, "saveat": [2.0]}, ps.InvalidInputError, "inside tspan"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(engine, options, error, message):
    with pytest.raises(error, match=message) as caught:
        ps.solve(GEOMETRIC.problem(), engine=engine, **options)
    assert caught.value.fix


@engines
def test_noise_that_a_solver_is_not_for_is_refused(engine):
    with pytest.raises(ps.UnsupportedError, match="cannot solve with this noise"):
        ps.solve(GENERAL.problem(), ps.RKMil(), dt=0.1, engine=engine)


@pytest.mark.julia
@pytest.mark.parametrize("alg", [ps.SOSRI(), ps.SRIW1(), ps.SOSRA(), ps.SKenCarp()], ids=lambda a: a.name)
def test_high_orders_are_for_their_noise(alg):
    with pytest.raises(ps.UnsupportedError, match=r"which depends on the state[\s\S]*LambaEM"):
        ps.solve(GENERAL.problem(), alg, engine="julia")
    if "diagonal" not in alg.noises:
        with pytest.raises(ps.UnsupportedError, match="which depends on the state"):
            ps.solve(GEOMETRIC.problem(), alg, engine="julia")


@pytest.mark.parametrize("alg", [ps.SOSRI(), ps.LambaEM(), ps.SRIW1(), ps.EM(split=True)], ids=lambda a: a.name)
def test_the_embedded_engine_names_what_it_has(alg):
    with pytest.raises(ps.UnsupportedError, match=r"not available in the embedded engine[\s\S]*EM for Ito"):
        ps.solve(GEOMETRIC.problem(), alg, engine="embedded")


@pytest.mark.parametrize("option", [{"dtmax": 0.1}, {"maxiters": 5}], ids=str)
def test_torchsde_takes_fewer_options(option):
    with pytest.raises(ps.UnsupportedError, match=f"torchsde takes no `{next(iter(option))}`"):
        ps.solve(GEOMETRIC.problem(), ps.EM(), dt=0.1, engine="embedded", **option)


def test_eager_torch_is_not_compiled_and_keeps_no_noise():
    with pytest.raises(ps.UnsupportedError, match="eager torch"):
        ps.solve(GEOMETRIC.problem(), ps.EM(), dt=0.1, engine="embedded", route="compiled")
    sol = ps.solve(GEOMETRIC.problem(), ps.EM(), dt=0.1, engine="embedded")
    with pytest.raises(ps.UnsupportedError, match="does not keep the path"):
        _ = sol.noise
    noise = ps.NoisePath.sample([0.0, 1.0], 2)
    with pytest.raises(ps.UnsupportedError, match="more of a path than its values"):
        ps.solve(LORENZ_LIKE.problem(), ps.TorchSDE("srk"), dt=0.1, noise=noise, engine="embedded")


def test_without_torchsde_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchsde", None)
    with pytest.raises(ps.MissingExtraError, match=r'pip install "pysciml\[sde\]"'):
        ps.solve(GEOMETRIC.problem(), ps.EM(), dt=0.1, engine="embedded")


def test_transforms_of_torch_func_are_refused():
    def end(p):
        return ps.solve(GEOMETRIC.problem(p=p), ps.EM(), dt=0.1, seed=1, engine="embedded").u[-1].sum()

    with pytest.raises(ps.UnsupportedError, match=r"not transformed by torch\.func"):
        torch.func.grad(end)(GEOMETRIC.p)


def test_an_ode_has_no_seed():
    prob = ps.ODEProblem(f, ONE, (0.0, 1.0))
    with pytest.raises(ps.UnsupportedError, match="the solve of an ODEProblem takes no `seed`"):
        ps.solve(prob, seed=1, engine="embedded")
    with pytest.raises(ps.UnsupportedError, match="no noise in this problem"):
        ps.solve_ensemble(ps.EnsembleProblem(prob, u0=number([[1.0], [2.0]])), seed=1, engine="embedded")


def test_other_executors_and_events_are_refused():
    many = ps.EnsembleProblem(GEOMETRIC.problem(), trajectories=2)
    with pytest.raises(ps.UnsupportedError, match="solved on threads, without events"):
        ps.solve_ensemble(many, ps.EM(), dt=0.1, executor="processes", engine="embedded")


def test_problems_say_what_they_are():
    assert repr(GENERAL.problem()) == (
        "SDEProblem(<lambda>, <lambda>, u0: [2] torch.float64, tspan=(0, 1), general noise, ito)"
    )
    assert "differing in noise" in repr(ps.EnsembleProblem(GEOMETRIC.problem(), trajectories=3))
    sol = ps.solve(GEOMETRIC.problem(), ps.EM(), dt=0.1, seed=12, engine="embedded")
    assert "seed     12" in repr(sol)
    assert repr(ps.NoisePath.sample(torch.linspace(0, 1, 5, dtype=F64), 2, paths=3)) == (
        "NoisePath(3 paths of 2 motions, 5 times from 0 to 1)"
    )


@pytest.mark.julia
@pytest.mark.parametrize("route", ["compiled", "callback"])
def test_noise_that_is_called_additive_and_is_not_is_refused_where_that_matters(route):
    prob = ps.SDEProblem(f, lambda t, u: u[:, None], ONE, (0.0, 1.0), noise_type="additive")
    with pytest.raises(ps.UnsupportedError, match=r"`SOSRA` cannot solve with this noise[\s\S]*depends on the state"):
        ps.solve(prob, ps.SOSRA(), engine="julia", route=route)
    assert ps.solve(prob, ps.EM(), dt=0.1, engine="julia", route=route).u.shape == (2, 1)
    constant = ps.SDEProblem(f, lambda t, u: torch.ones_like(u)[:, None], ONE, (0.0, 1.0), noise_type="additive")
    assert ps.solve(constant, ps.SOSRA(), engine="julia", route=route).u.shape == (2, 1)
