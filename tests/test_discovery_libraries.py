"""pysindy's feature libraries in torch: pysindy's values, torch's derivatives, in a solve and as mathematics."""

from __future__ import annotations

import pickle

import numpy as np
import pysindy
import pytest
import sympy
import torch
from finite_differences import gradient

import pysciml as ps
from pysciml.discovery.library import make_library

F64 = torch.float64
T = torch.linspace(0, 9, 150, dtype=F64)
STATES = torch.stack([2 + torch.sin(T), 2 + torch.cos(1.7 * T)], dim=1)
X, Y = STATES.unbind(1)


def polynomial(**options):
    return pysindy.PolynomialLibrary(**options)


def waves(**options):
    return pysindy.FourierLibrary(**options)


def numpys():
    return pysindy.CustomLibrary(
        [lambda x: np.exp(-x) + 2 * np.tanh(x) ** 2, lambda x, y: np.arctan2(x, 1 + y) / np.sqrt(y)],
        [lambda x: f"f({x})", lambda x, y: f"g({x}, {y})"],
    )


def torchs():
    return pysindy.CustomLibrary(
        [lambda x: torch.exp(-x), lambda x, y: x / (1 + y)],
        [lambda x: f"exp(-{x})", lambda x, y: f"{x} / (1 + {y})"],
        interaction_only=False, include_bias=True,
    )  # fmt: skip


def opaque():
    """A function without derivatives."""
    return pysindy.CustomLibrary([lambda x: np.interp(x, [0.0, 5.0], [0.0, 1.0])], [lambda x: f"table({x})"])


KNOWN = {
    "polynomial": lambda: polynomial(degree=3),
    "powers alone": lambda: polynomial(degree=3, include_interaction=False, include_bias=False),
    "products alone": lambda: polynomial(degree=2, interaction_only=True),
    "waves": lambda: waves(n_frequencies=2),
    "cosines": lambda: waves(n_frequencies=2, include_sin=False),
    "NumPy's functions": numpys,
    "sum": lambda: polynomial(degree=1) + waves() + numpys(),
    "product": lambda: polynomial(degree=1) * waves(),
    "product of three": lambda: polynomial(degree=1) * waves() * polynomial(degree=1, include_bias=False),
    "chosen states": lambda: pysindy.GeneralizedLibrary(
        [polynomial(degree=2), waves()], tensor_array=[[1, 1]], inputs_per_library=[[1], [0]]
    ),
    "parameters": lambda: pysindy.ParameterizedLibrary(num_features=1, num_parameters=1),
}


@pytest.mark.parametrize("name", KNOWN)
def test_values_are_pysindys_and_derivatives_are_right(name):
    theirs = KNOWN[name]()
    ours = make_library(theirs, STATES, ("x", "y"))
    other = STATES.flip(1) + 0.3
    np.testing.assert_allclose(ours.evaluate(other).numpy(), np.asarray(theirs.transform(other.numpy())), rtol=1e-12)
    assert ours.terms == tuple(theirs.get_feature_names(["x", "y"]))
    assert torch.autograd.gradcheck(ours.evaluate, other[:4].clone().requires_grad_())
    assert ours.evaluate(other[0]).shape == (len(ours.terms),)  # one state, as in a right-hand side
    assert ours.evaluate(other.float()).dtype is torch.float32


def test_functions_of_torch_which_pysindy_itself_cannot_call():
    ours = make_library(torchs(), STATES, ("x", "y"))
    assert ours.terms == ("1", "exp(-x)", "exp(-y)", "x / (1 + x)", "x / (1 + y)", "y / (1 + y)")
    expected = torch.stack([torch.ones_like(X), (-X).exp(), (-Y).exp(), X / (1 + X), X / (1 + Y), Y / (1 + Y)], dim=1)
    torch.testing.assert_close(ours.evaluate(STATES), expected)
    law = ps.discover(STATES, 2 * X / (1 + Y), library=torchs(), names=("x", "y"), targets=("a",), bootstraps=3)
    x, y = sympy.symbols("x y")
    assert sympy.simplify(law.sympy(3)["a"] - 2 * x / (1 + y)) == 0


def test_a_library_of_ones_own_keeps_pysindys_values():
    class Doubled(pysindy.PolynomialLibrary):
        def transform(self, x):
            return 2 * np.asarray(super().transform(x))

    theirs = Doubled(degree=1)
    ours = make_library(theirs, STATES, ("x", "y"))
    np.testing.assert_allclose(ours.evaluate(STATES).numpy(), theirs.transform(STATES.numpy()))


def pendulum(term, rates):
    """A pendulum whose force is a term of the state, with a friction of its own."""
    return lambda t, u: torch.stack([u[1], rates[0] * u[1]]) + term(u)


def test_a_law_of_waves_stands_in_a_compiled_solve_with_gradients():
    t = torch.linspace(0, 10, 200, dtype=F64)
    states = torch.stack([2 * torch.sin(t), torch.cos(1.3 * t)], dim=1)
    force = torch.stack([torch.zeros_like(t), -4.0 * torch.sin(states[:, 0])], dim=1)
    law = ps.discover(states, force, library=polynomial(degree=1) + waves(), names=("angle", "speed"),
                      targets=("da", "ds"), bootstraps=3)  # fmt: skip
    assert law.equations == ["da = 0", "ds = -4 sin(1 angle)"]
    assert law.latex(2) == "\\begin{aligned}\nda &= 0 \\\\\nds &= - 4.0 \\sin{\\left(angle \\right)}\n\\end{aligned}"
    module = law.module()
    rates, start = torch.tensor([-0.2], dtype=F64, requires_grad=True), torch.tensor([1.5, 0.0], dtype=F64)
    u0 = start.clone().requires_grad_()

    def end(u0, coefficients=None):
        term = module if coefficients is None else lambda u: torch.stack([0 * u[0], coefficients[0] * torch.sin(u[0])])
        prob = ps.ODEProblem(pendulum(term, rates), u0, (0.0, 3.0))
        return ps.solve(prob, "CVODE_BDF", saveat=[3.0], reltol=1e-10, abstol=1e-10, route="compiled").u[-1, 0]

    end(u0).backward()
    torch.testing.assert_close(u0.grad, gradient(lambda x: float(end(x)), start), rtol=1e-5, atol=1e-7)
    by_hand = gradient(lambda c: float(end(start, c)), module.coefficients.detach())
    torch.testing.assert_close(module.coefficients.grad, by_hand, rtol=1e-5, atol=1e-7)


def test_a_law_of_numpys_functions_is_compiled_too():
    law = ps.discover(STATES, 0.5 * torch.exp(-X) + torch.tanh(X) ** 2, library=numpys(), names=("x", "y"),
                      targets=("a",), bootstraps=3)  # fmt: skip
    assert law.kept("a") == ["f(x)"]
    prob = ps.ODEProblem(lambda t, u: torch.cat([law(u), -u[1:]]), torch.ones(2, dtype=F64), (0.0, 1.0))
    exact = ps.ODEProblem(
        lambda t, u: torch.stack([0.5 * torch.exp(-u[0]) + torch.tanh(u[0]) ** 2, -u[1]]),
        torch.ones(2, dtype=F64), (0.0, 1.0),
    )  # fmt: skip
    solved = [
        ps.solve(p, "CVODE_BDF", saveat=[1.0], reltol=1e-10, abstol=1e-10, route="compiled").u for p in (prob, exact)
    ]
    torch.testing.assert_close(*solved, rtol=1e-7, atol=1e-9)


def test_what_numpy_alone_computes_has_values_and_refuses_derivatives():
    law = ps.discover(STATES, 3 * X, library=opaque(), names=("x", "y"), targets=("a",), bootstraps=3)
    torch.testing.assert_close(law(STATES)[:, 0], 3 * X)
    with pytest.raises(ps.UnsupportedError, match=r"CustomLibrary are computed by NumPy[\s\S]*requires grad"):
        law(STATES.clone().requires_grad_())
    prob = ps.ODEProblem(lambda t, u: torch.cat([law(u), -u[1:]]), torch.ones(2, dtype=F64), (0.0, 1.0))
    with pytest.raises(ps.TraceError, match="`numpy` needs the value of a tensor"):
        ps.solve(prob, "CVODE_BDF")
    u0 = torch.ones(2, dtype=F64, requires_grad=True)
    with pytest.raises(ps.UnsupportedError, match="no derivatives"):
        ps.solve(prob.remake(u0=u0), "Tsit5")  # eager torch


def test_one_opaque_part_makes_the_whole_opaque():
    law = ps.discover(STATES, 3 * X, library=polynomial(degree=1) + opaque(), names=("x", "y"), targets=("a",),
                      bootstraps=3)  # fmt: skip
    with pytest.raises(ps.UnsupportedError, match="ConcatLibrary are computed by NumPy"):
        law.module()(STATES.clone().requires_grad_())


@pytest.mark.parametrize("library", [2, polynomial(degree=2) + waves(), polynomial(degree=1) * waves()])
def test_laws_and_their_modules_are_pickled(library):
    law = ps.discover(STATES, 0.5 * X * torch.sin(Y) - Y, library=library, names=("x", "y"), bootstraps=3)
    again, module = pickle.loads(pickle.dumps((law, law.module())))  # noqa: S301 - our own bytes
    torch.testing.assert_close(again(STATES), law(STATES), rtol=0, atol=0)
    torch.testing.assert_close(module(STATES), law.module()(STATES), rtol=0, atol=0)
