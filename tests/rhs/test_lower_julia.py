"""Julia source from Graphs: its text, and on a real Julia its numbers against the reference interpreter."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
import table_models
import test_functions
import test_random_programs
import torch
from against_torch import flat_inputs, moved
from hypothesis import given
from tables import params

import pysciml as ps
from pysciml.rhs.base import KINDS
from pysciml.rhs.graph import BINARY, UNARY, Builder, evaluate
from pysciml.rhs.lower_julia import kernel
from pysciml.rhs.trace import compiled, record

GOLDEN = Path(__file__).parent / "golden"


def mlp():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()


@pytest.mark.parametrize("kind", ["f", "vjp", "vjp_p", "jac"])
def test_the_text_of_a_small_network(kind):
    net = mlp()
    program = record(
        lambda t, u: net(u) - u, torch.tensor(0.0, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    )
    source = kernel(compiled(program).graph(kind, program), kind).source
    golden = GOLDEN / f"network_{kind}.jl"
    assert source == golden.read_text("utf-8"), f"if the new text is better: write it to {golden.name}"


def test_constants_are_data_and_not_text():
    def source(factor):
        b = Builder()
        u = b.input("u", (9,))
        return kernel(b.graph(b.binary("mul", u, b.constant(factor))))

    one, other = source(1.5), source(-2.5e300)
    assert one.source == other.source
    assert one.constants.tolist() == [1.5]
    assert other.constants.tolist() == [-2.5e300]


def flip(u):
    return torch.roll(u, 1) - 2 * u + torch.roll(u, -1)


@pytest.mark.parametrize(
    ("f", "shape", "boxes"),
    [
        (flip, (64,), 3),
        (lambda u: torch.cat([u[1:], u[:1]]) * u, (64,), 2),
        (lambda u: u.roll(1, 0) + u.roll(1, 1), (8, 8), 4),
        (lambda u: torch.nn.functional.pad(u[1:-1] ** 2, (1, 1)), (64,), 3),
        (lambda u: u.T * u, (8, 8), 1),
        (lambda u: u.flip(0) + u, (64,), 1),
    ],
)
def test_views_are_read_in_place_by_strides(f, shape, boxes):
    u = torch.ones(shape, dtype=torch.float64)
    program = record(lambda t, u: f(u), torch.tensor(0.0, dtype=torch.float64), u)
    code = kernel(compiled(program).graph("f", program))
    assert code.tables.size == 0
    assert code.work == 0
    assert code.source.count("out[") == boxes, code.source


def test_equal_shapes_of_computation_share_one_text():
    def source(net):
        program = record(
            lambda t, u: net(u), torch.tensor(0.0, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
        )
        return kernel(compiled(program).graph("vjp_p", program), "vjp_p").source

    assert source(mlp()) == source(mlp())


def in_julia(code, single: bool, size: int, values: dict) -> torch.Tensor:
    from pysciml.engines.julia.runtime import call_lock, julia

    u, p = (values[x].numpy().astype(float) for x in ("u", "p"))
    out = np.empty(size)
    with call_lock():
        model = julia().Model(single, u.size, p.size)
        getattr(julia(), "define!")(model, "f", code.source, code.constants, code.tables, code.work)
        getattr(julia(), "evaluate!")(out, model, "f", values["v"].numpy(), u, p, float(values["t"]))
    return torch.from_numpy(out)


def agree(program, values: dict, single: tuple[str, ...] = ("f",), tol: float = 1e-11) -> None:
    """Fails unless Julia computes what the reference interpreter does, for all kinds, and in Float32 for some."""
    rhs = compiled(program)
    for kind in KINDS:
        graph = rhs.graph(kind, program)
        truth = evaluate(graph, **{name: values[name] for name in graph.inputs})
        truth = (truth.reshape(rhs.n, rhs.n).T if kind == "jac" else truth).reshape(-1)
        code = kernel(graph, kind)
        scale = float(truth[truth.isfinite()].abs().max()) if truth.isfinite().any() else 0.0
        for in_single, loose in ((False, 1.0), *([(True, 1e8)] if kind in single else [])):
            ours = in_julia(code, in_single, truth.numel(), values)
            rtol, atol = loose * tol, 0.1 * loose * tol * (1 + scale)
            assert torch.allclose(ours, truth, rtol=rtol, atol=atol, equal_nan=True), (
                f"{kind}:\n{code.source}\nours {ours}\ntruth {truth}"
            )


@pytest.mark.julia
@pytest.mark.parametrize("case", params(test_functions.CASES))
def test_numbers_agree_with_the_graph(case):
    f, u, p = case.build()
    program = record(f, torch.tensor(0.3, dtype=torch.float64), u, p)
    with moved(program, by=0.05, seed=1) as (t, u, p):
        values = flat_inputs(program, t, u, p, seed=1)
    agree(program, values, ("f", "vjp") if case in table_models.WRITTEN else ("f",))


@pytest.mark.julia
@test_random_programs.few(12)
@given(steps=test_random_programs.STEPS, seed=st.integers(0, 999))
def test_random_programs_agree_with_the_graph(steps, seed):
    torch.manual_seed(seed)
    u, w = torch.randn(2, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    t = torch.tensor(0.3, dtype=torch.float64)
    program = record(lambda t, u, p: test_random_programs.run(steps, t, u, p), t, u, w)
    agree(program, flat_inputs(program, t, [u], [w], seed=1), (), tol=1e-9)


SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e-300, 5e-324, 1e-20, 19.5, -745.1, 709.7, 710.1, 1e5, -1e5, 1e300,
           float("inf"), -float("inf"), float("nan")]  # fmt: skip


def single(op: str, operands: int):
    """The graph of one operation on single numbers."""
    b = Builder()
    u = b.input("u", (operands,))
    parts = [b.view(u, lambda i, k=k: i[k : k + 1]) for k in range(operands)]
    return b.graph(b.unary(op, *parts) if operands == 1 else b.binary(op, *parts))


def agrees(op: str, ours: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Equal to rounding, and in the sign of zero: but the larger of two zeros may be either, as may pow(-0.0, 1.0)."""
    signs = (torch.signbit(ours) == torch.signbit(truth)) | truth.isnan() | (op in ("maximum", "minimum", "pow"))
    return torch.isclose(ours, truth, rtol=1e-14, atol=1e-323, equal_nan=True) & signs


@pytest.mark.julia
@pytest.mark.parametrize("op", [*UNARY, *BINARY])
def test_special_values_are_those_of_torch(op):
    """NaN, infinities, zeros of both signs, the largest and the smallest numbers."""
    b = Builder()
    if op in UNARY:
        u = np.array(SPECIAL)
        out = b.unary(op, b.input("u", u.shape))
    else:
        u = np.concatenate([np.repeat(SPECIAL, len(SPECIAL)), np.tile(SPECIAL, len(SPECIAL))])
        both = b.input("u", u.shape)
        half = u.size // 2
        out = b.binary(op, b.view(both, lambda i: i[:half]), b.view(both, lambda i: i[half:]))
    values = {"u": torch.from_numpy(u), "p": torch.zeros(0), "v": torch.zeros(0), "t": torch.tensor(0.0)}
    graph = b.graph(out)
    # torch computes vectors otherwise than single numbers, and the two differ at the ends of the range.
    together = evaluate(graph, u=values["u"])
    pairs = torch.from_numpy(u).reshape(-1, len(together)).T
    alone = torch.stack([evaluate(single(op, len(pair)), u=pair).reshape(()) for pair in pairs])
    ours = in_julia(kernel(graph), False, together.numel(), values)
    same = agrees(op, ours, together) | agrees(op, ours, alone)
    truth = together
    at = u.reshape(-1, len(truth)).T
    assert same.all(), [
        (*map(float, x), float(a), float(z)) for x, a, z, ok in zip(at, ours, truth, same, strict=True) if not ok
    ]


@pytest.mark.julia
@pytest.mark.parametrize(
    ("m", "k", "n"),
    [(1, 9, 7), (7, 9, 1), (3, 20, 5), (2, 33, 1), (1, 33, 2), (40, 40, 40), (64, 17, 1), (64, 32, 2), (2, 64, 32),
     (50, 17, 3), (8, 9, 4), (9, 3, 40)],
)  # fmt: skip
@pytest.mark.parametrize("layout", ["nn", "nt", "tn", "tt"])
def test_products_of_every_layout(m, k, n, layout):
    """Rows, columns, outer products, few columns, and BLAS; operands as they lie and transposed, in both precisions."""
    b = Builder()
    a_in, b_in = b.input("u", (m * k,)), b.input("p", (k * n,))
    x = (
        b.reshape(a_in, (1, m, k))
        if layout[0] == "n"
        else b.view(b.reshape(a_in, (1, k, m)), lambda i: i.transpose(0, 2, 1))
    )
    y = (
        b.reshape(b_in, (1, k, n))
        if layout[1] == "n"
        else b.view(b.reshape(b_in, (1, n, k)), lambda i: i.transpose(0, 2, 1))
    )
    graph = b.graph(b.reshape(b.matmul(x, y), (m * n,)))
    rng = torch.Generator().manual_seed(0)
    values = {
        name: torch.randn(size, generator=rng, dtype=torch.float64) for name, size in (("u", m * k), ("p", k * n))
    }
    values |= {"v": torch.zeros(0), "t": torch.tensor(0.0)}
    truth = evaluate(graph, u=values["u"], p=values["p"])
    for single, tol in ((False, 1e-12), (True, 1e-4)):
        assert torch.allclose(in_julia(kernel(graph), single, m * n, values), truth, rtol=tol, atol=tol)


@pytest.mark.julia
@pytest.mark.parametrize("kind", ["f", "vjp", "vjp_p", "jac", "both"])
def test_a_lowering_that_computes_something_else_is_found_before_the_first_solve(kind, monkeypatch):
    """What Julia computes is held against torch once for each part of each model."""
    from pysciml.engines.julia import sources

    def lowered(graph, of, lower=kernel):
        code = lower(graph, of)
        wrong = re.sub(r"out\[1\] = (.*)", r"out[1] = u[1] + (\1)", code.source) if of == kind else code.source
        assert of != kind or wrong != code.source
        return dataclasses.replace(code, source=wrong)

    monkeypatch.setattr(sources, "kernel", lowered)
    p = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    factor = 2.0 + KINDS.index(kind)  # models are kept by their graphs: this one is new

    def f(t, u, p):
        return torch.stack([p[0] * u[1] * u[0] - factor * u[0], p[1] - u[1] ** 2])

    prob = ps.ODEProblem(f, torch.ones(2, dtype=torch.float64, requires_grad=True), (0.0, 1.0), p)
    how = (ps.Tsit5(), ps.DirectAdjoint()) if kind == "both" else (ps.Rodas5P(), None)
    with pytest.raises(ps.PySciMLError, match=rf"something else than f \({kind}\)[\s\S]*callback"):
        ps.solve(prob, how[0], sensealg=how[1], engine="julia").u.sum().backward()


def layer(batch: int, inputs: int, width: int, beside: bool = True):
    """tanh of a layer of so many inputs, over a batch; its weights lie beside each other in rows, or in columns."""
    b = Builder()
    x = b.reshape(b.input("u", (batch * inputs,)), (1, batch, inputs))
    weight = b.reshape(b.input("p", (inputs * width,)), (1, inputs, width) if beside else (1, width, inputs))
    weight = weight if beside else b.view(weight, lambda i: i.transpose(0, 2, 1))
    return b.graph(b.reshape(b.unary("tanh", b.matmul(x, weight)), (batch * width,)))


def test_a_short_product_is_part_of_the_loop_that_reads_it():
    short = kernel(layer(64, 2, 32))
    assert short.work == 0
    assert "times" not in short.source
    assert kernel(layer(64, 5, 32)).work == 64 * 32


def test_weights_that_lie_apart_are_copied_once():
    assert kernel(layer(64, 2, 32, beside=False)).work == 2 * 32
    assert kernel(layer(4, 2, 32, beside=False)).work == 0  # of few rows


def test_a_short_product_that_is_read_twice_is_computed_once():
    b = Builder()
    product = b.matmul(b.input("u", (1, 64, 2)), b.input("p", (1, 2, 32)))
    both = b.binary("mul", b.unary("tanh", product), b.unary("exp", product))
    assert kernel(b.graph(b.reshape(both, (64 * 32,)))).work == 64 * 32


@pytest.mark.julia
@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("inputs", [1, 2, 3, 4, 5])
def test_numbers_of_short_products(inputs, beside):
    graph = layer(9, inputs, 7, beside)
    rng = torch.Generator().manual_seed(inputs)
    u, p = (torch.randn(size * inputs, generator=rng, dtype=torch.float64) for size in (9, 7))
    values = {"u": u, "p": p, "v": torch.zeros(0), "t": torch.tensor(0.0)}
    truth = evaluate(graph, u=u, p=p)
    assert torch.allclose(in_julia(kernel(graph), False, 63, values), truth, rtol=1e-13, atol=1e-14)


def down(rows: int):
    b = Builder()
    return b.graph(b.reduce("sum", b.reshape(b.input("u", (rows * 6,)), (rows, 6)), [0], False))


def test_sums_down_the_rows_of_a_batch_take_several_rows_at_once():
    source = kernel(down(19)).source
    assert "for j in 1:2\n" in source
    assert "for j in 1:3\n" in source


@pytest.mark.julia
@pytest.mark.parametrize("rows", [7, 8, 19])
def test_numbers_of_sums_down_the_rows(rows):
    u = torch.randn(rows * 6, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)
    values = {"u": u, "p": torch.zeros(0), "v": torch.zeros(0), "t": torch.tensor(0.0)}
    found = in_julia(kernel(down(rows)), False, 6, values)
    assert torch.allclose(found, u.reshape(rows, 6).sum(0), rtol=1e-14, atol=1e-14)


@pytest.mark.julia
def test_tanh_is_within_a_few_units_in_the_last_place():
    """Of mpmath's value, over all of its range and where two formulas meet."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=3000), 10 * rng.normal(size=1000), np.exp(-30 * rng.random(1000)),
                        0.17328 * rng.integers(1, 9, 1000) * (1 + 1e-3 * rng.normal(size=1000))])  # fmt: skip
    b = Builder()
    graph = b.graph(b.unary("tanh", b.input("u", x.shape)))
    values = {"u": torch.from_numpy(x), "p": torch.zeros(0), "v": torch.zeros(0), "t": torch.tensor(0.0)}
    found = in_julia(kernel(graph), False, x.size, values).numpy()
    with mpmath.workdps(40):
        truth = [mpmath.tanh(mpmath.mpf(float(v))) for v in x]
        off = [
            abs((mpmath.mpf(float(y)) - z) / float(np.spacing(abs(float(z)))))
            for y, z in zip(found, truth, strict=True)
        ]
    assert max(off) < 2.6
