"""A stochastic equation that is solved again: the same numbers as the first time, and whatever changed is seen."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
import torch

import pysciml as ps
from pysciml.errors import InvalidInputError
from pysciml.stochastic import settled

pytestmark = pytest.mark.julia
TIMES = torch.linspace(0, 1, 5, dtype=torch.float64)


class Net(torch.nn.Module):
    """Drift by a network, diffusion by a number that is no tensor and one that is."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, scale: float = 0.3):
        super().__init__()
        torch.manual_seed(0)
        self.drift = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
        self.spread = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
        self.scale = scale

    def f(self, t, y):
        return self.drift(y)

    def g(self, t, y):
        return self.scale * self.spread * y


def start(batch: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.linspace(0.1, 1.0, 2 * batch, dtype=dtype).reshape(batch, 2)


def solve(net, y0=None, ts=TIMES, **options):
    y0 = start() if y0 is None else y0
    return ps.sdeint(net, y0, ts, **({"method": "euler", "dt": 0.05, "seed": 7, "engine": "julia"} | options))


def fresh(net):
    """What a net gives that was never solved."""
    other = Net(net.scale)
    other.load_state_dict(net.state_dict())
    return other


@pytest.fixture
def net():
    net = Net()
    solve(net)
    return net


@pytest.fixture
def kept(monkeypatch):
    """Counts the solves that went the short way."""
    found = []
    short = settled.Settled.solve

    def counted(*args):
        found.append(args)
        return short(*args)

    monkeypatch.setattr(settled.Settled, "solve", counted)
    return found


def gradient(net, **options):
    net.zero_grad()
    y0 = start().requires_grad_()
    solve(net, y0, **options).square().sum().backward()
    return [y0.grad, *(p.grad.clone() for p in net.parameters())]


def test_the_second_solve_goes_the_short_way_to_the_same_numbers(net, kept):
    assert torch.equal(solve(net), solve(fresh(net)))
    assert len(kept) == 1


def test_gradients_are_those_of_the_long_way(net, kept):
    found, truth = gradient(net), gradient(fresh(net))
    again = gradient(net)
    assert len(kept) == 2
    for a, b, c in zip(found, truth, again, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_seeds_are_drawn_by_torch_as_on_the_long_way(net, kept):
    others = fresh(net), fresh(net)
    torch.manual_seed(3)
    short = solve(net, seed=None), solve(net, seed=None)
    torch.manual_seed(3)
    long = [solve(other, seed=None) for other in others]
    assert len(kept) == 2
    assert torch.equal(short[0], long[0])
    assert torch.equal(short[1], long[1])
    assert not torch.equal(*short)


def changed_weight(net):
    with torch.no_grad():
        net.drift[0].weight.mul_(2)


def changed_number(net):
    net.scale = 0.9


def changed_layer(net):
    net.drift[1] = torch.nn.Sigmoid()


def changed_parameter(net):
    net.spread = torch.nn.Parameter(torch.tensor(0.1, dtype=torch.float64))


@pytest.mark.parametrize("change", [changed_weight, changed_number, changed_layer, changed_parameter])
def test_what_changes_is_seen(net, change):
    change(net)
    other = Net()
    change(other)
    assert torch.equal(solve(net), solve(other))
    assert not torch.equal(solve(net), solve(Net()))


def test_a_method_that_is_replaced_is_seen(net, monkeypatch):
    monkeypatch.setattr(Net, "g", lambda self, t, y: 0.0 * y)
    assert torch.equal(solve(net, seed=1), solve(net, seed=2))


@pytest.mark.parametrize(
    "asked",
    [{"ts": TIMES[:3]}, {"dt": 0.025}, {"method": "SRIW1"}, {"y0": start(5)}, {"y0": 2 * start()},
     {"y0": start(dtype=torch.float32)}, {"method": "SOSRI", "adaptive": True, "rtol": 1e-2}],
    ids=str,
)  # fmt: skip
def test_what_is_asked_otherwise_is_solved_otherwise(net, asked):
    if asked.get("y0", start()).dtype is torch.float32:
        net = net.float()
    for _ in range(2):
        assert torch.equal(solve(net, **asked), solve(copy.deepcopy(net), **asked))


def test_batches_take_turns(net, kept):
    solve(net, start(5))
    for batch in (3, 5, 3, 5):
        assert solve(net, start(batch)).shape == (5, batch, 2)
    assert len(kept) == 4


def test_a_start_that_is_not_finite_raises_as_the_first_time(net):
    with pytest.raises(InvalidInputError, match="`u0` must be finite"):
        solve(net, start() * float("nan"))


def test_times_that_are_changed_in_place_are_seen(net):
    ts = TIMES.clone()
    solve(net, ts=ts)
    ts[1:] *= 0.5
    assert torch.equal(solve(net, ts=ts), solve(fresh(net), ts=ts))


def test_a_solve_that_fails_raises_each_time(net):
    with torch.no_grad():
        net.spread.fill_(1e300)
    for _ in range(2):
        with pytest.raises(ps.SolveError, match="forward solve by EM"):
            solve(net)


def test_functions_of_two_objects_are_not_kept(kept):
    class Pair:
        noise_type, sde_type = "diagonal", "ito"

        def __init__(self):
            self.f, self.g = Net().f, Net().g

    pair = Pair()
    first = solve(pair)
    assert torch.equal(first, solve(pair))
    assert not kept


class Plain:
    """An equation that is no module, whose attributes only count where they are named."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, level: float):
        self.level = level

    def f(self, t, y):
        return -y

    def g(self, t, y):
        return self.level * y


def test_a_diffusion_lent_by_another_object_is_seen(kept):
    sde, other = Plain(0.1), Plain(0.9)
    solve(sde)
    assert torch.equal(solve(sde), solve(Plain(0.1)))
    assert len(kept) == 1
    sde.g = other.g
    assert torch.equal(solve(sde), solve(other))


def test_what_changes_each_time_is_not_looked_for_for_ever(net, monkeypatch):
    tries = []
    look = settled._found
    monkeypatch.setattr(settled, "_found", lambda prob: tries.append(1) or look(prob))
    for i in range(9):
        net.scale = 0.1 * i
        solve(net)
    assert len(tries) == settled._LOOKS - 1  # and that of the fixture


def test_times_that_are_others_each_time_are_not_looked_at_for_ever(net, monkeypatch):
    tries = []
    look = settled._found
    monkeypatch.setattr(settled, "_found", lambda prob: tries.append(1) or look(prob))
    for i in range(9):
        solve(net, ts=TIMES * (0.9 - 0.01 * i))
    assert len(tries) == settled._LOOKS - 1


def test_a_drift_that_is_called_back_is_not_kept(kept):
    class Branch(Net):
        def f(self, t, y):
            return -y if y.sum().item() > 0 else self.drift(y)

    net = Branch()
    for _ in range(2):
        with pytest.warns(ps.PySciMLWarning, match="cannot be compiled") as told:
            solve(net)
        assert len(told) == 1
    assert not kept


def test_a_method_of_torchsde_after_one_of_julia(net):
    method = ps.TorchSDE("euler", {})
    found = ps.sdeint(net, start(), TIMES, method=method, dt=0.05, engine="embedded")
    assert found.shape == (5, 3, 2)


def test_models_are_freed_at_once():
    net = Net()
    solve(net), solve(net)
    gone = weakref.ref(net)
    gc.disable()
    try:
        del net
        assert gone() is None
    finally:
        gc.enable()


def test_copies_and_pickles_come_without(net, kept):
    pickled = pickle.loads(pickle.dumps(net))  # noqa: S301 - its own
    for other in (copy.deepcopy(net), pickled):
        solve(other)
    assert not kept


def test_it_is_called_from_compiled_code(net):
    compiled = torch.compile(lambda y: 2 * solve(net, y), backend="eager")
    with torch.no_grad():
        assert torch.equal(compiled(start()), 2 * solve(net))
        assert torch.equal(compiled(2 * start()), 2 * solve(net, 2 * start()))


class General(Net):
    """Two Brownian motions for each entry of the batch."""

    noise_type = "general"

    def g(self, t, y):
        return self.scale * torch.stack([self.spread * y, torch.ones_like(y)], dim=-1)


def test_general_noise_goes_the_short_way_too(kept):
    net, other = General(), General()
    solve(net)
    assert torch.equal(solve(net), solve(other))
    assert len(kept) == 1
    found, truth = gradient(net), gradient(General())
    assert len(kept) == 2
    for a, b in zip(found, truth, strict=True):
        assert torch.equal(a, b)
