"""What a function can read, found in its code: every change of it is seen, and what cannot be told is not told."""

from __future__ import annotations

import dataclasses
import functools
import math
import random
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import sin

from pysciml.rhs.reads import Reads

U = torch.ones(2, dtype=torch.float64)
RATE, TABLE, UNUSED = 2.0, [1.0, 2.0], 0.0


def helper(x):
    return RATE * x


def other_helper(x):
    return -x


def by_a_global(t, u):
    return RATE * u


def by_a_helper(t, u):
    return helper(u)


def by_a_list(t, u):
    return TABLE[0] * u


def by_an_inner_function(t, u):
    return torch.stack([(lambda x: RATE * x)(x) for x in u])


def with_defaults(t, u, k=1.0, *, l=2.0):  # noqa: E741
    return k * l * u


class Net(torch.nn.Module):
    limit = 3.0

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
        self.scale, self.list, self.options, self.act = 0.1, [1.0], {"power": 2}, torch.sin

    @property
    def twice(self):
        return 2 * self.scale

    def drift(self, u):
        return self.twice * self.act(self.layers(u)) * self.limit

    def forward(self, t, u):
        return self.drift(u) ** self.options["power"] * self.list[0]


class Softer(torch.nn.Softplus):
    """A layer of torch's, whose code asks for `beta`."""

    steepness = 0.5

    @property
    def beta(self):
        return self.steepness

    @beta.setter
    def beta(self, value):
        pass


class Model:
    """No module, but with attributes and methods."""

    factor = 1.0

    def __init__(self):
        self.rate = 1.0

    def __call__(self, u):
        return self.rate * u

    def slope(self, t, u):
        return self.factor * self(u)


class Other(Model):
    def __call__(self, u):
        return -u


def of(make):
    f = make()
    found = Reads.of(f, (U, None))
    assert found is not None
    assert found.unchanged(f)
    return f, found


def closure(value):
    box = value
    return lambda t, u: box * u


def set_cell(f, value):
    f.__closure__[0].cell_contents = value


def assign(owner, name, value):
    return lambda monkeypatch, f: monkeypatch.setattr(owner(f), name, value)


ME = lambda f: __import__("sys").modules[__name__]  # noqa: E731
ITSELF = lambda f: f  # noqa: E731
OWNER = lambda f: f.__self__  # noqa: E731

CHANGES = {
    "a global": (lambda: by_a_global, assign(ME, "RATE", 3.0)),
    "a global that a helper reads": (lambda: by_a_helper, assign(ME, "RATE", 3.0)),
    "a helper": (lambda: by_a_helper, assign(ME, "helper", other_helper)),
    "a helper's code": (lambda: by_a_helper, assign(lambda f: helper, "__code__", other_helper.__code__)),
    "a global of an inner function": (lambda: by_an_inner_function, assign(ME, "RATE", 3.0)),
    "a global list": (lambda: by_a_list, assign(ME, "TABLE", [3.0, 4.0])),
    "what is in a global list": (lambda: by_a_list, lambda m, f: TABLE.append(3.0)),
    "a name that was a builtin": (lambda: lambda t, u: float(2) * u,
                                  lambda m, f: m.setattr(ME(f), "float", int, raising=False)),
    "a library": (lambda: lambda t, u: torch.sin(u), assign(lambda f: torch, "sin", torch.cos)),
    "a function of torch": (lambda: lambda t, u: sin(u), assign(ME, "sin", torch.cos)),
    "its code": (lambda: functools.update_wrapper(lambda t, u: u, by_a_global, (), ()),
                 lambda m, f: setattr(f, "__code__", by_a_global.__code__)),
    "a default": (lambda: with_defaults, assign(ITSELF, "__defaults__", (2.0,))),
    "a default by name": (lambda: with_defaults, lambda m, f: m.setitem(f.__kwdefaults__, "l", 3.0)),
    "a closure": (lambda: closure(2.0), lambda m, f: set_cell(f, 3.0)),
    "a tensor of a closure": (lambda: closure(torch.ones(2)), lambda m, f: set_cell(f, torch.ones(2))),
    "a list in a closure": (lambda: (lambda k: lambda t, u: k[0] * u)([1.0]),
                            lambda m, f: f.__closure__[0].cell_contents.append(2.0)),
    "a dict in a closure": (lambda: (lambda k: lambda t, u: k["a"] * u)({"a": 1.0}),
                            lambda m, f: f.__closure__[0].cell_contents.update(a=2.0)),
    "a key more": (lambda: (lambda k: lambda t, u: sum(k.values()) * u)({"a": 1.0}),
                   lambda m, f: f.__closure__[0].cell_contents.update(b=2.0)),
    "an attribute of a function": (lambda: by_a_helper, lambda m, f: m.setattr(helper, "note", 1, raising=False)),
    "an attribute of a tensor": (lambda: closure(torch.ones(2)),
                                 lambda m, f: setattr(f.__closure__[0].cell_contents, "note", 1)),
    "a number in a module": (Net, assign(ITSELF, "scale", 0.2)),
    "a list in a module": (Net, lambda m, f: f.list.append(1.0)),
    "a dict in a module": (Net, lambda m, f: f.options.update(power=3)),
    "a function in a module": (Net, assign(ITSELF, "act", torch.cos)),
    "a layer": (Net, lambda m, f: f.layers.__setitem__(1, torch.nn.Sigmoid())),
    "a layer more": (Net, lambda m, f: f.layers.append(torch.nn.Tanh())),
    "a weight": (Net, lambda m, f: setattr(f.layers[0], "weight", torch.nn.Parameter(torch.zeros(4, 2).double()))),
    "training": (Net, lambda m, f: f.eval()),
    "a buffer": (Net, lambda m, f: f.register_buffer("shift", torch.zeros(2))),
    "a hook": (Net, lambda m, f: f.layers[1].register_forward_hook(lambda *_: None)),
    "a hook before": (Net, lambda m, f: f.register_forward_pre_hook(lambda *_: None)),
    "a class attribute": (Net, assign(type, "limit", 4.0)),
    "a method of the class": (Net, assign(type, "drift", lambda self, u: u)),
    "a property": (Net, assign(type, "twice", property(lambda self: 3.0))),
    "a method of the object": (Net, lambda m, f: f.__dict__.update(drift=lambda u: u)),
    "forward": (Net, assign(type, "forward", lambda self, t, u: u)),
    "what torch's code asks for": (lambda: torch.nn.Sequential(Softer()), assign(lambda f: Softer, "steepness", 1.0)),
    "its class": (Net, assign(ITSELF, "__class__", type("Another", (Net,), {}))),
    "an object's number": (lambda: Model().slope, lambda m, f: setattr(f.__self__, "rate", 2.0)),
    "an object's class attribute": (lambda: Model().slope, assign(lambda f: Model, "factor", 2.0)),
    "what hides a class attribute": (lambda: Model().slope, lambda m, f: setattr(f.__self__, "factor", 2.0)),
    "how an object is called": (lambda: Model().slope, assign(lambda f: Model, "__call__", lambda self, u: u)),
    "an object's class": (lambda: Model().slope, lambda m, f: setattr(f.__self__, "__class__", Other)),
    "an object in a closure": (lambda: closure(types.SimpleNamespace) and (lambda o: lambda t, u: o.rate * u)(Model()),
                               lambda m, f: setattr(f.__closure__[0].cell_contents, "rate", 2.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen(name, monkeypatch):
    make, change = CHANGES[name]
    f, found = of(make)
    change(monkeypatch, f)
    assert not found.unchanged(f)


def test_the_change_of_what_is_not_read_is_none(monkeypatch):
    f, found = of(lambda: by_a_global)
    monkeypatch.setattr(ME(None), "UNUSED", 1.0)
    monkeypatch.setattr(torch, "cos", torch.sin)
    assert found.unchanged(f)


def test_other_values_of_tensors_are_no_change():
    f, found = of(Net)
    with torch.no_grad():
        for x in f.parameters():
            x.add_(1)
    assert found.unchanged(f)


@pytest.mark.parametrize("change", [
    lambda x: x.requires_grad_(), lambda x: setattr(x, "data", x.data.float()),
    lambda x: setattr(x, "data", torch.ones(3, dtype=torch.float64)),
])  # fmt: skip
def test_captured_tensors_keep_their_form(change):
    k = torch.ones(2, dtype=torch.float64)
    f = closure(k)
    found = Reads.of(f, (U, None), [k])
    assert found.unchanged(f)
    change(k)
    assert not found.unchanged(f)


def test_the_values_of_constants_count():
    place = torch.tensor([0, 1])
    f = closure(place)
    found = Reads.of(f, (U, None), (), [place])
    assert found.unchanged(f)
    place[0] = 1
    assert not found.unchanged(f)


def test_the_state_of_torch_counts():
    f, found = of(lambda: by_a_global)
    torch.set_default_dtype(torch.float64)
    try:
        assert not found.unchanged(f)
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("cpu"):  # a mode that adds arguments to calls
        assert not found.unchanged(f)
        assert Reads.of(by_a_global, (U, None)) is None
    hook = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert Reads.of(Net(), (U, None)) is None
    hook.remove()
    assert found.unchanged(f)


class Slots:
    __slots__ = ("rate",)

    def __init__(self):
        self.rate = 1.0


class MadeUp:
    def __getattr__(self, name):
        return 1.0


class Cached:
    @functools.cached_property
    def rate(self):
        return 1.0


class Counting(torch.nn.Module):
    def forward(self, t, u):
        self.count = getattr(self, "count", 0) + 1
        return u


class Calling(torch.nn.Module):
    def __call__(self, t, u):
        return RATE * u


class Above(Net):
    def forward(self, t, u):
        return super().forward(t, u)


@dataclasses.dataclass
class Equal:
    rates: np.ndarray


class Leaf:
    """A state of the user's own kind."""


def counts(t, u):
    global UNUSED
    UNUSED = UNUSED + 1.0
    return u


def imports(t, u):
    import math as m

    return m.pi * u


def switches(t, u):
    return u if torch.is_grad_enabled() else -u


def with_a_context(t, u):
    with torch.enable_grad():
        return -u


def remembers(t, u, seen=[0.0]):  # noqa: B006
    return eval("seen[0]") * u  # noqa: S307


def nonlocal_state():
    count = 0

    def f(t, u):
        nonlocal count
        count += 1
        return u

    return f


ATTRIBUTE = lambda o: lambda t, u: o.rate * u  # noqa: E731
NOTED = torch.ones(2)
NOTED.note = 2.0

UNKNOWN = {
    "an array": closure(np.ones(2)),
    "a random number": lambda t, u: random.random() * u,
    "a bound method of random": closure(random.random),
    "an import": imports,
    "a global that it sets": counts,
    "a variable outside that it sets": nonlocal_state(),
    "an attribute that it sets": Counting(),
    "text that it runs": remembers,
    "a context": with_a_context,
    "what is switched on": switches,
    "slots": ATTRIBUTE(Slots()),
    "attributes that are made up": ATTRIBUTE(MadeUp()),
    "a property that is remembered": ATTRIBUTE(Cached()),
    "a partial": functools.partial(with_defaults, k=2.0),
    "an object": Model(),
    "a method of C's": closure([1.0].append),
    "a set": closure({1.0}),
    "a tensor's own attribute": lambda t, u: NOTED.note * u,
    "a gradient": lambda t, u: NOTED.grad * u,
    "a module that is called in its own way": Calling(),
    "super": Above(),
    "a hidden attribute": lambda t, u: u.__class__(u),
    "a name of another kind of state": lambda t, u: u.total(),
    "an equality of its own": (lambda a, b: lambda t, u: u if a == b else -u)(Equal(1.0), Equal(1.0)),
    "a compiled module": torch.jit.ScriptFunction,
    "too many": closure([1.0] * 2000),
    "a name that is nowhere": lambda t, u: undefined * u,  # noqa: F821
    "a decorated function": torch.no_grad()(by_a_global),
    "normalised weights": torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2)),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_not_told(name):
    assert Reads.of(UNKNOWN[name], (U, None)) is None


def test_a_state_of_the_users_own_kind_is_not_known():
    assert Reads.of(by_a_global, (Leaf(), None)) is None
    assert Reads.of(by_a_global, ({"x": U}, [U, (U,)])) is not None


@pytest.mark.parametrize("f", [
    lambda t, u: F.relu(u) + math.pi, lambda t, u: torch.stack([x.exp() for x in u]), Model().slope, Net(), Net().drift,
    lambda t, u: torch.linalg.norm(u) * u.T, torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Softplus()),
    (lambda net: lambda t, u, p: net(u) * p["k"])(Net().layers), (lambda c: lambda t, u: c.rate * u)(Model()),
])  # fmt: skip
def test_what_is_usual_is_known(f):
    assert Reads.of(f, (U, None)).unchanged(f)


def test_it_is_much_faster_than_a_second_run_would_be_long():
    """Of many operations one look: the number of things to compare does not grow with them."""
    long = eval("lambda t, u: " + " + ".join(["RATE * u"] * 200), {"RATE": 1.0})  # noqa: S307
    found = Reads.of(long, (U, None))
    assert len(found.entries) == 1
