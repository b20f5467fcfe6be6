"""What crosses to workers: all of it, or an error that names what does not. Nothing is started here."""

from __future__ import annotations

import functools
import pickle
import sys
import threading
import types

import pytest
import torch

import pysciml as ps
from pysciml.ensemble import tasks
from pysciml.ensemble.parcel import pack, unpack

D = torch.float64
GLOBAL = torch.ones(1, dtype=D, requires_grad=True)


def of(f, p=None) -> ps.EnsembleProblem:
    u0 = torch.ones(1, dtype=D)
    return ps.EnsembleProblem(ps.ODEProblem(f, u0, (0.0, 1.0), p), u0.expand(2, 1))


def uses_a_global(t, u):
    return -GLOBAL * u


def test_tensors_cross_once_each_and_come_out_as_leaves():
    net = torch.nn.Linear(2, 2, dtype=D)
    held = torch.exp(net.bias)
    f = functools.partial(lambda a, t, u: net(u) * held * a, held)
    parcel, tensors = pack([f, net], f)
    assert {id(x) for x in tensors} == {id(net.weight), id(net.bias), id(held)}
    assert len(tensors) == 3
    (g, again), leaves = unpack(parcel)
    assert again.weight is leaves[[x is net.weight for x in tensors].index(True)]
    assert isinstance(again.weight, torch.nn.Parameter)
    assert all(x.is_leaf and x.requires_grad for x in leaves)
    u = torch.ones(2, dtype=D)
    assert torch.equal(g(0.0, u), f(0.0, u))


def test_a_global_of_f_s_own_module_crosses_with_its_value():
    parcel, tensors = pack(uses_a_global, uses_a_global)
    assert [x is GLOBAL for x in tensors] == [True]
    f, (k,) = unpack(parcel)
    f(0.0, torch.ones(1, dtype=D)).sum().backward()
    assert k.grad == -1
    assert GLOBAL.grad is None


class Locked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.options = {"guard": threading.Lock()}

    def forward(self, t, u):
        return -u


def captures_a_lock():
    lock = threading.Lock()

    def f(t, u):
        with lock:
            return -u

    return f


@pytest.mark.parametrize(("f", "name"), [
    (captures_a_lock(), r"`f`, the captured variable `lock`"),
    (Locked(), r"`f`, the attribute `options`, `guard`"),
    (functools.partial(lambda lock, t, u: -u, threading.Lock()), r"`f`, its arguments, item 0"),
])  # fmt: skip
def test_what_cannot_cross_is_named(f, name):
    with pytest.raises(ps.UnsupportedError, match=f"{name} cannot be sent to another process") as caught:
        ps.solve_ensemble(of(f), executor="processes")
    assert "cannot pickle '_thread.lock' object" in caught.value.got
    assert 'executor="serial"' in caught.value.fix


@pytest.fixture
def helper():
    """A module that workers would import for themselves."""
    module = types.ModuleType("helper_of_f")
    exec("import torch\nK = torch.ones(1, dtype=torch.float64)\ndef slow(u): return -K * u", vars(module))  # noqa: S102
    sys.modules["helper_of_f"] = module
    yield module
    del sys.modules["helper_of_f"]


@pytest.mark.parametrize("untraceable", [False, True])
def test_a_tensor_that_stays_behind_is_refused(helper, untraceable):
    helper.K.requires_grad_()

    def f(t, u):
        return helper.slow(u) if not untraceable or u.sum().item() < 5 else u

    with pytest.raises(ps.UnsupportedError, match="f uses a tensor that does not cross to the workers") as caught:
        ps.solve_ensemble(of(f), "Tsit5", executor="processes", engine="embedded")
    assert "pass it in p" in caught.value.fix


def test_another_f_in_the_workers_is_refused():
    here = torch.tensor([1.0, 1e-3], dtype=D)
    tasks.check_slope(here * (1 + 1e-9), here)
    tasks.check_slope(torch.tensor([torch.nan, 1.0]), torch.tensor([torch.nan, 1.0]))
    for other in (here * 1.001, here[:1], torch.tensor([torch.nan, 1e-3], dtype=D)):
        with pytest.raises(ps.InvalidInputError, match="f is another function in the workers than here"):
            tasks.check_slope(other, here)


@pytest.mark.parametrize("error", [
    ps.SolveError("it stopped", retcode=ps.ReturnCode.MaxIters, t=0.5, got="words", fix="a line"),
    ps.TraceError("no", op="aten.x", location="f.py:3", source="x", got="it"),
    ps.MissingExtraError("ray", "ray", "this"),
    ps.InvalidInputError("bad", got="1", expected="2", fix="3"),
    ps.WorkerError("dead"),
])  # fmt: skip
def test_errors_come_back_as_they_were(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_an_error_that_cannot_cross_comes_as_its_text():
    class Odd(Exception):  # noqa: N818
        def __init__(self, a, b):
            super().__init__(f"{a} and {b}")

    def task(job, share):
        raise Odd(1, 2)

    with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
        tasks.result(tasks.told(task, b"", b""))
