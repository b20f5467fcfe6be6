"""What every executor must do: the same numbers, complete gradients, failures told, killed workers made up for."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import nullcontext

import pytest
import torch
from ensemble_cases import COMPILED, EAGER, JULIA, D, blow_ups, deadly, solved

import pysciml as ps

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills its workers by signals")
KILLS = 2  # one in the forward, one in the backward solve


@pytest.fixture(scope="module", params=["processes", "dask", "ray"])
def executor(request):
    """Real clusters on this machine, two workers each."""
    if request.param == "processes":
        yield "processes"
    elif request.param == "dask":
        yield from dask_client()
    else:
        yield from ray_cluster()


def dask_client():
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="localhost:0")
    with cluster, distributed.Client(cluster, set_as_default=False) as client:
        yield client


def ray_cluster():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield "ray"
    ray.shutdown()


@pytest.mark.parametrize("options", [COMPILED, EAGER], ids=["compiled", "eager"])
def test_numbers_and_gradients_are_those_of_serial(executor, options):
    same_as_serial(executor, options, times=True)


@pytest.mark.julia
@pytest.mark.parametrize("times", [False, True])  # one call into Julia a share; one a member
def test_numbers_and_gradients_are_those_of_serial_in_julia(executor, times):
    same_as_serial(executor, JULIA, times)


def same_as_serial(executor, options, times):
    (here, grads_here), (there, grads_there) = (solved(x, times=times, **options) for x in ("serial", executor))
    assert torch.equal(here.u, there.u)
    assert len(grads_here) == (7 if times else 5)
    for ours, theirs in zip(grads_here, grads_there, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-12, atol=0)
    assert there.stats.nf == here.stats.nf
    assert (there.stats.alg, there.stats.engine) == (here.stats.alg, here.stats.engine)
    assert torch.equal(there.t, here.t)


@pytest.mark.parametrize("options", [COMPILED, EAGER], ids=["compiled", "eager"])
def test_a_failed_trajectory_is_told_and_leaves_the_others(executor, options):
    found = {}
    for by in ("serial", executor):
        many, k = blow_ups()
        with pytest.warns(ps.PySciMLWarning, match="1 of 5 trajectories failed; number 3 stopped at t = 0.5"):
            sol = ps.solve_ensemble(many, executor=by, saveat=[0.25, 1.0], **options)
        sol.u[sol.successful].sum().backward()
        found[by] = sol, many.u0.grad, k.grad
    (here, *grads_here), (there, *grads_there) = found.values()
    assert there.failures == here.failures
    assert there.failed == [3]
    assert "stopped at t = 0.5" in there.failures[0].message
    assert there.u[3].isnan().all()
    assert torch.equal(there.u[there.successful], here.u[here.successful])
    for ours, theirs in zip(grads_here, grads_there, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-12, atol=0)
    assert grads_there[0][3] == 0
    assert grads_there[1].isfinite().all()


def test_the_share_of_a_killed_worker_is_run_again(executor, tmp_path):
    found = {}
    for by in ("serial", executor):
        many = deadly(str(tmp_path), KILLS)
        sol = ps.solve_ensemble(many, executor=by, saveat=[1.0], **EAGER)
        struck = len(os.listdir(tmp_path))
        assert struck == (0 if by == "serial" else KILLS)
        if by != "serial":
            (tmp_path / "1").unlink()  # once more, in the backward solve
        sol.u.sum().backward()
        found[by] = sol.u.detach(), many.u0.grad
    assert len(os.listdir(tmp_path)) == KILLS
    (u, grad), (u_there, grad_there) = found.values()
    assert torch.equal(u_there, u)
    torch.testing.assert_close(grad_there, grad, rtol=1e-12, atol=0)
    torch.testing.assert_close(u[:, 0, 0], torch.exp(torch.tensor(1.0)) * many.u0[:, 0].detach(), rtol=1e-4, atol=0)


def test_what_f_raises_in_a_worker_arrives_with_its_place_there(executor):
    here = os.getpid()

    def f(t, u):
        if os.getpid() != here and t > 0.5:
            raise ArithmeticError("f has its reasons")
        return -u

    many = ps.EnsembleProblem(ps.ODEProblem(f, torch.ones(1, dtype=D), (0.0, 1.0)), torch.ones(2, 1, dtype=D))
    with pytest.raises(ArithmeticError, match="f has its reasons") as caught:
        ps.solve_ensemble(many, executor=executor, **EAGER)
    assert "in a worker" in str(caught.value.__cause__)
    assert ", in f\n" in str(caught.value.__cause__)


def test_workers_that_always_die_are_told(executor, tmp_path):
    many = deadly(str(tmp_path), deaths=1000, members=2)  # each worker takes seconds to start
    named = executor if isinstance(executor, str) else "dask"  # a cluster of its own, which this ends
    with few_deaths_allowed(named), pytest.raises(ps.WorkerError, match="died again and again"):
        ps.solve_ensemble(many, executor=named, **EAGER)
    assert len(os.listdir(tmp_path)) > 1
    if named != "dask":
        still_works = ps.EnsembleProblem(ps.ODEProblem(lambda t, u: -u, torch.ones(1, dtype=D), (0.0, 1.0)),
                                         torch.ones(2, 1, dtype=D))  # fmt: skip
        assert not ps.solve_ensemble(still_works, executor=named).failed


def few_deaths_allowed(executor):
    """Dask's workers take seconds to start again."""
    if executor != "dask":
        return nullcontext()
    import dask

    return dask.config.set({"distributed.scheduler.allowed-failures": 1})


def test_options_set_in_code_and_warnings_cross(executor):
    here = os.getpid()

    def f(t, u):
        if os.getpid() != here:
            warnings.warn(f"in a worker: {torch.get_default_dtype()}", PendingDeprecationWarning, stacklevel=1)
        return -u

    many = ps.EnsembleProblem(ps.ODEProblem(f, torch.ones(1, dtype=D), (0.0, 1.0)), torch.ones(3, 1, dtype=D))
    before = torch.get_default_dtype()
    torch.set_default_dtype(D)
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            ps.solve_ensemble(many, executor=executor, **EAGER)
    finally:
        torch.set_default_dtype(before)
    assert [str(w.message) for w in seen if w.category is PendingDeprecationWarning] == ["in a worker: torch.float64"]
    with ps.config.override(memory_limit=1000), pytest.raises(ps.InvalidInputError, match="more than the limit"):
        ps.solve_ensemble(many, executor=executor, saveat=1e-5, **EAGER)
