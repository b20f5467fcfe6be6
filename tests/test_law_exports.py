"""A law as SymPy expressions, as LaTeX, and as a right-hand side that is fitted again."""

from __future__ import annotations

import pytest
import sympy
import torch

import pysciml as ps
from pysciml.discovery import discover

F64 = torch.float64
T = torch.linspace(0.0, 6.0, 121, dtype=F64)
STATES = torch.stack([2 + torch.sin(T), 2 + torch.cos(2 * T)], dim=1)
PRODUCT = STATES[:, 0] * STATES[:, 1]


def law(outputs, targets=("dx", "dy"), **options):
    return discover(STATES, outputs, names=("x", "y"), targets=targets, bootstraps=5, **options)


def both():
    return law(torch.stack([0.5 * STATES[:, 0] - 0.3 * PRODUCT, 0.25 * PRODUCT - 1.5 * STATES[:, 1] ** 2], dim=1))


def test_polynomials_as_sympy():
    x, y = sympy.symbols("x y")
    found = both().sympy(digits=6)
    assert sympy.expand(found["dx"] - (0.5 * x - 0.3 * x * y)).subs({x: 2, y: 3}) == pytest.approx(0, abs=1e-6)
    assert sympy.expand(found["dy"] - (0.25 * x * y - 1.5 * y**2)).subs({x: 2, y: 3}) == pytest.approx(0, abs=1e-5)
    assert found["dx"].free_symbols == {x, y}


def test_functions_by_their_names_and_pysindys_own_library():
    import pysindy

    x, y = sympy.symbols("x y")
    library = {"x / (1 + y)": lambda x, y: x / (1 + y), "sin(x)": lambda x, y: torch.sin(x), "y": lambda x, y: y}
    found = law(2.0 * STATES[:, 0] / (1 + STATES[:, 1]), ("dx",), library=library).sympy(digits=3)["dx"]
    assert sympy.simplify(found - 2.0 * x / (1 + y)) == 0
    theirs = law(0.5 * PRODUCT, ("dx",), library=pysindy.PolynomialLibrary(degree=2)).sympy(digits=3)["dx"]
    assert sympy.simplify(theirs - 0.5 * x * y) == 0


def test_latex():
    assert both().latex(2) == (
        "\\begin{aligned}\n"
        "dx &= - 0.3 x y + 0.5 x \\\\\n"
        "dy &= 0.25 x y - 1.5 y^{2}\n"
        "\\end{aligned}"
    )  # fmt: skip
    assert law(0.5 * PRODUCT, ("dx/dt",)).latex(2) == r"\frac{dx}{dt} = 0.5 x y"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("interaction", "a formula of x, y"), ("x + y", "what the term computes"), ("x *", "a formula"),
     ("x.__class__", "a formula"), ("[x]", "a formula")],
)  # fmt: skip
def test_a_name_that_is_no_formula_of_the_term_is_refused(name, reason):
    found = law(0.5 * PRODUCT, ("dx",), library={name: lambda x, y: x * y})
    with pytest.raises(ps.UnsupportedError, match=rf"its name is not {reason}[\s\S]*sin\(x\)"):
        found.sympy()


def test_a_law_is_fitted_again_in_the_place_of_the_network():
    """The coefficients of a law that is a little off end at those of the data."""

    class Equation(torch.nn.Module):
        def __init__(self, interaction):
            super().__init__()
            self.interaction = interaction

        def forward(self, t, u):
            return torch.stack([1.5 * u[0], -3.0 * u[1]]) + self.interaction(u)

    rough = law(torch.stack([-1.1 * PRODUCT, 0.9 * PRODUCT], dim=1))
    module = rough.module()
    assert module.names == ["dx: x y", "dy: x y"]
    torch.testing.assert_close(module(STATES), rough(STATES))
    u0 = torch.tensor([1.0, 1.0], dtype=F64)
    exact = ps.ODEProblem(lambda t, u: torch.stack([1.5 * u[0] - u[0] * u[1], u[0] * u[1] - 3 * u[1]]), u0, (0.0, 6.0))
    data = ps.solve(exact, saveat=T, reltol=1e-9, abstol=1e-9).u
    prob = ps.ODEProblem(Equation(module), u0, (0.0, 6.0))
    ps.fit(prob, data, T, stages=("LBFGS", 60), progress="off", reltol=1e-9, abstol=1e-9)
    torch.testing.assert_close(module.coefficients.detach(), torch.tensor([-1.0, 1.0], dtype=F64), rtol=1e-5, atol=0)
    assert "dx: x y = -1" in repr(module)


def test_a_module_of_a_law_with_different_terms_for_each_target():
    found = both()
    module = found.module(torch.float32)
    assert module.coefficients.dtype is torch.float32
    assert len(module.names) == 4
    torch.testing.assert_close(module(STATES.float()), found(STATES).float(), rtol=1e-5, atol=1e-5)
