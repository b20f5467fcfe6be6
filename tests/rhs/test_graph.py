"""The Graph itself: what its builder shares and simplifies, how it prints, and how it evaluates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pysciml.rhs.graph import BINARY, REDUCTIONS, UNARY, Builder, Graph, evaluate
from pysciml.rhs.trace import compiled, record, trace

F64 = torch.float64


@pytest.fixture
def b():
    return Builder()


def test_equal_nodes_are_shared(b):
    u = b.input("u", (3,))
    assert b.unary("sin", u) is b.unary("sin", u)
    assert b.binary("add", u, u) is b.binary("add", u, u)
    assert b.constant([1.0, 2.0]) is b.constant([1.0, 2.0])
    assert b.constant([0.0]) is not b.constant([-0.0])
    assert b.view(u, np.flip) is b.view(u, np.flip)
    assert b.unary("sin", u) is not b.unary("cos", u)


def test_constants_are_computed_at_once(b):
    out = b.binary("mul", b.unary("exp", b.constant([0.0, 1.0])), b.constant(2.0))
    assert out.op == "constant"
    np.testing.assert_allclose(out.data, 2 * np.exp([0.0, 1.0]))
    assert b.matmul(b.constant(np.ones((1, 2, 3))), b.constant(np.ones((1, 3, 2)))).op == "constant"


@pytest.mark.parametrize(("op", "neutral"), [("add", 0.0), ("sub", 0.0), ("mul", 1.0), ("div", 1.0), ("pow", 1.0)])
def test_neutral_operands_vanish(b, op, neutral):
    u = b.input("u", (3,))
    assert b.binary(op, u, b.constant(neutral)) is u
    assert b.binary(op, u, b.constant(np.full(3, neutral))) is u
    if op in ("add", "mul"):
        assert b.binary(op, b.constant(neutral), u) is u
    else:
        assert b.binary(op, b.constant(neutral), u) is not u


def test_a_neutral_operand_that_spreads_does_not_vanish(b):
    x = b.input("x", (1, 3))
    assert b.binary("add", x, b.constant(np.zeros((2, 3)))).shape == (2, 3)


def test_identity_matrices_vanish(b):
    x = b.input("x", (1, 2, 3))
    assert b.matmul(b.constant(np.eye(2)[None]), x) is x
    assert b.matmul(x, b.constant(np.eye(3)[None])) is x
    assert b.matmul(b.constant(np.ones((1, 2, 2))), x) is not x


def test_chains_of_views_become_one_gather(b):
    u = b.input("u", (2, 3))
    out = b.view(b.reshape(b.view(u, np.transpose), (6,)), lambda i: i[::-1][1:])
    assert out.op == "gather"
    assert out.args == (u,)
    assert out.data.tolist() == [2, 4, 1, 3, 0]
    assert b.view(b.view(u, np.transpose), np.transpose) is u
    assert b.view(u, lambda i: i.reshape(3, 2)).op == "reshape"
    assert b.view(b.view(u, lambda i: np.pad(i, 1, constant_values=-1)), lambda i: i[1:-1, 1:-1]) is u


def test_gathers_read_only_what_they_use(b):
    x, y = b.input("x", (3,)), b.input("y", (3,))
    both = b.gather((x, y), np.arange(6))
    assert b.view(both, lambda i: i[3:]) is y
    assert b.view(both, lambda i: i[2:4]).args == (x, y)
    assert b.gather((x, x), np.array([0, 3])).args == (x,)
    nothing = b.gather((x,), np.array([-1, -1]))
    assert nothing.op == "constant"
    assert not nothing.data.any()


def test_scatter_add_that_adds_nothing_twice_is_a_gather(b):
    x = b.input("x", (2,))
    assert b.scatter_add(x, np.array([2, 0]), (3,)).data.tolist() == [1, -1, 0]
    assert b.scatter_add(x, np.array([1, 1]), (3,)).op == "scatter_add"


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 2), (-1, 0), (0, 1, 2)])
@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("op", [op for op in REDUCTIONS if op != "cumsum"])
def test_reductions_of_any_axes(b, op, axes, keepdim):
    x = torch.randn(2, 3, 4, dtype=F64)
    out = b.reduce(op, b.input("x", (2, 3, 4)), axes, keepdim)
    truth = x
    for axis in sorted((a % 3 for a in axes), reverse=True):
        truth = getattr(truth, op)(axis, keepdim=keepdim)
    assert out.shape == tuple(truth.shape)
    torch.testing.assert_close(evaluate(b.graph(out), x=x), truth)


@pytest.mark.parametrize("op", sorted(UNARY))
def test_unary_operations_evaluate(b, op):
    x = torch.tensor([0.3, 0.7], dtype=F64) + (1 if op == "acosh" else 0)
    out = evaluate(b.graph(b.unary(op, b.input("x", (2,)))), x=x)
    truth = (x == 0).to(F64) if op == "not" else getattr(torch, op)(x)
    torch.testing.assert_close(out, truth)


@pytest.mark.parametrize("op", sorted(BINARY))
def test_binary_operations_evaluate(b, op):
    x, y = torch.tensor([0.3, 0.7, 0.0], dtype=F64), torch.tensor([0.3, -0.7, 2.0], dtype=F64).abs()
    out = evaluate(b.graph(b.binary(op, b.input("x", (3,)), b.input("y", (3,)))), x=x, y=y)
    name = {"and": "logical_and", "or": "logical_or"}.get(op, op)
    torch.testing.assert_close(out, getattr(torch, name)(x, y).to(F64))


def test_inputs_are_taken_in_any_shape_and_dtype(b):
    out = b.binary("add", b.input("x", (2, 2)), b.input("t", ()))
    graph = b.graph(out)
    assert evaluate(graph, x=torch.ones(4), t=torch.tensor([1.0])).tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert evaluate(graph, torch.float32, x=torch.ones(4), t=torch.tensor(1)).dtype == torch.float32


def test_a_graph_holds_only_what_its_output_needs(b):
    u = b.input("u", (2,))
    b.unary("exp", u)
    graph = b.graph(b.unary("sin", u))
    assert [node.op for node in graph.nodes] == ["input", "sin"]
    assert graph.depends_on("u")
    assert not graph.depends_on("t")


def test_very_deep_graphs_do_not_exhaust_the_stack(b):
    x = b.input("u", (1,))
    for _ in range(20_000):
        x = b.unary("neg", x)
    assert len(b.graph(x).nodes) == 20_001


def test_operations_are_counted(b):
    u = b.input("u", (2,))
    assert b.graph(u).operations == 0
    assert b.graph(b.unary("sin", u)).operations == 2
    product = b.matmul(b.input("a", (1, 4, 5)), b.input("c", (1, 5, 6)))
    assert b.graph(product).operations == 2 * 4 * 5 * 6


def test_a_graph_prints_as_a_program():
    def f(t, u):
        return torch.stack([u[1], -torch.sin(u[0]) * t])

    graph = trace(record(f, torch.tensor(0.0), torch.tensor([1.0, 0.0])), "f")
    assert str(graph) == (
        "graph(t[], u[2], p[0]):\n"
        "  %0 = gather(u, [0]) []\n"
        "  %1 = sin(%0) []\n"
        "  %2 = neg(%1) []\n"
        "  %3 = mul(%2, t) []\n"
        "  %4 = gather(u, %3, [1,2]) [2]\n"
        "  return %4"
    )


def test_constants_print_by_value(b):
    u = b.input("u", (2,))
    out = b.binary("add", b.binary("mul", u, b.constant(2.5)), b.constant([1.0, 3.0]))
    assert str(b.graph(out)) == (
        "graph(u[2]):\n  %0 = mul(u, 2.5) [2]\n  %1 = constant([1,3]) [2]\n  %2 = add(%0, %1) [2]\n  return %2"
    )


def test_long_indices_are_shortened_in_print(b):
    text = str(b.graph(b.view(b.input("u", (100,)), np.flip)))
    assert "[99,98,...,1,0]" in text
    assert len(max(text.splitlines(), key=len)) < 80


def test_graphs_of_the_lotka_volterra_equations_are_small():
    def f(t, u, p):
        x, y = u
        a, b, c, d = p
        return torch.stack([a * x - b * x * y, c * x * y - d * y])

    program = record(f, torch.tensor(0.0, dtype=F64), torch.ones(2, dtype=F64), torch.ones(4, dtype=F64))
    rhs = compiled(program)
    sizes = {kind: len(rhs.graph(kind, program).nodes) for kind in ("f", "vjp", "vjp_p", "jac", "tgrad")}
    assert sizes["f"] <= 18
    assert sizes["vjp"] <= 40
    assert sizes["tgrad"] == 1  # zeros
    assert isinstance(rhs.graph("jac"), Graph)
    with pytest.raises(ValueError, match="not traced yet"):
        type(rhs)(2, 4, None, trace).graph("f")


def test_the_gradients_of_slices_are_joined_and_not_added(b):
    x, y = b.input("x", (2,)), b.input("y", (3,))
    zeros = b.constant(np.zeros(3))
    first = b.gather((x, zeros), np.arange(5))
    second = b.view(y, lambda index: np.pad(index, (2, 0), constant_values=-1))
    graph = b.graph(b.binary("add", first, second))
    assert [node.op for node in graph.nodes] == ["input", "input", "gather"]
    point = {"x": torch.tensor([1.0, 2.0]), "y": torch.tensor([3.0, 4.0, 5.0])}
    assert evaluate(graph, **point).tolist() == [1, 2, 3, 4, 5]
    overlapping = b.view(y, lambda index: np.pad(index, (0, 2), constant_values=-1))
    graph = b.graph(b.binary("add", first, overlapping))
    assert evaluate(graph, **point).tolist() == [4, 6, 5, 0, 0]
