"""What every algorithm says of itself, its options, and what it refuses; nothing here starts an engine."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import pysciml as ps
from pysciml.algorithms import REGISTRY, Algorithm, by_name, check_problem, check_time
from pysciml.algorithms.base import PROBLEMS
from pysciml.algorithms.implicit import LINSOLVES

SELF_CONTAINED = sorted(set(REGISTRY) - {"JuliaAlgorithm"})
ODD = sorted(name for name, alg in REGISTRY.items() if alg.problem != "ode")

every = pytest.mark.parametrize("name", SELF_CONTAINED)


@every
def test_a_name_makes_it_and_two_of_a_kind_are_one(name):
    alg = by_name(name)
    assert type(alg) is REGISTRY[name] is getattr(ps, name)
    assert alg == REGISTRY[name]()
    if name != "TorchDiffEq":  # its options are a dictionary
        assert hash(alg) == hash(REGISTRY[name]())
    assert eval(repr(alg), vars(ps)) == alg  # noqa: S307 - its own repr


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_it_says_when_to_use_it_its_order_and_where_it_was_published(name):
    alg = REGISTRY[name]
    first = alg.__doc__.splitlines()[0]
    assert len(first) > 5
    assert first.endswith((".", "."))
    assert alg.reference or name == "JuliaAlgorithm"
    assert alg.package in alg.__doc__
    assert alg.order >= 0
    assert alg.problem in PROBLEMS


def test_docstrings_of_a_family_carry_its_options():
    for alg in REGISTRY.values():
        for field in dataclasses.fields(alg):
            assert field.name in alg.__doc__, f"{alg.__name__} does not explain {field.name}"


def test_stiff_traits_go_together():
    for alg in REGISTRY.values():
        if alg.dae:
            assert alg.stiff or alg.__name__ == "JuliaAlgorithm"
        if alg.autonomous:
            assert alg.package.startswith("OrdinaryDiffEq")


def test_a_trait_that_does_not_exist_is_a_mistake():
    with pytest.raises(TypeError, match="no trait 'ordre'"):
        type("Wrong", (Algorithm,), {}, ordre=3)
    assert "Wrong" not in REGISTRY


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ps.Rodas5P(linsolve="LU"), "does not know that linsolve"),
        (lambda: ps.FBDF(max_order=6), "has orders 1 to 5"),
        (lambda: ps.FBDF(linsolve="KLU"), "does not know that linsolve"),
        (lambda: ps.CVODE_Adams(max_order=13), "has orders 1 to 12"),
        (lambda: ps.CVODE_BDF(method="newton"), "does not know that method"),
        (lambda: ps.CVODE_BDF(linear_solver="dense"), "does not know that linear_solver"),
        (lambda: ps.ROCK4(min_stages=5, max_stages=4), "between 1 and 200 stages"),
        (lambda: ps.ARKODE(order_=6), "orders 2 to 5"),
        (lambda: ps.ARKODE(stiffness="Stiff"), "does not know that stiffness"),
        (lambda: ps.AutoTsit5(ps.Vern7()), "must be one for stiff problems"),
        (lambda: ps.AutoTsit5(ps.CVODE_BDF()), "adaptive algorithms of OrdinaryDiffEq"),
        (lambda: ps.AutoTsit5("Rodas5P"), "adaptive algorithms of OrdinaryDiffEq"),
        (lambda: ps.AutoTsit5(ps.ImplicitMidpoint()), "adaptive algorithms of OrdinaryDiffEq"),
        (lambda: ps.AutoSwitch(ps.AutoTsit5(), ps.Rodas5P()), "adaptive algorithms of OrdinaryDiffEq"),
        (lambda: ps.JuliaAlgorithm(), "an algorithm of Julia"),
        (lambda: ps.JuliaAlgorithm(" "), "an algorithm of Julia"),
        (lambda: ps.JuliaAlgorithm(ps.Tsit5()), "an algorithm of Julia"),
    ],
)
def test_options_that_cannot_be_are_refused_with_a_way_out(make, message):
    with pytest.raises(ps.InvalidInputError, match=message) as caught:
        make()
    assert caught.value.fix
    assert caught.value.got


@pytest.mark.parametrize("alg", [ps.FBDF(), ps.QNDF()], ids=lambda a: a.name)
def test_a_multistep_method_is_not_switched_to(alg):
    with pytest.raises(ps.UnsupportedError, match="without its history"):
        ps.AutoVern7(alg)


def test_a_method_of_unknown_stability_is_not_switched_from():
    with pytest.raises(ps.UnsupportedError, match="BS3 cannot tell when a problem is stiff") as caught:
        ps.AutoSwitch(ps.BS3(), ps.TRBDF2())
    assert "AutoSwitch(pysciml.Tsit5()" in caught.value.fix


def test_options_that_can_be():
    assert ps.FBDF(max_order=2).max_order == 2
    assert all(ps.KenCarp4(linsolve=name).linsolve == name for name in LINSOLVES)
    assert ps.ARKODE(stiffness="Explicit", order_=8).order_ == 8
    assert ps.AutoVern7(ps.Rodas5P()).name == "AutoVern7(Rodas5P)"
    assert ps.AutoSwitch(ps.DP5(), ps.TRBDF2()).name == "AutoSwitch(DP5, TRBDF2)"
    assert ps.JuliaAlgorithm("A.B()", stiff=True).name == "JuliaAlgorithm(A.B())"
    assert ps.JuliaAlgorithm("A.B()", stiff=True).stiff


def prob() -> ps.ODEProblem:
    return ps.ODEProblem(lambda t, u: -u, torch.ones(2, dtype=torch.float64), (0.0, 1.0))


@pytest.mark.parametrize("name", ODD)
def test_what_takes_another_problem_says_which(name):
    alg = REGISTRY[name]()
    with pytest.raises(ps.UnsupportedError, match="cannot solve an ODEProblem") as caught:
        check_problem(alg)
    assert "Problem" in caught.value.got
    instead = caught.value.fix.split("pysciml.")[-1].rstrip("()")
    assert REGISTRY[instead].problem == "ode"
    with pytest.raises(ps.UnsupportedError, match="cannot solve an ODEProblem"):
        ps.solve(prob(), alg, engine="embedded")


def test_the_embedded_engine_names_what_it_has_instead():
    with pytest.raises(ps.UnsupportedError, match="`KenCarp47` is not available in the embedded engine"):
        ps.solve(prob(), ps.KenCarp47(), engine="embedded")


@pytest.mark.parametrize("alg", [ps.Kvaerno5(), ps.Exprb43(), ps.RKL2()], ids=lambda a: a.name)
def test_methods_that_mistake_the_time_are_refused_only_where_f_depends_on_it(alg):
    check_time(alg, depends_on_time=False)
    with pytest.raises(ps.UnsupportedError, match="loses its order where f depends on t"):
        check_time(alg, depends_on_time=True)


def test_capabilities_has_a_row_for_each_and_says_what_julia_has():
    rows = {row["algorithm"]: row for row in ps.capabilities()}
    assert rows.keys() == REGISTRY.keys()
    assert rows["Rodas5P"]["julia engine"] == "OrdinaryDiffEqRosenbrock"
    assert rows["Rodas5P"]["route"] == "compiled, callback, Julia"
    assert "Quadrature-" in rows["Rodas5P"]["gradients"]
    assert rows["KahanLi8"]["route"] == "compiled, callback"
    assert rows["TorchDiffEq"]["julia engine"] == "no"
    assert rows["IDA"]["julia engine"] == "Sundials"
    assert rows["KahanLi8"]["julia engine"] == "OrdinaryDiffEqSymplecticRK"
