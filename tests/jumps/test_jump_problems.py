"""What a jump process may be given, and what is refused before there is an engine."""

from __future__ import annotations

import pytest
import torch
from jump_cases import DIMERS, dimer_rates, dimerization, immigration, immigration_by_mass_action, number

import pysciml as ps
from pysciml.jumps.network import prepare


def rates(t, u):
    return torch.stack([number(1.0), u[0]])


def problem(**changes) -> ps.JumpProblem:
    fields = {"rates": rates, "changes": [[1], [-1]], "u0": number([3.0]), "tspan": (0.0, 1.0)} | changes
    return ps.JumpProblem(**fields)


def mass_action(reactants=((0,), (1,)), constants=(1.0, 2.0)) -> ps.MassAction:
    return ps.MassAction(reactants, number(constants) if isinstance(constants, tuple) else constants)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: problem(rates=3), "rates must be callable"),
        (lambda: problem(u0=number(3.0)), "a vector"),
        (lambda: problem(u0=number([[3.0]])), "a vector"),
        (lambda: problem(u0=torch.tensor([3.0], dtype=torch.float16)), "finite numbers"),
        (lambda: problem(u0=number([float("nan")])), "finite numbers"),
        (lambda: problem(u0=torch.tensor([True])), "finite numbers"),
        (lambda: problem(changes=[1, -1]), "a row for each channel"),
        (lambda: problem(changes=[[1, 0], [-1, 0]]), "a row for each channel"),
        (lambda: problem(changes=[[float("inf")], [1.0]]), "a row for each channel"),
        (lambda: problem(u0=torch.tensor([3]), changes=[[0.5], [-1.0]]), "whole numbers"),
        (lambda: problem(tspan=(1.0, 0.0)), "solved forwards"),
        (lambda: problem(p=torch.tensor([1])), "`p` must be float32 or float64"),
        (lambda: problem().remake(f=rates), "has no field 'f'"),
        (lambda: mass_action(((0.5,), (1,))), "whole numbers"),
        (lambda: mass_action(((-1,), (1,))), "none negative"),
        (lambda: mass_action((0, 1)), "a row for each reaction"),
        (lambda: mass_action(constants=(1.0,)), "one constant for each"),
        (lambda: mass_action(constants=(1.0, -1.0)), "none negative"),
        (lambda: mass_action(constants=(1.0, float("nan"))), "finite"),
        (lambda: problem(rates=mass_action(((0, 0), (1, 0)))), "tables of one shape"),
        (lambda: problem(rates=mass_action(), u0=number([0.5])), "one of counts"),
        (lambda: problem(rates=mass_action(), u0=number([-1.0])), "one of counts"),
        (lambda: mass_action(constants=lambda p: p)(0.0, number([1.0]), number([1.0])),
         "one constant for each"),
        (lambda: prepare(problem(rates=lambda t, u: u), None), "one rate for each row of changes"),
        (lambda: ps.EnsembleProblem(problem()), "what its members differ in"),
        (lambda: ps.EnsembleProblem(problem(), u0=number([3.0, 4.0])), "one more dimension"),
        (lambda: ps.solve(problem(), 3), "an algorithm or its name"),
        (lambda: ps.solve(problem(), dt=-1.0), "dt must be a positive number"),
        (lambda: ps.solve(problem(), maxiters=0), "maxiters must be a positive number"),
        (lambda: ps.solve(problem(), ps.SimpleTauLeaping()), "needs dt"),
        (lambda: ps.SimpleExplicitTauLeaping(epsilon=1.5), "a share of the rates"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(make, message):
    with pytest.raises(ps.InvalidInputError, match=message) as caught:
        make()
    assert caught.value.got


NEEDS_GRAD = number([1.0, 2.0]).requires_grad_()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: problem(rates=ps.JuliaFunction("(du, u, p, t) -> nothing")), "a torch function or module"),
        (lambda: ps.solve(problem(), engine="embedded"), "no library for jump processes"),
        (lambda: ps.solve_ensemble(ps.EnsembleProblem(problem(), trajectories=3), engine="embedded"), "no library for"),
        (lambda: ps.solve(problem(), ps.Tsit5()), "`Tsit5` cannot solve a JumpProblem"),
        (lambda: ps.solve(problem(), "SOSRI"), "`SOSRI` cannot solve a JumpProblem"),
        (lambda: ps.solve(problem(), ps.RSSA()), "`RSSA` needs bounds on rates"),
        (lambda: ps.solve(problem(), ps.RSSACR()), "`RSSACR` needs bounds on rates"),
        (lambda: ps.solve(problem(), ps.SimpleExplicitTauLeaping()), "needs bounds on rates"),
        (lambda: ps.solve(problem(), ps.Direct(), dt=0.1), "`Direct` takes no `dt`"),
        (lambda: ps.solve(problem(), ps.Direct(), reltol=0.1), "takes no `reltol`"),
        (lambda: ps.solve(problem(), abstol=0.1), "the solve of a JumpProblem takes no `abstol`"),
        (lambda: ps.solve(problem(), noise=3), "takes no `noise`"),
        (lambda: ps.solve_ensemble(ps.EnsembleProblem(problem(), trajectories=3), abstol=0.1), "takes no `abstol`"),
        (lambda: ps.solve_ensemble(ps.EnsembleProblem(problem(), trajectories=3), executor="processes"), "on threads"),
        (lambda: ps.solve(problem(), saveat=number([0.5]).requires_grad_()), "no derivative in time"),
        (lambda: torch.func.vmap(lambda p: ps.solve(problem(p=p, rates=lambda t, u, p: p * u)).u)(number([[1.0, 2.0]])),
         "not transformed by torch.func"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_says_what_can(make, message):
    with pytest.raises(ps.UnsupportedError, match=message) as caught:
        make()
    assert caught.value.fix


def test_mass_action_counts_the_ways_to_meet():
    rates = ps.MassAction([[0, 0], [1, 1], [2, 0], [3, 1]], number([5.0, 2.0, 3.0, 1.0]))
    assert rates(0.0, number([4.0, 2.0])).tolist() == [5.0, 2.0 * 8, 3.0 * 6, 4.0 * 2]
    assert rates(0.0, number([1.0, 0.0])).tolist() == [5.0, 0.0, 0.0, 0.0]
    assert "4 reactions of 2 states" in repr(rates)
    assert torch.allclose(DIMERS(0.0, number([30.0, 4.0])), dimer_rates(number(0.0), number([30.0, 4.0])))


def test_the_rates_tell_what_they_depend_on():
    found = prepare(immigration(), None)
    assert found.depends.tolist() == [[0], [1]]
    assert not found.timed
    assert prepare(immigration(), "callback").depends.tolist() == [[1], [1]]
    assert prepare(dimerization(dimer_rates), None).depends.tolist() == [[1, 0], [0, 1]]
    assert prepare(dimerization(), None).depends.tolist() == [[1, 0], [0, 1]]
    assert prepare(immigration_by_mass_action(), None).depends.tolist() == [[0], [1]]
    timed = problem(rates=lambda t, u: torch.stack([torch.exp(t), u[0]]))
    assert prepare(timed, None).timed
    assert prepare(timed, "callback").timed


def test_rates_that_cannot_be_compiled_are_called_back_with_a_warning():
    branching = problem(rates=lambda t, u: torch.stack([u[0], u[0]]) if u[0].item() > 2 else rates(t, u))
    with pytest.warns(ps.PySciMLWarning, match="the rates cannot be compiled"):
        assert prepare(branching, None).rates is not None
    with pytest.raises(ps.TraceError):
        prepare(branching, "compiled")


def test_an_ensemble_differs_in_counts_parameters_or_chance():
    many = ps.EnsembleProblem(immigration(), trajectories=5)
    assert len(many) == 5
    counts = ps.EnsembleProblem(problem(u0=torch.tensor([3])), u0=torch.tensor([[3], [4]]))
    assert counts.member(1).u0.tolist() == [4]
    assert len(ps.EnsembleProblem(immigration(), p=number([[1.0, 2.0], [3.0, 4.0]]))) == 2
    assert "differing in noise" in repr(many)
