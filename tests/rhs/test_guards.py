"""A stale trace is a wrong answer: whatever changes in f is seen, and what has not changed is not traced again."""

from __future__ import annotations

import gc
import types
import weakref

import numpy as np
import pytest
import torch
import torch.nn as nn
from tables import double_by_default

from pysciml.errors import TraceError
from pysciml.rhs import trace as tracing
from pysciml.rhs.graph import evaluate
from pysciml.rhs.trace import compiled, prepare, record

U = torch.tensor([0.4, -0.7, 0.2], dtype=torch.float64)
T = torch.tensor(0.3, dtype=torch.float64)


def by_record(f, u=U):
    program = record(f, T.to(u.dtype), u)
    return program, compiled(program)


def by_prepare(f, u=U):
    return prepare(f, T.to(u.dtype), u)


@pytest.fixture(params=[by_record, by_prepare], ids=["record", "prepare"])
def way(request):
    """`prepare` may take the short way: compare with the last run without computing anything."""
    return request.param


def agrees(f, way, u=U):
    """The compiled form, after checking that it computes what f does now, at another point than the recorded one."""
    program, rhs = way(f, u)
    other = u * 1.5 + 0.1
    p = torch.cat([*(x.detach().reshape(-1).double() for x in program.parameters), torch.zeros(0, dtype=torch.float64)])
    ours = evaluate(rhs.graph("f", program), t=T.double() + 1, u=other.reshape(-1).double(), p=p)
    with torch.no_grad():
        truth = f(T.to(u.dtype) + 1, other)
    torch.testing.assert_close(
        ours, truth.reshape(-1).double(), rtol=1e-6 if u.dtype == torch.float32 else 1e-12, atol=1e-12
    )
    return rhs


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Dropout(0.5), nn.Linear(width, 3))
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]))
        self.register_buffer("order", torch.tensor([2, 0, 1]))
        self.gain, self.power, self.names, self.options = 2.0, 2, ["a", "b"], {"shift": 0.5}
        self.activation = torch.tanh
        self.used = 0

    def forward(self, t, u):
        x = self.layers(u)[self.order] * self.scale * self.gain + u**self.power
        x = self.activation(x) + self.options["shift"] * len(self.names)
        return x * np.float64(self.gain)


@pytest.fixture
def net():
    with double_by_default():
        torch.manual_seed(0)
        return Net().eval()


def set_weight(net):
    with torch.no_grad():
        net.layers[0].weight.add_(0.5)


def new_weight(net):
    net.layers[0].weight = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))


def hook(net):
    net.layers[0].register_forward_hook(lambda module, args, out: out * 2)


def forward_replaced(net):
    net.forward = types.MethodType(lambda self, t, u: u * self.scale, net)


CHANGES = {
    "attribute": lambda net: setattr(net, "gain", 3.0),
    "integer-attribute": lambda net: setattr(net, "power", 3),
    "float-for-integer": lambda net: setattr(net, "power", 2.5),
    "list-grows": lambda net: net.names.append("c"),
    "dict-item": lambda net: net.options.update(shift=0.7),
    "function-attribute": lambda net: setattr(net, "activation", torch.sin),
    "sign-of-zero-shift": lambda net: net.options.update(shift=0.0),
    "layer-replaced": lambda net: net.layers.__setitem__(1, nn.ReLU()),
    "layer-removed": lambda net: net.layers.__delitem__(1),
    "wider": lambda net: setattr(net, "layers", Net(5).double().eval().layers),
    "no-bias": lambda net: setattr(net.layers[0], "bias", None),
    "integer-buffer-in-place": lambda net: net.order.copy_(torch.tensor([1, 2, 0])),
    "integer-buffer-replaced": lambda net: setattr(net, "order", torch.tensor([1, 0, 2])),
    "submodule-option": lambda net: setattr(net.layers[2], "p", 0.0),
    "hook": hook,
    "forward-replaced": forward_replaced,
}


@pytest.mark.parametrize("change", [pytest.param(c, id=n) for n, c in CHANGES.items()])
def test_what_changes_is_seen(net, way, change):
    u = U.abs()  # for a power that is not an integer
    first = agrees(net, way, u)
    change(net)
    second = agrees(net, way, u)
    assert first is not second


VALUES = {
    "weights": set_weight,
    "weights-replaced": new_weight,
    "buffer-in-place": lambda net: net.scale.mul_(2),
    "buffer-replaced": lambda net: setattr(net, "scale", torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)),
    "unused-attribute": lambda net: setattr(net, "used", 1),
    "nothing": lambda net: None,
}


@pytest.mark.parametrize("change", [pytest.param(c, id=n) for n, c in VALUES.items()])
def test_new_values_need_no_new_trace(net, way, change):
    first = agrees(net, way)
    change(net)
    assert agrees(net, way) is first


def test_the_training_flag_is_seen(net, way):
    agrees(net, way)
    with pytest.raises(TraceError, match="dropout"):
        way(net.train())
    agrees(net.eval(), way)


def test_requires_grad_is_seen(net, way):
    first = agrees(net, way)
    net.requires_grad_(False)
    assert agrees(net, way) is not first


def test_shape_and_dtype_are_seen(way):
    def f(t, u):
        return torch.tanh(u) * u.sum()

    first = agrees(f, way)
    assert agrees(f, way, U[:2]) is not first
    assert agrees(f, way, U.reshape(3, 1)) is not first
    assert agrees(f, way, U.float()) is not first
    assert agrees(f, way) is first


def test_a_module_built_anew_with_other_weights_is_not_traced_again(way):
    first = agrees(Net().double().eval(), way)
    torch.manual_seed(5)
    assert agrees(Net().double().eval(), way) is first


def test_a_lambda_built_anew_is_not_traced_again(way):
    def make(w):
        return lambda t, u: torch.tanh(w * u)

    first = agrees(make(torch.tensor([1.0, 2.0, 3.0]).double()), way)
    assert agrees(make(torch.tensor([3.0, 1.0, 2.0]).double()), way) is first
    assert agrees(make(2.0), way) is not first


def test_a_method_takes_the_short_way_though_it_is_another_object_each_time(monkeypatch):
    class Rates:
        def __init__(self, sign):
            self.sign = sign

        def f(self, t, u):
            return self.sign * torch.sin(u)

        def g(self, t, u):
            return self.sign * torch.cos(u)

    one, other = Rates(1.0), Rates(-1.0)
    for x in (one, other):
        agrees(x.f, by_prepare)
        agrees(x.g, by_prepare)
    monkeypatch.setattr(tracing, "_record", None)  # what the long way begins with
    for x in (one, other):
        agrees(x.f, by_prepare)
        agrees(x.g, by_prepare)
    monkeypatch.undo()
    one.sign = 2.0
    agrees(one.f, by_prepare)
    recorded = weakref.ref(one)
    del one, x
    gc.collect()
    assert recorded() is None


def test_closure_variables_are_seen(way):
    k, flag, table = 2.0, True, [1.0, 2.0, 3.0]
    array, w = np.array([1.0, 2.0, 3.0]), torch.ones(3, dtype=torch.float64)
    index, mask = torch.tensor([2, 1, 0]), torch.tensor([True, False, True])

    def f(t, u):
        x = k * u if flag else u
        x = x * torch.tensor(table, dtype=u.dtype) + torch.as_tensor(array) * w
        return torch.where(mask, x[index], -x)

    seen = [agrees(f, way)]

    def changed():
        seen.append(agrees(f, way))
        assert seen[-1] is not seen[-2]

    k = 3.0
    changed()
    flag = False
    changed()
    table[0] = 5.0
    changed()
    table.append(0.0)
    table.pop(1)
    changed()
    array[1] = -4.0  # in place: the array is the same object
    changed()
    index[0] = 0
    changed()
    mask[0] = False
    changed()
    w = torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64)
    assert agrees(f, way) is seen[-1]
    w = torch.tensor(2.0, dtype=torch.float64)
    changed()


GLOBAL, NESTED = 1.5, {"list": [1.0, {"x": 2.0}]}


def uses_globals(t, u):
    return u * GLOBAL + NESTED["list"][1]["x"]


def test_globals_are_seen(way, monkeypatch):
    first = agrees(uses_globals, way)
    monkeypatch.setitem(globals(), "GLOBAL", 2.5)
    second = agrees(uses_globals, way)
    assert second is not first
    monkeypatch.setitem(NESTED["list"][1], "x", 7.0)
    assert agrees(uses_globals, way) is not second


def test_an_object_with_hidden_state_is_seen(way):
    class Rates:
        def __init__(self):
            self.k = 1.0

        def __call__(self, x):
            return x * self.k

    rates = Rates()

    def f(t, u):
        return rates(u)

    first = agrees(f, way)
    rates.k = 2.0
    assert agrees(f, way) is not first


def test_a_mutable_argument_of_a_torch_call_is_seen(way):
    shifts, dims, values = [1], [0], [0.5, 1.0, 2.0]

    def f(t, u):
        return torch.roll(u, shifts, dims) + torch.tensor(values, dtype=u.dtype)

    first = agrees(f, way)
    shifts[0] = 2
    second = agrees(f, way)
    values[0] = 0.7
    assert len({first, second, agrees(f, way)}) == 3


class Counting(nn.Module):
    def __init__(self, used):
        super().__init__()
        self.n, self.used = 0, used

    def forward(self, t, u):
        self.n += 1
        return u * self.n if self.used else u * 2


def test_a_counter_does_no_harm(way):
    first = agrees(Counting(used=False), way)
    f = Counting(used=False)
    assert agrees(f, way) is first
    assert agrees(f, way) is first


@pytest.mark.parametrize("f", [Counting(used=True), lambda t, u: u * np.random.rand()])  # noqa: NPY002
def test_what_is_no_function_is_refused(f, way):
    with pytest.raises(TraceError, match="something else at each call") as caught:
        way(f)
    assert "out of f" in caught.value.fix
    assert caught.value.location.startswith(__file__)


def test_nan_and_signed_zero_are_constants_too(way):
    k = float("nan")

    def f(t, u):
        return u + torch.where(torch.isnan(torch.as_tensor(k)), torch.copysign(u, torch.as_tensor(zero)), u)

    zero = 0.0
    first = agrees(f, way)
    assert agrees(f, way) is first
    zero = -0.0
    assert agrees(f, way) is not first


def test_true_and_one_are_told_apart(way):
    k: object = 1

    def f(t, u):
        return torch.sum(u.reshape(1, 3), 0, k) if isinstance(k, bool) else u * k

    first = agrees(f, way)
    k = 1.0
    assert agrees(f, way) is not first


def test_device_of_new_tensors_and_default_dtype_are_seen(way):
    def f(t, u):
        return u * torch.tensor([1.0, 2.0, 3.0]).to(u.dtype) * (1 / torch.tensor(3.0))

    first = agrees(f, way)
    with double_by_default():
        agrees(f, way)
    assert agrees(f, way) is first


def test_functional_parameters_of_another_structure(way):
    with double_by_default():
        net = nn.Linear(3, 3)
    params = dict(net.named_parameters())

    def f(t, u):
        return torch.func.functional_call(net, params, (u,))

    first = agrees(f, way)
    params["bias"] = torch.zeros(3, dtype=torch.float64)
    agrees(f, way)
    params["weight"] = torch.eye(3, dtype=torch.float64)
    agrees(f, way)
    assert first.m == 12


def test_two_uses_of_one_tensor_are_not_two_tensors(way):
    a, b = torch.ones(3, dtype=torch.float64), torch.full((3,), 2.0, dtype=torch.float64)

    def f(t, u):
        return u * a + b

    first = agrees(f, way)
    b = a
    second = agrees(f, way)
    assert second is not first
    assert (first.m, second.m) == (6, 3)


def test_custom_functions_with_equal_values_are_told_apart():
    compiled(record(lambda t, u: Right.apply(u), T, U))
    compiled(record(lambda t, u: u * 2, T, U))
    with pytest.raises(TraceError, match="not the derivative"):
        compiled(record(lambda t, u: Wrong.apply(u), T, U))


class Right(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x * 2

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        return 2 * g


class Wrong(Right):
    @staticmethod
    def forward(x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return 3 * g


def test_the_cache_does_not_grow_with_equal_programs():
    def make(w):
        return lambda t, u: torch.sin(w * u) + 0.25

    compiled(record(make(torch.ones(3, dtype=torch.float64)), T, U))
    before = len(tracing._cache)
    for _ in range(1000):
        compiled(record(make(torch.rand(3, dtype=torch.float64)), T, U))
    assert len(tracing._cache) == before


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(tracing, "_CACHE_SIZE", 5)
    monkeypatch.setattr(tracing, "_cache", type(tracing._cache)())
    for k in range(8):
        agrees(lambda t, u, k=k: u * (k + 0.5), by_record)
    assert len(tracing._cache) == 5
    first = compiled(record(lambda t, u: u * 7.5, T, U))
    assert first in tracing._cache.values()


def test_a_part_put_under_torch_compile_between_solves_is_noticed():
    """What was recorded without it is replayed without its stance, so it starts in the middle of a replay."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(2, 2).double()

        def forward(self, t, u):
            return self.net(u)

    model, u = Model(), torch.ones(2, dtype=torch.float64)
    plain, rhs = prepare(model, 0.0, u)
    assert not plain.under_compile
    model.net = torch.compile(model.net, backend="eager")
    compiled_part, same = prepare(model, 0.0, u)
    assert compiled_part.under_compile
    assert same is rhs
    model.net = torch.compile(nn.Sequential(model.net, nn.Tanh()), backend="eager")
    other = prepare(model, 0.0, u)[1]
    assert other is not rhs
    assert prepare(model, 0.0, u)[1] is other
