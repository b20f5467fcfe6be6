"""What cannot be compiled is refused: with the operation, the line of the user's code and a way out."""

from __future__ import annotations

import linecache
import math

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from tables import double_by_default

from pysciml.errors import InvalidInputError, TraceError
from pysciml.rhs.trace import compiled, record

U = torch.tensor([0.4, -0.7, 0.2], dtype=torch.float64)
T = torch.tensor(0.1, dtype=torch.float64)
KINDS = ("f", "vjp", "vjp_p", "jac", "tgrad")


def refused(f, u=U, p=None) -> TraceError:
    def trace_all():
        program = record(f, T.to(u.dtype), u, p)
        rhs = compiled(program)
        for kind in KINDS:
            rhs.graph(kind, program)

    with pytest.raises(TraceError) as caught:
        trace_all()
    return caught.value


def lines_of(f) -> range:
    code = (type(f).forward if isinstance(f, nn.Module) else f).__code__
    lines = [line for *_, line in code.co_lines() if line]
    return range(code.co_firstlineno, max(lines) + 1)


def branch(t, u):
    if u[0] > 0:
        return u
    return -u


def loop(t, u):
    x = u.sum()
    while x > 1.0:
        x = x / 2
    return u * x


def ternary(t, u):
    return u if (u > 0).any() else -u


def write_item(t, u):
    u[0] = 1.0
    return u


def add_in_place(t, u):
    u += 1.0
    return u


def write_through_view(t, u):
    x = u[1:]
    x += 1.0
    return u


def write_through_unpacked(t, u):
    x, _, _ = u
    x.mul_(2)
    return u * x


def write_time(t, u):
    t += 1.0
    return u * t


def write_out(t, u):
    return torch.add(u, 1.0, out=u)


BUFFER = torch.ones(3, dtype=torch.float64)
COUNTS = torch.zeros(3, dtype=torch.int64)


def write_captured(t, u):
    BUFFER.add_(u)
    return u * BUFFER


def write_counts(t, u):
    COUNTS[0] += 1
    return u * COUNTS


def numpy_round_trip(t, u):
    return torch.from_numpy(np.sin(u.numpy()))


def numpy_function(t, u):
    return torch.as_tensor(np.tanh(u))


def detached_numpy(t, u):
    return u * float(u.detach().cpu().numpy().sum())


def python_math(t, u):
    return u * math.sin(t)


def autograd_grad(t, u):
    with torch.enable_grad():
        x = u.clone().requires_grad_()
        return torch.autograd.grad((x**2).sum(), x)[0]


def complex_numbers(t, u):
    z = torch.complex(u, u)
    return (z * z).real


def fourier(t, u):
    return torch.fft.ifft(torch.fft.fft(u) * 2).real


def sort_them(t, u):
    return torch.sort(u).values


def rank_them(t, u):
    return u[torch.argsort(u)]


def top_of_them(t, u):
    return u - torch.topk(u, 2).values.sum()


def pick_positive(t, u):
    return u * u[u > 0].sum()


def pick_where(t, u):
    return u * u[torch.where(u > 0)].sum()


def scatter_many(t, u):
    x = u.clone()
    x[u > 0] = u[:2]
    return x


def solve_linear(t, u):
    return torch.linalg.solve(torch.outer(u, u) + torch.eye(3, dtype=u.dtype), u)


def random_of_size(t, u):
    return u + torch.randn(3, dtype=u.dtype)


REFUSED = [
    # what, f, the operation, a piece of the explanation, a piece of the remedy
    ("if", branch, "__bool__", "value of a tensor", "torch.where"),
    ("while", loop, "__bool__", "value of a tensor", "torch.where"),
    ("ternary", ternary, "__bool__", "value of a tensor", "torch.where"),
    ("float()", lambda t, u: u * float(u[0]), "__float__", "value of a tensor", "keep tensors"),
    ("int()", lambda t, u: u * int(u[0]), "__int__", "value of a tensor", "keep tensors"),
    ("item", lambda t, u: u * u.sum().item(), "item", "value of a tensor", "keep tensors"),
    ("tolist", lambda t, u: u * sum(u.tolist()), "tolist", "value of a tensor", "keep tensors"),
    ("min()", lambda t, u: u * min(u[0], u[1]), "__bool__", "value of a tensor", "torch.where"),
    ("in", lambda t, u: u * (0.4 in u), "__contains__", "value of a tensor", "torch.where"),
    ("range(tensor)", lambda t, u: u * sum(range(u[0].long())), "__index__", "value of a tensor", "keep tensors"),
    ("if t", lambda t, u: u if t < 1 else -u, "__bool__", "value of a tensor", "torch.where"),
    ("math.sin(t)", python_math, "__float__", "value of a tensor", "keep tensors"),
    ("equal", lambda t, u: u * torch.equal(u, u), "equal", "value of a tensor", "torch.where"),
    ("allclose", lambda t, u: u * torch.allclose(u, u), "allclose", "value of a tensor", "torch.where"),
    ("numpy", numpy_round_trip, "numpy", "value of a tensor", "keep tensors"),
    ("np.tanh", numpy_function, "__array__", "value of a tensor", "keep tensors"),
    ("detach-numpy", detached_numpy, "numpy", "value of a tensor", "keep tensors"),
    ("nonzero", lambda t, u: u * u.nonzero().numel(), "nonzero", "value of a tensor", "torch.where"),
    ("argwhere", lambda t, u: u * torch.argwhere(u > 0).sum(), "argwhere", "value of a tensor", "torch.where"),
    ("unique", lambda t, u: u * torch.unique(u).sum(), "unique", "value of a tensor", "torch.where"),
    ("masked_select", lambda t, u: u * u.masked_select(u > 0).sum(), "masked_select", "value", "torch.where"),
    ("u[u > 0]", pick_positive, "index", "boolean index", "torch.where"),
    ("u[where]", pick_where, None, "", ""),
    ("x[u > 0] = many", scatter_many, "index_put", "boolean assignment", "torch.where"),
    ("write-item", write_item, "__setitem__", "changes the state", "clone"),
    ("+=", add_in_place, "add_", "changes the state", "x = x + 1"),
    ("write-view", write_through_view, "add_", "changes the state", "clone"),
    ("write-unpacked", write_through_unpacked, "mul_", "changes the state", "clone"),
    ("write-time", write_time, "add_", "changes the state, the time", "x = x + 1"),
    ("out=", write_out, "add", "changes the state", "clone"),
    ("relu-inplace", lambda t, u: F.relu(u, inplace=True), "relu", "in place", "clone"),
    ("relu_", lambda t, u: torch.relu_(u), "relu_", "changes the state", "clone"),
    ("write-captured", write_captured, "add_", "changes a captured tensor", "clone"),
    ("write-counts", write_counts, "add_", "changes a captured tensor", "clone"),
    ("randn", random_of_size, "randn", "random", "before the solve"),
    ("rand_like", lambda t, u: u + torch.rand_like(u), "rand_like", "random", "before the solve"),
    ("normal_", lambda t, u: u + torch.empty(3).double().normal_(), "normal_", "random", "before the solve"),
    ("uniform_", lambda t, u: u + torch.empty_like(u).uniform_(), "uniform_", "random", "before the solve"),
    ("bernoulli", lambda t, u: u * torch.bernoulli(u.abs()), "bernoulli", "random", "before the solve"),
    ("torch.normal", lambda t, u: torch.normal(u, 1.0), "normal", "random", "before the solve"),
    ("multinomial", lambda t, u: u * torch.multinomial(u.abs(), 1), "multinomial", "random", "before the solve"),
    ("gumbel", lambda t, u: F.gumbel_softmax(u), "gumbel_softmax", "random", "before the solve"),
    ("F.dropout", lambda t, u: F.dropout(u), "dropout", "training mode", "eval()"),
    ("F.rrelu", lambda t, u: F.rrelu(u, training=True), "rrelu", "training mode", "eval()"),
    ("autograd.grad", autograd_grad, "torch.autograd.grad", "cannot be compiled", "torch.func.grad"),
    ("backward", lambda t, u: u * (u.sum().backward() or 1), "backward", "cannot be compiled", "torch.func.grad"),
    ("complex", complex_numbers, "complex", "complex", "real"),
    ("fft", fourier, "fft_fft", "complex", "real"),
    ("sort", sort_them, "sort", "no compiled form", "callback"),
    ("argsort", rank_them, None, "no compiled form", "callback"),
    ("topk", top_of_them, "topk", "no compiled form", "callback"),
    ("cummax", lambda t, u: u.cummax(0).values, "cummax", "no compiled form", "callback"),
    ("linalg.solve", solve_linear, None, "no compiled form", "callback"),
    ("detach", lambda t, u: u * u.detach(), "detach", "not the derivative", "callback"),
    (".data", lambda t, u: u * u.data, "x.data", "not the derivative", "callback"),
]  # fmt: skip


@pytest.mark.parametrize(("f", "op", "why", "fix"), [pytest.param(*c[1:], id=c[0]) for c in REFUSED])
def test_refused_with_the_place_and_the_way_out(f, op, why, fix):
    error = refused(f)
    assert op is None or error.op == op
    assert error.op
    assert why in error.what
    assert fix in (error.fix or "")
    file, _, line = error.location.rpartition(":")
    assert file == __file__
    assert int(line) in lines_of(f)
    assert error.source == linecache.getline(file, int(line)).strip()
    for part in (error.what, error.location, error.source, f"Fix: {error.fix}"):
        assert part in str(error)


def test_the_line_is_the_one_at_fault():
    assert refused(branch).source == "if u[0] > 0:"
    assert refused(loop).source == "while x > 1.0:"
    assert refused(write_through_view).source == "x += 1.0"
    assert refused(write_through_unpacked).source == "x.mul_(2)"


class Net(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, t, u):
        return self.layers(u)


@pytest.mark.parametrize(
    ("layers", "op"),
    [
        ((nn.Linear(3, 3), nn.Dropout()), "dropout"),
        ((nn.AlphaDropout(),), "alpha_dropout"),
        ((nn.RReLU(),), "rrelu"),
        ((nn.Unflatten(0, (1, 3)), nn.BatchNorm1d(3), nn.Flatten(0)), "batch_norm"),
        ((nn.Unflatten(0, (1, 3, 1)), nn.InstanceNorm1d(3, track_running_stats=True), nn.Flatten(0)), "instance_norm"),
        ((nn.ReLU(inplace=True),), "relu"),
        ((nn.Hardtanh(inplace=True),), "hardtanh"),
    ],
)
def test_modules_are_refused_at_their_line_in_the_users_code(layers, op):
    net = Net(*layers).double().train()
    error = refused(net)
    assert error.op == op
    assert error.source == "return self.layers(u)"


def test_training_modules_work_once_in_eval_mode():
    net = Net(nn.Linear(3, 3), nn.Dropout(), nn.RReLU()).double()
    refused(net)
    compiled(record(net.eval(), T, U))
    compiled(record(Net(nn.Dropout(0.0)).double().train(), T, U))


def test_a_torchscript_function_is_refused():
    with pytest.warns(DeprecationWarning, match="jit"):
        scripted = torch.jit.script(nn.Linear(3, 3).double())
    error = refused(lambda t, u: scripted(u))
    assert error.op == "torch.jit.script"
    assert "before torch.jit.script" in error.fix


def test_what_is_under_torch_compile_is_traced_as_it_was():
    net = nn.Linear(3, 3).double()
    plain = record(lambda t, u: net(u), T, U)
    fast = torch.compile(net)
    assert record(lambda t, u: fast(u), T, U).signature == plain.signature


def test_tensors_made_out_of_sight_are_refused():
    values = np.array([1.0, 2.0, 3.0])
    error = refused(lambda t, u: u * torch.from_numpy(values))
    assert "cannot see" in error.what
    assert "before the solve" in error.fix


class Doubled(torch.autograd.Function):
    """A gradient that is not the derivative."""

    @staticmethod
    def forward(x):
        return x * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        return 2 * g


def test_a_custom_backward_that_is_no_derivative_is_refused():
    error = refused(lambda t, u: Doubled.apply(u))
    assert error.op == "a torch.autograd.Function"
    assert "not the derivative" in error.what


def test_no_grad_inside_is_refused_where_it_matters():
    def partly(t, u):
        with torch.no_grad():
            gain = u.sum()
        return u * gain

    def harmless(t, u):
        with torch.no_grad():
            steps = torch.arange(3.0, dtype=u.dtype)
        return u * steps

    assert refused(partly).op == "torch.no_grad"
    compiled(record(harmless, T, U))


def test_an_embedding_with_padding_is_refused_where_its_gradient_is_cut():
    with double_by_default():
        table = nn.Embedding(3, 3, padding_idx=0)
        table.weight.data.fill_(1.0)
    used = torch.tensor([0, 1])
    assert refused(lambda t, u: table(used).sum(0) * u).op == "padding_idx"
    compiled(record(lambda t, u: table(used[1:]).sum(0) * u, T, U))


def test_a_captured_half_precision_tensor_is_refused():
    half = torch.ones(3, dtype=torch.float16)
    error = refused(lambda t, u: (u * half).double())
    assert error.op == "torch.float16"
    assert "float32 or float64" in error.fix


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (lambda t, u: u[:2], "shape"),
        (lambda t, u: u.sum(), "shape"),
        (lambda t, u: (u, u), "structure"),
        (lambda t, u: None, "structure"),
        (lambda t, u: [0.0, 1.0, 2.0], "structure"),
        (lambda t, u: u.float(), "dtype"),
        (lambda t, u: u > 0, "dtype"),
    ],
)
def test_a_wrong_derivative_is_an_input_error(f, expected):
    with pytest.raises(InvalidInputError, match=expected):
        record(f, T, U)


def test_exceptions_of_f_arrive_unchanged():
    with pytest.raises(ZeroDivisionError):
        record(lambda t, u: u / (1 // 0), T, U)
    with pytest.raises(RuntimeError, match="size of tensor"):
        record(lambda t, u: u + torch.ones(2), T, U)
