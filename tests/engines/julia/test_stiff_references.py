"""Published reference solutions of stiff problems, reached through the public call."""

from __future__ import annotations

import pytest
from stiff_references import STIFF, StiffProblem, relative_error

import pysciml as ps

pytestmark = pytest.mark.julia

problems = pytest.mark.parametrize("problem", STIFF, ids=lambda p: p.name)
TIGHT, LOOSE = (1e-8, 1e-12), (1e-6, 1e-10)


def error(problem: StiffProblem, alg, tolerances: tuple[float, float]) -> float:
    prob = ps.ODEProblem(problem.f, problem.u0, (0.0, problem.end), problem.p)
    reltol, abstol = tolerances
    sol = ps.solve(prob, alg, reltol=reltol, abstol=abstol, engine="julia")
    return relative_error(problem, sol.u[-1])


@problems
@pytest.mark.parametrize(
    ("alg", "tolerances", "bound"),
    [
        pytest.param(ps.Rodas5P(), TIGHT, 1e-6, id="Rodas5P"),
        pytest.param(ps.RadauIIA5(), TIGHT, 1e-5, id="RadauIIA5", marks=pytest.mark.exhaustive),
        pytest.param(ps.KenCarp47(), TIGHT, 1e-4, id="KenCarp47", marks=pytest.mark.exhaustive),
        pytest.param(ps.FBDF(), TIGHT, 1e-4, id="FBDF"),
        pytest.param(ps.QNDF(), TIGHT, 1e-4, id="QNDF", marks=pytest.mark.exhaustive),
        pytest.param(ps.CVODE_BDF(), TIGHT, 1e-5, id="CVODE_BDF"),
        pytest.param(ps.TRBDF2(), LOOSE, 1e-2, id="TRBDF2", marks=pytest.mark.exhaustive),
        pytest.param(ps.AutoTsit5(ps.Rosenbrock23()), LOOSE, 5e-3, id="AutoTsit5"),
        pytest.param(None, TIGHT, 1e-5, id="default"),
    ],
)
def test_solvers_reach_the_published_solution(problem, alg, tolerances, bound):
    assert error(problem, alg, tolerances) < bound


@problems
def test_the_published_solution_is_right_to_its_digits(problem):
    """A reference that was mistyped would be met by no solver at tight tolerances."""
    assert error(problem, ps.Rodas5P(), (1e-12, 1e-16)) < 1e-7
