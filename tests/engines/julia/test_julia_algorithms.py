"""Every algorithm against the real Julia: it can be made, its traits are what Julia says, it converges with its order.

The right-hand side is Lotka-Volterra, forced by sin(t) where a method may be asked that: a wrong time in a stage shows.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from problems import F64, heat, lotka_volterra, robertson, vector
from processes import output

import pysciml as ps
from pysciml.algorithms import REGISTRY, Algorithm
from pysciml.algorithms.implicit import LINSOLVES
from pysciml.engines.base import Request
from pysciml.engines.julia.algorithms import JuliaAlgorithmError, julia_algorithm, resolved
from pysciml.engines.julia.engine import JuliaEngine
from pysciml.rhs.trace import prepare

pytestmark = pytest.mark.julia

IN_JULIA = sorted(n for n, alg in REGISTRY.items() if alg.package and n != "JuliaAlgorithm")
OF_ORDINARY = [n for n in IN_JULIA if REGISTRY[n].package.startswith("OrdinaryDiffEq") and n != "DefaultODEAlgorithm"]
SOLVING = [n for n in IN_JULIA if REGISTRY[n].problem == "ode"]
# One or two of each family: what a run without the slow tests solves with.
QUICK = {
    "Tsit5",
    "Vern7",
    "Rodas5P",
    "Rosenbrock23",
    "KenCarp4",
    "RadauIIA5",
    "QNDF",
    "DFBDF",
    "IDA",
    "VCABM",
    "CVODE_BDF",
    "CVODE_Adams",
    "ARKODE",
    "AutoTsit5",
}

START, PARAMETERS, END = vector(1.0, 1.0), vector(1.5, 1.0, 1.0, 3.0), 2.0


def forced(t, u, p):
    return lotka_volterra(t, u, p) + torch.stack([0.3 * torch.sin(t), torch.zeros_like(t)])


def solve(f, u0, p, end, alg: Algorithm, reltol=1e-6, abstol=1e-8, ts=None, mass=None, **options) -> ps.Solution:
    prob = ps.ODEProblem(f, u0, (0.0, end), p, mass)
    times = [end] if ts is None else ts
    return ps.solve(prob, alg, saveat=times, reltol=reltol, abstol=abstol, engine="julia", **options)


def julia_problem(f, implicit: bool) -> Any:
    """Julia's ODEProblem of f, with its derivatives where a method asks for them."""
    alg = ps.Rodas5P() if implicit else ps.Tsit5()
    program, rhs = prepare(f, torch.tensor(0.0, dtype=F64), START, PARAMETERS)
    request = Request(rhs=rhs, program=program, u0=START.numpy(), p=PARAMETERS.numpy(), t0=0.0, t1=END,
                      ts=np.array([END]), alg=alg, sensealg=ps.GaussAdjoint(), reltol=1e-6, abstol=1e-8)  # fmt: skip
    return JuliaEngine().solve(request).handle.value


def problem_of(alg: type[Algorithm]):
    return lotka_volterra if alg.autonomous else forced


@cache
def truth(f) -> torch.Tensor:
    return solve(f, START, PARAMETERS, END, ps.Vern9(), 1e-14, 1e-14).u[-1]


def error(f, alg: Algorithm, **options) -> float:
    u = solve(f, START, PARAMETERS, END, alg, **options).u[-1]
    return float((u - truth(f)).norm() / truth(f).norm())


@cache
def julia_session() -> Any:
    """Julia's own opinion of an algorithm, and solves with steps that are fixed."""
    julia_algorithm(ps.Tsit5())  # starts Julia as pysciml does
    import juliacall

    session = juliacall.newmodule("AlgorithmTests")
    session.seval("""begin
        import PySciML, SciMLBase, OrdinaryDiffEqCore as Core
        implicit(alg) = Core.isimplicit(alg)
        exponential(alg) =
            alg isa Union{Core.OrdinaryDiffEqExponentialAlgorithm, Core.OrdinaryDiffEqAdaptiveExponentialAlgorithm}
        adaptive(alg) = SciMLBase.isadaptive(alg)
        autoswitch(alg) = Core.isautoswitch(alg)
        takes_mass(alg) = Core.is_mass_matrix_alg(alg)
        order(alg) = Core.alg_order(alg)
        fixed(run, alg, dt) = SciMLBase.solve(run.sol.prob, alg; dt, adaptive = false, reltol = 1e-10, abstol = 1e-12,
            verbose = PySciML.Silent()).u[end]
    end""")
    return session


@pytest.mark.parametrize("name", IN_JULIA)
def test_julia_makes_it(name):
    if name == "IDA" or REGISTRY[name].package != "Sundials":
        assert julia_algorithm(REGISTRY[name]()).value is not None
    assert julia_algorithm(REGISTRY[name]()) is julia_algorithm(REGISTRY[name]())


@pytest.mark.parametrize("name", OF_ORDINARY)
def test_its_traits_are_what_julia_says(name):
    alg, julia = REGISTRY[name], julia_session()
    made = julia_algorithm(alg()).value
    if alg.problem == "ode" and not alg.residual:  # of which Julia says neither
        assert alg.implicit == (julia.implicit(made) or julia.exponential(made))
    assert alg.adaptive == julia.adaptive(made)
    assert alg.autoswitch == julia.autoswitch(made)
    if alg.dae and not alg.residual:
        assert julia.takes_mass(made)
    if not alg.variable_order and name != "AutoSwitch":
        assert alg.order == julia.order(made)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.exhaustive]) for n in SOLVING if REGISTRY[n].adaptive],
)
def test_it_reaches_its_tolerance(name):
    alg = REGISTRY[name]
    first, stabilised = alg.order == 1, alg.package == "OrdinaryDiffEqStabilizedRK"
    # Local errors of a method of order 1 add up over thousands of steps, and stabilised methods control them loosely.
    bound = 2e-2 if first else 1e-3 if stabilised or alg.order == 2 else 2e-4
    assert error(problem_of(alg), alg(), reltol=1e-6, abstol=1e-6) < bound


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name", [n for n in SOLVING if n in OF_ORDINARY and not (REGISTRY[n].variable_order or REGISTRY[n].autoswitch)]
)
def test_it_converges_with_its_order(name):
    alg, julia = REGISTRY[name], julia_session()
    f = problem_of(alg)
    run, made = julia_problem(f, alg.implicit), julia_algorithm(alg()).value
    errors = []
    for steps in (16, 32, 64, 128):
        u = torch.tensor(np.array(julia.fixed(run, made, END / steps)))
        errors.append(float((u - truth(f)).norm() / truth(f).norm()))
    rates = [math.log2(a / b) for a, b in pairwise(errors) if a > 1e-11]
    assert min(errors) < 1e-10 or max(rates) > alg.order - 0.35, (errors, rates)


def test_a_first_order_scalar_method_takes_the_step_it_is_given():
    assert error(forced, ps.Euler(), dt=1e-3) == pytest.approx(error(forced, ps.Euler(), dt=2e-3) / 2, rel=0.05)
    with pytest.raises(ps.InvalidInputError, match="needs dt"):
        solve(forced, START, PARAMETERS, END, ps.Euler())


@pytest.mark.parametrize("name", sorted(n for n in IN_JULIA if REGISTRY[n].autonomous))
def test_a_method_that_mistakes_the_time_is_refused(name):
    with pytest.raises(ps.UnsupportedError, match="loses its order where f depends on t"):
        solve(forced, START, PARAMETERS, END, REGISTRY[name](), dt=0.01)


@pytest.mark.parametrize("name", ["KahanLi8", "DPRKN6", "ETDRK4", "SBDF2"])
def test_a_method_for_other_problems_is_refused(name):
    with pytest.raises(ps.UnsupportedError, match="cannot solve an ODEProblem"):
        solve(forced, START, PARAMETERS, END, REGISTRY[name](), dt=0.01)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.exhaustive]) for n in IN_JULIA if REGISTRY[n].dae],
)
def test_a_singular_mass_matrix(name):
    """Robertson's problem with its conservation law for the last equation."""

    def f(t, u, p):
        rates = robertson(t, u, p)
        return torch.stack([rates[0], rates[1], u.sum() - 1])

    alg, p = REGISTRY[name](), vector(0.04, 3e7, 1e4)
    loose = alg.order < 3
    options = {"dt": 1e-3} if not alg.adaptive else {}
    found = solve(f, vector(1.0, 0.0, 0.0), p, 1.0, alg, 1e-5 if loose else 1e-7, 1e-9 if loose else 1e-11,
                  mass=vector(1.0, 1.0, 0.0), **options).u[-1]  # fmt: skip
    expected = solve(robertson, vector(1.0, 0.0, 0.0), p, 1.0, ps.Rodas5P(), 1e-10, 1e-14).u[-1]
    np.testing.assert_allclose(found, expected, rtol=5e-3 if loose else 1e-4, atol=1e-9)


@pytest.mark.parametrize("linsolve", LINSOLVES)
def test_linear_solvers(linsolve):
    ring = torch.sin(torch.arange(30, dtype=F64)) + 0.3
    expected = solve(heat, ring, vector(0.8), 0.5, ps.Vern7(), 1e-10, 1e-12).u[-1]
    found = solve(heat, ring, vector(0.8), 0.5, ps.Rodas5P(linsolve=linsolve), 1e-7, 1e-9).u[-1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("solver", ["Dense", "GMRES", "BCG", "TFQMR"])
@pytest.mark.parametrize("make", [ps.CVODE_BDF, ps.ARKODE], ids=lambda m: m.__name__)
def test_linear_solvers_of_sundials(make, solver):
    assert error(forced, make(linear_solver=solver), reltol=1e-8, abstol=1e-10) < 1e-5


@pytest.mark.parametrize("stiffness", ["Implicit", "Explicit"])
@pytest.mark.parametrize("order", [2, 4, 5])
def test_arkode_has_its_orders(stiffness, order):
    assert error(forced, ps.ARKODE(stiffness=stiffness, order_=order), reltol=1e-8, abstol=1e-10) < 1e-5


def test_the_highest_order_can_be_bounded():
    free, bound = (solve(forced, START, PARAMETERS, END, ps.FBDF(max_order=k), 1e-8, 1e-10) for k in (None, 2))
    assert bound.stats.naccept > 2 * free.stats.naccept
    free, bound = (solve(forced, START, PARAMETERS, END, ps.CVODE_BDF(max_order=k), 1e-8, 1e-10) for k in (None, 2))
    assert bound.stats.naccept > 2 * free.stats.naccept


@pytest.mark.parametrize(
    "alg", [ps.AutoTsit5(ps.Rodas5P()), ps.AutoVern7(ps.Rodas5P()), ps.AutoSwitch(ps.Tsit5(), ps.TRBDF2())],
    ids=lambda a: a.name,
)  # fmt: skip
def test_switching_is_as_cheap_as_it_should_be(alg):
    """A stiff problem takes few steps, and dense output holds on both sides of a switch."""
    ts = np.geomspace(1e-3, 1e4, 15)
    u0, p = vector(1.0, 0.0, 0.0), vector(0.04, 3e7, 1e4)
    found = solve(robertson, u0, p, 1e4, alg, 1e-6, 1e-10, ts=ts)
    expected = solve(robertson, u0, p, 1e4, ps.Rodas5P(), 1e-10, 1e-14, ts=ts)
    np.testing.assert_allclose(found.u, expected.u, rtol=1e-3, atol=1e-7)
    assert found.stats.naccept < 2000


@pytest.mark.parametrize(
    ("n", "reltol", "kind", "name"),
    [
        (3, 1e-6, "", "AutoTsit5(Rosenbrock23)"),
        (3, 1e-7, "", "AutoVern7(Rodas5P)"),
        (51, 1e-6, "", "AutoTsit5(Rosenbrock23)"),
        (501, 1e-7, "sparse", "AutoVern7(KenCarp4)"),
        (501, 1e-6, "", "Tsit5"),
        (63, 1e-6, "network", "AutoTsit5(Rosenbrock23)"),
        (64, 1e-6, "network", "Tsit5"),
        (64, 1e-7, "network", "Vern7"),
        (3, 1e-3, "mass", "Rodas5P"),
        (600, 1e-3, "mass network", "FBDF"),
    ],
)
def test_no_algorithm_is_scimls_choice_but_where_its_jacobian_would_be_huge(n, reltol, kind, name):
    facts = reltol, "mass" in kind, "network" in kind, lambda: "sparse" in kind
    assert resolved(ps.DefaultODEAlgorithm(), n, *facts).name == name
    assert resolved(ps.Tsit5(), n, *facts) == ps.Tsit5()


def test_a_network_over_a_large_batch_has_no_jacobian_in_memory():
    """Of 20,000 states it would have 3 GB; the process may take 1.5 more."""
    out = output("""
        import resource
        import torch, pysciml as ps
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()
        small, large = (torch.randn(k, 2, dtype=torch.float64) for k in (4, 10_000))
        def slopes(u0):
            net.zero_grad()
            prob = ps.ODEProblem(lambda t, u: net(u), u0, (0.0, 1.0))
            sol = ps.solve(prob, saveat=[1.0], reltol=1e-6, engine="julia")
            sol.u.square().mean().backward()
            return sol.stats.alg
        slopes(small)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(slopes(large), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20 < 1.5)
    """)
    assert out.split()[-2:] == ["Tsit5", "True"]


@pytest.mark.parametrize("tolerance", [1e-4, 1e-9])
@pytest.mark.parametrize("n", [8, 60])
def test_the_default_solves(n, tolerance):
    ring = torch.sin(torch.arange(n, dtype=F64)) + 0.3
    ts = [0.1, 0.2, 0.5]
    found = solve(heat, ring, vector(0.8), 0.5, ps.DefaultODEAlgorithm(), tolerance, tolerance, ts=ts).u
    expected = solve(heat, ring, vector(0.8), 0.5, ps.Vern9(), 1e-12, 1e-12, ts=ts).u
    np.testing.assert_allclose(found, expected, atol=100 * tolerance)


def test_any_other_algorithm_of_julia_from_its_text():
    aitken = ps.JuliaAlgorithm("OrdinaryDiffEqExtrapolation.AitkenNeville(max_order = 8)", implicit=False)
    assert error(forced, aitken, reltol=1e-8, abstol=1e-10) < 1e-6
    assert error(forced, ps.JuliaAlgorithm("OrdinaryDiffEqRosenbrock.Rodas4()"), reltol=1e-8, abstol=1e-10) < 1e-6


def test_any_other_algorithm_of_julia_as_an_object():
    julia_session()
    import juliacall

    made = juliacall.Main.seval("import OrdinaryDiffEqTsit5; OrdinaryDiffEqTsit5.Tsit5()")
    assert error(forced, ps.JuliaAlgorithm(made, implicit=False), reltol=1e-8, abstol=1e-10) < 1e-6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NoSuchPackage.Solver()", "NoSuchPackage"),
        ("Tsit5()", "Tsit5"),
        ("OrdinaryDiffEqTsit5.Tsit5(", "arse"),
        ("1 + 1", "no algorithm for ODEs"),
        ("OrdinaryDiffEqTsit5.Tsit5(nonsense = 3)", "nonsense"),
    ],
)
def test_julias_own_words_when_it_cannot_make_one(text, message):
    with pytest.raises(JuliaAlgorithmError, match="Julia could not make") as caught:
        solve(forced, START, PARAMETERS, END, ps.JuliaAlgorithm(text))
    assert message in caught.value.got
