"""Formulas of symbolic regression from tables such as PySR's: read, evaluated, written, fitted again. Without Julia."""

from __future__ import annotations

import math
import pickle

import pytest
import sympy
import torch

import pysciml as ps
from pysciml.discovery.expression import known_operators, read
from pysciml.discovery.operators import OPERATORS, SAME
from pysciml.discovery.symbolic_law import Formula, SymbolicLaw, front_of, selected, value_at

F64 = torch.float64
T = torch.linspace(0.0, 6.0, 121, dtype=F64)
STATES = torch.stack([2 + torch.sin(T), 2 + torch.cos(2 * T)], dim=1)
X, Y = STATES.unbind(1)
NAMES = ("x", "y")
TABLE = [
    {"complexity": 1, "loss": 3.0, "score": 0.0, "equation": "-4.0"},
    {"complexity": 3, "loss": 0.5, "score": 0.9, "equation": "-0.9 * x0"},
    {"complexity": 5, "loss": 1e-3, "score": 3.1, "equation": "(x1 * -1.02) * x0"},
    {"complexity": 9, "loss": 9e-4, "score": 0.03, "equation": "((x1 * -1.01) * x0) + (0.001 / x1)"},
]
SECOND = [{"complexity": 4, "loss": 1e-9, "score": 5.0, "equation": "square(x0) / (x1 + 0.9)"}]


def law(*tables, targets=("dx", "dy"), values=None, functions=None):
    own = functions or {}
    values = [X * Y, X**2] if values is None else values
    fronts = tuple(front_of(t, ("x0", "x1"), own, STATES, v) for t, v in zip(tables, values, strict=False))
    return SymbolicLaw(NAMES, targets[: len(tables)], fronts, tuple(selected(f, "best") for f in fronts), own)


def evaluated(text, states=STATES, own=None):
    return value_at(read(text, ("x0", "x1"), own or {}), states, own or {})


EQUATIONS = {
    "x0 * (x1 - 0.5)": X * (Y - 0.5),
    "x0 ^ 2.0 - -x1 ^ 3": X**2 + Y**3,
    "x0 ^ -1.5e0 / 2.0e-1": X**-1.5 / 0.2,
    "(x0 - 3.0) ^ 2.0": (X - 3) ** 2,
    "2.0 ^ x0": 2.0**X,
    "-(x0 + x1) / (x0 / x1)": -(X + Y) / (X / Y),
    "x0 - (x1 - 1.0 - x0)": X - (Y - 1 - X),
    "cos(0.5) * 3.0": math.cos(0.5) * 3 + 0 * X,
    "exp(-x0) + sqrt(square(x1))": torch.exp(-X) + Y,
    "max(x0, 2.0) + min(1.5, x1)": X.clamp(min=2) + Y.clamp(max=1.5),
    "(x0 > x1) * cond(x0 - 2.0, x1)": (X > Y) * torch.where(X > 2, Y, 0),
    "log1p(x0) + cbrt(neg(x1)) + mod(x0, 0.7)": torch.log1p(X) - Y ** (1 / 3) + X % 0.7,
}


@pytest.mark.parametrize("text", EQUATIONS)
def test_equations_are_read_as_julia_means_them(text):
    torch.testing.assert_close(evaluated(text), EQUATIONS[text])


@pytest.mark.parametrize("text", EQUATIONS)
def test_what_is_written_reads_as_the_same(text):
    expression = read(text, ("x0", "x1"))
    written = expression.text(("x0", "x1"))
    torch.testing.assert_close(evaluated(written), EQUATIONS[text], rtol=1e-3, atol=1e-9)
    assert read(written, ("x0", "x1")).text(("x0", "x1")) == written


@pytest.mark.parametrize("text", EQUATIONS)
def test_sympy_computes_what_torch_does(text):
    formula = read(text, ("x0", "x1")).sympy(NAMES, None, {})
    f = sympy.lambdify(sympy.symbols("x y"), formula, "math")
    found = torch.tensor([float(f(*row)) for row in STATES[::10].tolist()], dtype=F64)
    torch.testing.assert_close(found, EQUATIONS[text][::10])


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_is_the_same_in_torch_and_in_sympy(name):
    binary = OPERATORS[name].torch.__code__.co_argcount == 2 if hasattr(OPERATORS[name].torch, "__code__") else (
        name in ("max", "min", "mod")
    )  # fmt: skip
    infix = name in "+-*/^"
    low = 1.1 if name == "acosh" else 0.1
    x = torch.linspace(low, low + 0.7, 15, dtype=F64)
    states = torch.stack([x, x.flip(0) + 0.01], dim=1)
    text = f"x0 {name} x1" if infix else f"{name}(x0, x1)" if binary else f"{name}(x0)"
    expression = read(text, ("x0", "x1"))
    ours = value_at(expression, states, {})
    f = expression.sympy(NAMES, None, {})
    theirs = [float(f.subs({"x": a, "y": b}).evalf()) for a, b in states.tolist()]
    torch.testing.assert_close(ours, torch.tensor(theirs, dtype=F64), rtol=1e-10, atol=1e-12)


def test_numbers_keep_their_places_and_whole_exponents_are_none():
    expression = read("0.5 * x0 ^ 2.0 + -3.0 * x1 ^ 0.5 - 7.0", ("x0", "x1"))
    assert expression.constants == (0.5, -3.0, 0.5, 7.0)
    assert expression.text(NAMES) == "0.5 * x ^ 2 + -3 * y ^ 0.5 - 7"
    assert read("(x0 + -0.5) - -2.0", ("x0", "x1")).text(NAMES) == "x - 0.5 + 2"


@pytest.mark.parametrize("text", ["gamma(x0)", "x0 @ x1", "x2 + 1.0", "x0 *", "[x0]", "x0.real", "__import__('os')"])
def test_what_is_not_known_is_refused(text):
    with pytest.raises(ps.UnsupportedError, match=r"no operator that is known in torch[\s\S]*functions="):
        read(text, ("x0", "x1"))


def test_operators_are_checked_before_a_search():
    known_operators(("+", "^", "pow", "greater"), ("exp", "mine(x) = x + 1"), {"mine": lambda x: x + 1})
    assert set(SAME.values()) <= set(OPERATORS)
    with pytest.raises(ps.UnsupportedError, match=r"`gamma` is no operator[\s\S]*\"gamma\": lambda x"):
        known_operators(("+",), ("gamma",), {})
    with pytest.raises(ps.UnsupportedError, match="`hill`"):
        known_operators(("+",), ("hill(x) = x / (1 + x)",), {})


def test_the_best_formula_is_chosen_by_pysrs_rules():
    front = law(TABLE).fronts[0]
    assert [selected(front, rule) for rule in ("best", "accuracy", "score")] == [2, 3, 2]
    assert selected(front, "best", rounding=1.0) == 2
    exact = [Formula(5, 3.7e-32, 36.0, 1.0, front[0].expression), Formula(9, 2.2e-32, 0.1, 1.0, front[0].expression)]
    assert selected(tuple(exact), "best") == 1  # a rule for noisy data, that rounding decides here
    assert selected(tuple(exact), "best", rounding=1e-28) == 0
    unscored = front_of([{k: v for k, v in row.items() if k != "score"} for row in TABLE], ("x0", "x1"), {}, STATES, X)
    assert selected(unscored, "best") == 3


def test_pysrs_own_tables_make_a_law():
    outputs = torch.stack([-X * Y, X**2 / (Y + 1)], dim=1)
    found = SymbolicLaw.from_tables([TABLE, SECOND], STATES, outputs, names=NAMES, targets=("dx", "dy"))
    assert found.equations == law(TABLE, SECOND).equations
    renamed = [{**row, "equation": row["equation"].replace("x0", "prey").replace("x1", "fox")} for row in TABLE]
    one = SymbolicLaw.from_tables(renamed, STATES, outputs[:, 0], variables=("prey", "fox"), model_selection="accuracy")
    assert one.equations == ["y0 = x1 * -1.01 * x0 + 0.001 / x1"]
    with pytest.raises(ps.InvalidInputError, match=r"tables of \[4\] rows for 2 targets"):
        SymbolicLaw.from_tables(TABLE, STATES, outputs)
    with pytest.raises(ps.InvalidInputError, match="a row at least"):
        SymbolicLaw.from_tables([[], TABLE], STATES, outputs)


def test_pandas_tables_as_pysr_has_them():
    pandas = pytest.importorskip("pandas")
    found = SymbolicLaw.from_tables(pandas.DataFrame(TABLE), STATES, -X * Y, names=NAMES)
    assert found.equations == ["y0 = y * -1.02 * x"]


def test_a_law_shows_itself_and_another_formula_is_chosen():
    found = law(TABLE, SECOND)
    assert found.equations == ["dx = y * -1.02 * x", "dy = square(x) / (y + 0.9)"]
    starred = [line.split() for line in repr(found).splitlines() if line.startswith(" *")]
    assert [row[1:5] for row in starred] == [["dx", "5", "0.001", "3.1"], ["dy", "4", "1e-09", "5"]]
    assert "takes another" in repr(found)
    assert "<td style='text-align:left'>-0.9 * x</td>" in found._repr_html_()
    other = found.choose("dx", complexity=3)
    assert other.equations == ["dx = -0.9 * x", "dy = square(x) / (y + 0.9)"]
    assert found.equations[0] == "dx = y * -1.02 * x"
    assert [f.complexity for f in other.formulas] == [3, 4]
    with pytest.raises(ps.InvalidInputError, match=r"complexity=4[\s\S]*1, 3, 5, 9"):
        found.choose(0, complexity=4)
    with pytest.raises(ps.InvalidInputError, match="no such target"):
        found.choose("dz", complexity=3)


def test_values_and_the_share_that_is_explained():
    found = law(TABLE, SECOND)
    expected = torch.stack([-1.02 * X * Y, X**2 / (Y + 0.9)], dim=1)
    torch.testing.assert_close(found(STATES), expected)
    assert found(STATES[0]).shape == (2,)
    assert found(STATES.float()).dtype is torch.float32
    residual = (expected[:, 1] - X**2).square().mean() / (X**2).var(correction=0)
    assert float(found.r2[1]) == pytest.approx(1 - float(residual))
    constant = law(TABLE).choose("dx", complexity=1)
    torch.testing.assert_close(constant(STATES), torch.full((121, 1), -4.0, dtype=F64))


def test_sympy_and_latex():
    found, (x, y) = law(TABLE, SECOND, targets=("dx/dt", "dy/dt")), sympy.symbols("x y")
    assert sympy.simplify(found.sympy()["dx/dt"] + sympy.Float("1.02") * x * y) == 0
    assert found.latex(2) == (
        "\\begin{aligned}\n"
        "\\frac{dx}{dt} &= - 1.0 x y \\\\\n"
        "\\frac{dy}{dt} &= \\frac{x^{2}}{y + 0.9}\n"
        "\\end{aligned}"
    )  # fmt: skip


def test_operators_of_ones_own():
    def hill(x):
        return x / (1 + x)

    table = [{"complexity": 2, "loss": 0.0, "score": 1.0, "equation": "hill(x0) * 2.0"}]
    found = law(table, functions={"hill": hill})
    torch.testing.assert_close(found(STATES)[:, 0], 2 * X / (1 + X))
    x = sympy.Symbol("x")
    assert sympy.simplify(found.sympy()["dx"] - 2 * x / (1 + x)) == 0
    opaque = law(table, functions={"hill": torch.tanh})
    assert opaque.sympy(2)["dx"] == sympy.Float(2.0, 2) * sympy.Function("hill")(x)
    assert opaque.module()(STATES).shape == (121, 1)


def test_states_may_be_called_as_in_no_programming_language():
    table = [{"complexity": 3, "loss": 0.0, "score": 1.0, "equation": "x0 * x1"}]
    front = front_of(table, ("x0", "x1"), {}, STATES, X * Y)
    found = SymbolicLaw(("S", "u[1]"), ("dS/dt",), (front,), (0,))
    assert found.equations == ["dS/dt = S * u[1]"]
    assert {str(s) for s in found.sympy()["dS/dt"].free_symbols} == {"S", "u[1]"}


def test_laws_and_modules_are_pickled():
    found = law(TABLE, SECOND)
    again, module = pickle.loads(pickle.dumps((found, found.module())))  # noqa: S301 - our own bytes
    torch.testing.assert_close(again(STATES), found(STATES), rtol=0, atol=0)
    torch.testing.assert_close(module(STATES), found.module()(STATES), rtol=0, atol=0)
    assert again.equations == found.equations


def test_a_module_has_the_constants_of_all_formulas_as_one_parameter():
    module = law(TABLE, SECOND).module()
    assert module.constants.tolist() == [-1.02, 0.9]
    torch.testing.assert_close(module(STATES), law(TABLE, SECOND)(STATES))
    assert torch.autograd.gradcheck(module, STATES[:3].clone().requires_grad_())
    with torch.no_grad():
        module.constants.copy_(torch.tensor([-1.0, 1.0]))
    assert module.equations == ["dx = y * -1 * x", "dy = square(x) / (y + 1)"]
    assert "dy = square(x) / (y + 1)" in repr(module)
    assert law(TABLE).module(torch.float32)(STATES.float()).dtype is torch.float32
    plain = law([{"complexity": 3, "loss": 0.0, "score": 1.0, "equation": "x0 * x1"}]).module()
    assert list(plain.parameters()) == []
    torch.testing.assert_close(plain(STATES)[:, 0], X * Y)


def test_a_formula_that_is_a_little_off_is_fitted_again_in_the_place_of_the_network():
    class Equation(torch.nn.Module):
        def __init__(self, interaction):
            super().__init__()
            self.interaction = interaction

        def forward(self, t, u):
            return torch.stack([1.5 * u[0], -3.0 * u[1]]) + self.interaction(u)

    rough = law(TABLE, [{"complexity": 3, "loss": 1e-3, "score": 1.0, "equation": "x0 / (1.1 / x1)"}])
    module = rough.module()
    u0 = torch.tensor([1.0, 1.0], dtype=F64)
    exact = ps.ODEProblem(lambda t, u: torch.stack([1.5 * u[0] - u[0] * u[1], u[0] * u[1] - 3 * u[1]]), u0, (0.0, 6.0))
    data = ps.solve(exact, saveat=T, reltol=1e-9, abstol=1e-9).u
    prob = ps.ODEProblem(Equation(module), u0, (0.0, 6.0))
    assert ps.solve(prob, "CVODE_BDF", route="compiled", saveat=T).u.shape == (121, 2)
    ps.fit(prob, data, T, stages=("LBFGS", 60), progress="off", reltol=1e-9, abstol=1e-9)
    torch.testing.assert_close(module.constants.detach(), torch.tensor([-1.0, 1.0], dtype=F64), rtol=1e-5, atol=0)
    assert module.equations == ["dx = y * -1 * x", "dy = x / (1 / y)"]


def test_a_law_itself_stands_in_f():
    formulas = law(TABLE, SECOND)
    prob = ps.ODEProblem(lambda t, u: formulas(u), torch.ones(2, dtype=F64), (0.0, 0.5))
    exact = ps.ODEProblem(lambda t, u: torch.stack([-1.02 * u[0] * u[1], u[0] ** 2 / (u[1] + 0.9)]),
                          torch.ones(2, dtype=F64), (0.0, 0.5))  # fmt: skip
    found, true = (ps.solve(p, "CVODE_BDF", saveat=[0.5], route="compiled").u for p in (prob, exact))
    torch.testing.assert_close(found, true, rtol=1e-6, atol=1e-8)
