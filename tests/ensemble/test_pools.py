"""Executors that the user brings, and how one is chosen."""

from __future__ import annotations

import multiprocessing
import os
import queue
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
import torch
from ensemble_cases import COMPILED, EAGER, D, deadly, solved

import pysciml as ps
from pysciml.ensemble.executors import dask, executor_of


def ensemble() -> ps.EnsembleProblem:
    u0 = torch.ones(3, 1, dtype=D)
    return ps.EnsembleProblem(ps.ODEProblem(lambda t, u: -u, u0[0], (0.0, 1.0)), u0)


def test_a_pool_of_threads_gives_the_same_numbers():
    with ThreadPoolExecutor(2) as pool:
        sol, grads = solved(pool, **COMPILED)
    here, grads_here = solved("serial", **COMPILED)
    assert torch.equal(sol.u, here.u)
    for theirs, ours in zip(grads, grads_here, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-12, atol=0)


@pytest.mark.skipif(sys.platform == "win32", reason="kills its workers by signals")
def test_a_pool_of_processes_solves_and_says_so_when_it_breaks(tmp_path):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert torch.equal(ps.solve_ensemble(ensemble(), executor=pool).u, ps.solve_ensemble(ensemble()).u)
        with pytest.raises(ps.WorkerError, match="the ProcessPoolExecutor is broken: a worker died") as caught:
            ps.solve_ensemble(deadly(str(tmp_path)), executor=pool, **EAGER)
        assert 'executor="processes"' in caught.value.fix
    assert len(os.listdir(tmp_path)) == 1


class LonelyClient:
    """A client of a cluster that has lost its workers."""

    asynchronous = False
    status = "running"
    cluster = None

    def nthreads(self):
        return {}


def test_a_local_dask_cluster_without_workers_is_told_and_another_waited_for(monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(dask, "_LOOK", 0.01)
    monkeypatch.setattr(dask, "_PATIENCE", 0.05)
    client, done = LonelyClient(), queue.SimpleQueue()
    client.cluster = object.__new__(distributed.LocalCluster)
    with pytest.raises(ps.WorkerError, match="Dask started no others") as caught:
        dask.Dask(client)._next(done)
    assert caught.value.got == "no worker for 0.05 s"
    client.cluster = None  # somewhere else, where workers may be in a queue
    threading.Timer(0.3, done.put, ["a future"]).start()
    assert dask.Dask(client)._next(done) == "a future"


def test_an_asynchronous_dask_client_is_refused():
    client = LonelyClient()
    client.asynchronous = True
    with pytest.raises(ps.UnsupportedError, match="an asynchronous client cannot"):
        dask.Dask(client)


def test_there_is_no_such_executor():
    for wrong in ("gpu", 3, ps):
        with pytest.raises(ps.InvalidInputError, match="there is no executor"):
            ps.solve_ensemble(ensemble(), executor=wrong)


@pytest.mark.parametrize(("name", "module"), [("dask", "distributed"), ("ray", "ray")])
def test_a_missing_library_is_named_with_the_extra_that_brings_it(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ps.MissingExtraError, match=rf"executor=\"{name}\" needs the package `{module}`") as caught:
        ps.solve_ensemble(ensemble(), executor=name)
    assert caught.value.fix == f'pip install "pysciml[{name}]"'


def test_second_derivatives_through_workers_raise():
    many = ensemble()
    u0 = many.u0.clone().requires_grad_()
    with ThreadPoolExecutor(1) as pool:
        sol = ps.solve_ensemble(ps.EnsembleProblem(many.prob, u0), executor=pool, **EAGER)
        (grad,) = torch.autograd.grad((sol.u**2).sum(), u0, create_graph=True)
        with pytest.raises(ps.UnsupportedError, match='second derivatives through executor="ThreadPoolExecutor"'):
            grad.sum().backward()


def test_the_default_is_serial_where_threads_cannot():
    assert ps.solve_ensemble(ensemble()).stats.engine == "embedded"
    assert executor_of("processes") is executor_of("processes")  # one pool for all calls


def test_a_later_change_of_a_parameter_leaves_the_gradient_of_the_solve_before():
    k = torch.ones(1, dtype=D, requires_grad=True)
    prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(1, dtype=D), (0.0, 1.0))
    many = ps.EnsembleProblem(prob, torch.ones(2, 1, dtype=D))
    with ThreadPoolExecutor(1) as pool:
        sol = ps.solve_ensemble(many, saveat=[1.0], executor=pool, reltol=1e-9, abstol=1e-9)
        with torch.no_grad():
            k += 1
        sol.u.sum().backward()
    torch.testing.assert_close(k.grad, -2 * torch.exp(torch.tensor([-1.0], dtype=D)), rtol=1e-6, atol=0)


def test_states_of_several_parts_and_what_members_share():
    u0 = {"x": torch.tensor([1.0], dtype=D, requires_grad=True), "v": torch.zeros(2, dtype=D, requires_grad=True)}
    p = {"k": torch.rand(3, 1, dtype=D, requires_grad=True), "c": torch.rand(3, 2, dtype=D, requires_grad=True)}

    def f(t, u, p):
        return {"x": -p["k"] * u["x"], "v": p["c"] - u["v"]}

    prob = ps.ODEProblem(f, u0, (0.0, 1.0), {name: x[0].detach() for name, x in p.items()})
    found = []
    with ThreadPoolExecutor(1) as pool:
        for executor in ("serial", pool):
            sol = ps.solve_ensemble(ps.EnsembleProblem(prob, p=p), saveat=[0.5, 1.0], executor=executor)
            assert {name: x.shape for name, x in sol.u.items()} == {"x": (3, 2, 1), "v": (3, 2, 2)}
            inputs = [*u0.values(), *p.values()]
            found.append([sol.u["x"], *torch.autograd.grad(sol.u["x"].sum() + (sol.u["v"] ** 2).sum(), inputs)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-12, atol=0)


def test_what_no_loss_asks_for_has_no_gradient():
    k, unused = (torch.ones(1, dtype=D, requires_grad=True) for _ in range(2))
    prob = ps.ODEProblem(lambda t, u: -k * u if unused is not None else u, torch.ones(1, dtype=D), (0.0, 1.0))
    with ThreadPoolExecutor(1) as pool:
        sol = ps.solve_ensemble(ps.EnsembleProblem(prob, torch.ones(4, 1, dtype=D)), executor=pool, saveat=[1.0],
                                reltol=1e-9, abstol=1e-9)  # fmt: skip
        sol.u[2].sum().backward()  # one share of four is solved again
    torch.testing.assert_close(k.grad, -torch.exp(torch.tensor([-1.0], dtype=D)), rtol=1e-6, atol=0)
    assert unused.grad is None
