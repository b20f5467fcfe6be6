"""What is known of a function goes with it: notes neither outlive their owner nor come along with its copies."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import types
import weakref

import pytest
import torch

from pysciml.rhs import replay
from pysciml.rhs.notes import Notes, note, noted, owner_of
from pysciml.rhs.replay import reads_the_same  # before the fixture of all tests puts another in its place
from pysciml.rhs.trace import prepare

T, U = torch.tensor(0.3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 3).double()

    def forward(self, t, u):
        return self.layer(u).tanh()

    def other(self, t, u):
        return -self.layer(u)


class Reason:
    pass


@pytest.fixture
def runs(monkeypatch):
    """How often a function was run to see whether it does the same. The fixture of all tests, which runs it, is off."""
    counts = []
    monkeypatch.setattr(replay, "reads_the_same", reads_the_same)
    run = replay.runs_the_same
    monkeypatch.setattr(replay, "runs_the_same", lambda *args: counts.append(1) or run(*args))
    return counts


@pytest.mark.parametrize("make", [Net, lambda: Net().other, lambda: lambda t, u: -u])
def test_what_reads_can_tell_is_run_once(make, runs):
    f = make()
    programs = [prepare(f, T, U) for _ in range(4)]
    assert len(runs) == 1
    assert all(rhs is programs[0][1] for _, rhs in programs)


def test_batches_of_several_sizes_take_turns(runs):
    net = Net()
    for _ in range(3):
        for size in (4, 8, 3):
            program, rhs = prepare(net, T, torch.ones(size, 3, dtype=torch.float64))
            assert rhs.n == 3 * size == program.u_layout.size
    assert len(runs) == 3


def test_a_change_after_notes_were_made_is_seen():
    net = Net()
    before = [prepare(net, T, U)[1] for _ in range(3)][-1]
    net.forward = types.MethodType(Net.other, net)
    after = prepare(net, T, U)[1]
    assert after is not before
    assert after is prepare(net.other, T, U)[1]


@pytest.mark.parametrize("make", [Net, lambda: Net().other])
def test_notes_go_with_their_owner_at_once(make):
    """Nothing waits for the garbage collector, so that the memory of large models is free again."""
    f = make()
    for _ in range(3):
        prepare(f, T, U)
    assert Notes.of(owner_of(f)) is not None
    gone = weakref.ref(owner_of(f)), weakref.ref(owner_of(f).layer.weight)
    gc.disable()
    try:
        del f
        assert [x() for x in gone] == [None, None]
    finally:
        gc.enable()


def test_an_owner_whose_parts_lead_back_to_it_is_collected():
    net = Net()
    net.layer.__dict__["above"] = net
    for _ in range(3):
        prepare(net, T, U)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])  # noqa: S301
def test_copies_come_without(copied):
    net, reason = Net(), Reason()
    note(net, reason, "something")
    assert noted(net, reason) == "something"
    other = copied(net)
    assert noted(other, reason) is None
    note(other, reason, "another")
    assert (noted(net, reason), noted(other, reason)) == ("something", "another")


def test_a_decorated_function_has_none_of_what_it_wraps():
    def f(t, u):
        return -u

    note(f, reason := Reason(), "something")
    assert noted(functools.wraps(f)(lambda t, u: u), reason) is None


def test_a_pickle_is_read_without_pysciml():
    net = torch.nn.Linear(2, 2)
    note(net, Reason(), "something")
    assert b"pysciml." not in pickle.dumps(net)


def test_a_note_goes_with_its_reason():
    net, reason = Net(), Reason()
    note(net, reason, "something")
    del reason
    gc.collect()
    assert len(Notes.of(net).by) == 0
