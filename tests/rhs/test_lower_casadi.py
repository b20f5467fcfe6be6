"""Graph to CasADi: every operation, in both of CasADi's forms, with derivatives by its own AD."""

from __future__ import annotations

import casadi as ca
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from against_torch import close, column
from hypothesis import given, settings

from pysciml.rhs import lower_casadi
from pysciml.rhs.graph import BINARY, UNARY, Builder, Graph, evaluate

F64 = torch.float64


def agrees(graph: Graph, **inputs: torch.Tensor) -> None:
    """Both lowerings against the reference interpreter, and their reverse mode against torch through it."""
    inputs = {name: x.double().requires_grad_() for name, x in inputs.items()}
    truth = evaluate(graph, **inputs)
    v = torch.linspace(0.5, 1.5, truth.numel(), dtype=F64)
    pulled = [None] * len(inputs)
    if truth.requires_grad:
        pulled = torch.autograd.grad(truth.reshape(-1), list(inputs.values()), v, allow_unused=True)
    columns = [column(inputs[name].detach()) for name in graph.inputs]
    for scalar in (True, False):
        what = "SX" if scalar else "MX"
        function = lower_casadi.function(graph, "f", scalar)
        close(array(function(*columns)), truth.detach(), 1e-12, what)
        symbols, out = lower_casadi.symbols(graph, scalar)
        for name, d in zip(inputs, pulled, strict=True):
            own = ca.Function(
                "own", list(symbols.values()), [ca.densify(ca.jtimes(out, symbols[name], column(v), True))]
            )
            truth_d = torch.zeros_like(inputs[name]) if d is None else d
            close(array(own(*columns)), truth_d, 1e-12, f"{what} d/d{name}")


def array(x: ca.DM) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x).ravel(order="F").copy())


def values(*shape: int, low: float = 0.2) -> torch.Tensor:
    return low + 0.6 * torch.rand(shape, dtype=F64)


@pytest.mark.parametrize("op", sorted(UNARY))
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_unary(op, shape):
    b = Builder()
    agrees(b.graph(b.unary(op, b.input("x", shape))), x=values(*shape, low=1.1 if op == "acosh" else 0.2))


@pytest.mark.parametrize("op", sorted(BINARY))
@pytest.mark.parametrize("shapes", [((3,), (3,)), ((3,), ()), ((), (3,)), ((1,), (1,)), ((2, 3), (3,)), ((2, 1), (3,))])
def test_binary(op, shapes):
    b = Builder()
    x, y = (values(*s) for s in shapes)
    agrees(b.graph(b.binary(op, b.input("x", shapes[0]), b.input("y", shapes[1]))), x=x, y=y)


@pytest.mark.parametrize("op", sorted(BINARY))
@pytest.mark.parametrize("constant", [2.0, 0.0, [0.5, 2.0, 0.0]])
def test_binary_with_a_constant(op, constant):
    b = Builder()
    if op in ("div", "fmod") and np.any(np.asarray(constant) == 0):
        return
    agrees(b.graph(b.binary(op, b.input("x", (3,)), b.constant(constant))), x=values(3))


@pytest.mark.parametrize("shapes", [((3,), (3,), (3,)), ((3,), (), (3,)), ((3,), (), ()), ((), (3,), ()), ((), (), ())])
@pytest.mark.parametrize("zero", [True, False])
def test_where(shapes, zero):
    b = Builder()
    cond = b.binary("gt", b.input("c", shapes[0]), b.constant(0.5))
    second = b.constant(0.0) if zero else b.input("y", shapes[2])
    graph = b.graph(b.where(cond, b.input("x", shapes[1]), second))
    inputs = {"c": values(*shapes[0]), "x": values(*shapes[1]), "y": values(*shapes[2])}
    agrees(graph, **{name: inputs[name] for name in graph.inputs})


@pytest.mark.parametrize("op", ["sum", "amax", "amin", "prod"])
@pytest.mark.parametrize(
    ("shape", "axes"), [((4,), (0,)), ((3, 4), (1,)), ((3, 4), (0,)), ((2, 3, 5), (0, 2)), ((1, 3), (1,))]
)
def test_reductions(op, shape, axes):
    b = Builder()
    agrees(b.graph(b.reduce(op, b.input("x", shape), axes, False)), x=values(*shape))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_cumsum(axis):
    b = Builder()
    agrees(b.graph(b.cumsum(b.input("x", (2, 4)), axis)), x=values(2, 4))


@pytest.mark.parametrize(
    ("batch", "m", "k", "n"), [(1, 2, 3, 4), (2, 2, 3, 4), (1, 1, 3, 1), (1, 3, 1, 2), (3, 1, 1, 1)]
)
def test_matmul(batch, m, k, n):
    b = Builder()
    graph = b.graph(b.matmul(b.input("x", (batch, m, k)), b.input("y", (batch, k, n))))
    agrees(graph, x=values(batch, m, k), y=values(batch, k, n))


@pytest.mark.parametrize("which", ["left", "right", "both"])
@pytest.mark.parametrize(("batch", "m", "k", "n"), [(1, 2, 3, 4), (2, 2, 3, 4), (1, 1, 3, 2), (2, 3, 3, 3)])
def test_matmul_of_transposed(which, batch, m, k, n):
    b = Builder()
    x, y = b.input("x", (batch, m, k)), b.input("y", (batch, k, n))
    left = b.view(b.input("x", (batch, k, m)), lambda i: i.swapaxes(1, 2)) if which != "right" else x
    right = b.view(b.input("y", (batch, n, k)), lambda i: i.swapaxes(1, 2)) if which != "left" else y
    graph = b.graph(b.matmul(left, right))
    agrees(graph, x=values(*b.inputs["x"].shape), y=values(*b.inputs["y"].shape))


@pytest.mark.parametrize(
    "index", [[0], [2, 1, 0], [0, 1, 2], [1, 1, 1], [-1, 0, -1], [2, 3, 4], [0, 5, -1, 2, 2], [4, 3]]
)
def test_gather(index):
    b = Builder()
    agrees(b.graph(b.gather((b.input("x", (3,)), b.input("y", (3,))), np.array(index))), x=values(3), y=values(3))


def test_gather_from_one_number():
    b = Builder()
    x = b.input("x", ())
    agrees(
        b.graph(b.binary("mul", b.view(x, lambda i: np.broadcast_to(i, (2, 3))), b.input("y", (2, 3)))),
        x=values(),
        y=values(2, 3),
    )
    b = Builder()
    agrees(b.graph(b.gather((b.input("x", (1,)),), np.array([0, -1, 0]))), x=values(1))


@pytest.mark.parametrize("index", [[0, 0, 1], [2, 2, 2], [3, 0, 3]])
def test_scatter_add(index):
    b = Builder()
    agrees(b.graph(b.scatter_add(b.input("x", (3,)), np.array(index), (4,))), x=values(3))


def test_constant_output_and_unused_inputs():
    b = Builder()
    b.input("u", (2,))
    agrees(b.graph(b.constant([1.0, 2.0])), u=values(2))


def test_names_that_casadi_reserves_are_fine():
    b = Builder()
    graph = b.graph(b.input("u", (2,)))
    for name in ("jac", "hess", "null", "f"):
        assert lower_casadi.function(graph, name)([1.0, 2.0]).full().ravel().tolist() == [1.0, 2.0]


def test_inputs_keep_their_names_and_sizes():
    b = Builder()
    for name, shape in (("t", ()), ("u", (2, 2)), ("p", (3,))):
        b.input(name, shape)
    function = lower_casadi.function(b.graph(b.unary("sin", b.inputs["u"])))
    assert function.name_in() == ["t", "u", "p"]
    assert [function.size1_in(k) for k in range(3)] == [1, 4, 3]
    assert function.name_out() == ["out"]
    assert function.sparsity_out(0).is_dense()


def test_the_form_follows_the_size(monkeypatch):
    b = Builder()
    graph = b.graph(b.unary("sin", b.input("u", (10,))))
    assert isinstance(lower_casadi.symbols(graph)[1], ca.SX)
    monkeypatch.setattr(lower_casadi, "SCALAR_LIMIT", 5)
    assert isinstance(lower_casadi.symbols(graph)[1], ca.MX)


OPS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 99), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8
)
SMOOTH = ["sin", "tanh", "sigmoid", "atan", "abs", "erf", "asinh", "floor", "neg", "sign"]
PAIRS = ["add", "sub", "mul", "maximum", "minimum", "gt", "le", "and", "or", "atan2"]


@settings(max_examples=60, deadline=None)
@given(ops=OPS, seed=st.integers(0, 999))
def test_random_graphs(ops, seed):
    torch.manual_seed(seed)
    b, rng = Builder(), np.random.default_rng(seed)
    pool = [b.input("x", (2, 3)), b.input("y", (3, 2))]
    for kind, which, i, j in ops:
        pool.append(random_node(b, rng, kind, which, pool[i % len(pool)], pool[j % len(pool)]))
    agrees(b.graph(pool[-1]), x=values(2, 3), y=values(3, 2))


def random_node(b, rng, kind, which, x, y):
    if kind == 0:
        return b.unary(SMOOTH[which % len(SMOOTH)], x)
    if kind == 1:
        return b.binary(
            PAIRS[which % len(PAIRS)], x, b.view(y, lambda i: i.reshape(-1)[rng.integers(0, y.size, x.shape)])
        )
    if kind == 2:
        return b.gather((x, y), rng.integers(-1, x.size + y.size, (2, 3)))
    if kind == 3:
        return b.expand(b.reduce(["sum", "amax", "amin", "prod"][which % 4], x, (which % 2,), True), x.shape)
    if kind == 4:
        left, right = (b.view(z, lambda i: i.reshape(-1)[rng.integers(0, i.size, (1, 2, 2))]) for z in (x, y))
        return b.reshape(b.matmul(left, right), (2, 2))
    return b.cumsum(x, which % 2) if which % 3 else b.scatter_add(x, rng.integers(0, 5, x.size), (5, 1))
