"""Which engine solves: what is asked for by name, and how `auto` chooses. Nothing is started."""

from __future__ import annotations

import pytest
import torch

import pysciml as ps
from pysciml.engines.select import choose, engine_name


@pytest.fixture
def julia_is_set_up(tmp_path):
    """Paths that are configured; the choice looks no further."""
    with ps.config.override(engine="auto", julia_exe="/julia", julia_project=str(tmp_path)):
        yield


@pytest.mark.usefixtures("julia_is_set_up")
def test_auto_takes_julia_where_it_is_set_up():
    assert engine_name() == choose(None, None, None, on_cpu=True) == "julia"
    assert choose("auto", ps.Tsit5(), ps.GaussAdjoint(), on_cpu=True) == "julia"
    assert choose("auto", ps.Tsit5(), ps.DirectAdjoint(), on_cpu=True) == "julia"  # which knows its steps


@pytest.mark.usefixtures("julia_is_set_up")
@pytest.mark.parametrize(
    ("alg", "sensealg", "on_cpu"),
    [
        (ps.TorchDiffEq("rk4"), None, True),
        (None, ps.DirectAdjoint(), True),
        (ps.Tsit5(), None, False),
    ],
    ids=["TorchDiffEq", "DirectAdjoint", "on a GPU"],
)
def test_auto_takes_the_embedded_engine_for_what_it_alone_has(alg, sensealg, on_cpu):
    assert choose("auto", alg, sensealg, on_cpu) == "embedded"
    assert choose("julia", alg, sensealg, on_cpu) == "julia"  # by name it is that one, which says what it lacks


@pytest.mark.usefixtures("no_julia")
def test_auto_takes_the_embedded_engine_without_julia():
    with ps.config.override(engine="auto"):
        assert engine_name() == choose(None, ps.CVODE_BDF(), None, on_cpu=True) == "embedded"
        assert choose(None, None, None, on_cpu=True, in_julia=True) == "julia"  # which says how to get it


@pytest.mark.usefixtures("julia_is_set_up")
def test_an_argument_is_stronger_than_the_option():
    with ps.config.override(engine="julia"):
        assert engine_name("embedded") == choose("embedded", None, None, on_cpu=True) == "embedded"
    with pytest.raises(ps.InvalidInputError, match="no engine 'jullia'"):
        engine_name("jullia")


def batched(width: int, batch: int, **options):
    """The solution of a network over a batch, by the algorithm that is chosen."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.Tanh(), torch.nn.Linear(width, 2)).double()
    prob = ps.ODEProblem(lambda t, u: net(u), torch.randn(batch, 2, dtype=torch.float64), (0.0, 1.0))
    sol = ps.solve(prob, saveat=[1.0], reltol=1e-6, **options)
    sol.u.sum().backward()
    assert net[0].weight.grad.abs().sum() > 0
    return sol.stats.engine, sol.stats.alg


def test_without_julia_a_network_over_a_batch_is_solved_by_torch():
    assert batched(8, 31, engine="embedded") == ("embedded", "CVODE_BDF")
    assert batched(8, 32, engine="embedded") == ("embedded", "DP5")
    assert batched(8, 32, engine="embedded", sensealg=ps.GaussAdjoint()) == ("embedded", "CVODE_BDF")


@pytest.mark.julia
def test_auto_leaves_what_is_nothing_but_large_products_to_torch():
    assert batched(8, 32, engine="auto") == ("julia", "Tsit5")
    assert batched(150, 1024, engine="auto") == ("embedded", "DP5")
    assert batched(50, 300, engine="julia") == ("julia", "Tsit5")
