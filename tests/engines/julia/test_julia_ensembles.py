"""Ensembles on Julia's threads, of which there are two here: Julia gets its threads when it starts."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.julia

SETUP = """
import os, signal, sys, threading, time, warnings
import torch, pysciml as ps

D = torch.float64

class Lorenz(torch.nn.Module):
    calls = 0

    def __init__(self):
        super().__init__()
        self.k = torch.nn.Parameter(torch.tensor([10.0, 28.0, 8 / 3], dtype=D))

    def forward(self, t, u):
        Lorenz.calls += 1
        x, y, z = u
        a, b, c = self.k
        return torch.stack([a * (y - x), x * (b - z) - y, x * y - c * z])

lorenz = Lorenz()
noise = torch.Generator().manual_seed(0)
starts = torch.tensor([1.0, 0.0, 0.0], dtype=D) + torch.randn(1000, 3, dtype=D, generator=noise)

def solve(u0, executor="threads", end=10.0, tol=1e-6, alg=None, **options):
    prob = ps.ODEProblem(lorenz, u0[0].detach(), (0.0, end))
    return ps.solve_ensemble(ps.EnsembleProblem(prob, u0), alg or ps.Tsit5(), executor=executor, engine="julia",
                             saveat=[end / 2, end], reltol=tol, abstol=tol, **options)
"""


def run(script: str) -> str:
    code = SETUP + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=280,
                          env=os.environ | {"PYTHON_JULIACALL_THREADS": "2"})  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_thousand_lorenz_systems_call_no_python_and_are_what_each_is_alone():
    out = run("""
        from pysciml.engines.julia.runtime import call, julia
        solve(starts[:2])  # compiles
        assert julia().Base.Threads.nthreads() == 2
        import pysciml.engines.julia.ensembles as ensembles
        inside, entered, called = [0], ensembles.called, []
        def counted(*args):
            before, events = Lorenz.calls, []
            sys.setprofile(lambda frame, event, arg: events.append(frame.f_code.co_name) if event == "call" else None)
            try:
                return entered(*args)
            finally:
                sys.setprofile(None)
                called.append((Lorenz.calls - before, events))
        ensembles.called = counted
        with torch.no_grad():
            many = solve(starts)
        ((of_model, events),) = called
        assert of_model == 0, of_model
        assert len(events) < 40, events  # the way into Julia and out of it, for two million evaluations
        assert many.stats.nf > 1_500_000 and many.u.shape == (1000, 2, 3) and not many.failed
        alone = solve(starts[:25], "serial")
        assert torch.equal(alone.u, many.u[:25])
        print("done", many.stats.wall_time)
    """)
    assert "done" in out


def test_gradients_are_those_of_single_solves():
    run("""
        found = {}
        for sensealg in (ps.GaussAdjoint(), ps.QuadratureAdjoint(), ps.ForwardSensitivity()):
            for executor in ("serial", "threads"):
                u0 = starts[:12].clone().requires_grad_()
                lorenz.zero_grad()
                (solve(u0, executor, 1.0, 1e-9, sensealg=sensealg).u ** 2).mean().backward()
                found[executor] = torch.cat([u0.grad.ravel(), lorenz.k.grad])
            torch.testing.assert_close(found["serial"], found["threads"], rtol=1e-12, atol=0)
        shift = torch.tensor([1e-5, 0, 0], dtype=D)
        with torch.no_grad():
            loss = lambda u0: (solve(u0, "threads", 1.0, 1e-12, ps.Vern9()).u ** 2).mean()
            slope = (loss(starts[:12] + shift) - loss(starts[:12] - shift)) / 2e-5
        torch.testing.assert_close(found["threads"][:36].reshape(12, 3)[:, 0].sum(), slope, rtol=1e-6, atol=0)
    """)


def test_one_that_fails_leaves_the_others_on_threads():
    run("""
        prob = ps.ODEProblem(lambda t, u: u * u, torch.ones(1, dtype=D), (0.0, 1.0))
        u0 = torch.tensor([[0.5], [2.0], [0.25]], dtype=D, requires_grad=True)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            sol = ps.solve_ensemble(ps.EnsembleProblem(prob, u0), ps.Tsit5(), executor="threads", engine="julia",
                                    saveat=[1.0])
        assert any("1 of 3 trajectories failed; number 1 stopped at t = 0" in str(w.message) for w in seen)
        assert sol.failed == [1] and bool(sol.u[1].isnan().all())
        sol.u[sol.successful].sum().backward()
        torch.testing.assert_close(u0.grad.ravel(), torch.tensor([4.0, 0.0, 16 / 9], dtype=D), rtol=1e-3, atol=1e-6)
    """)


def test_ctrl_c_stops_all_threads_and_the_next_solve_works():
    out = run("""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        solve(starts[:2])
        threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        begun = time.perf_counter()
        try:
            solve(starts, end=1e5, maxiters=10**9)
        except KeyboardInterrupt:
            print("stopped", time.perf_counter() - begun)
        assert time.perf_counter() - begun < 10
        assert not solve(starts[:50]).failed
    """)
    assert "stopped" in out


def test_threads_need_a_compiled_right_hand_side():
    run("""
        for options in ({"route": "callback"},):
            try:
                solve(starts[:2], **options)
            except ps.UnsupportedError as error:
                assert "threads solve right-hand sides that Julia has compiled" in str(error)
            else:
                raise SystemExit("no error")
    """)


def test_threads_are_the_default_where_they_can_and_times_take_no_gradient_there():
    run("""
        import pysciml.ensemble.here as here
        ways = []
        for name in ("on_threads", "one_by_one"):
            original = getattr(here, name)
            def noted(*args, name=name, original=original, **options):
                ways.append(name)
                return original(*args, **options)
            setattr(here, name, noted)
        solve(starts[:3], None)
        t0 = torch.tensor(0.0, dtype=D, requires_grad=True)
        prob = ps.ODEProblem(lambda t, u: -u, torch.ones(1, dtype=D), (t0, 1.0))
        many = ps.EnsembleProblem(prob, torch.ones(3, 1, dtype=D))
        branching = lambda t, u: -u if u.sum().item() > 0.5 else -2 * u
        branches = ps.ODEProblem(branching, torch.ones(1, dtype=D), (0.0, 1.0))
        ps.solve_ensemble(many, ps.Tsit5(), saveat=[1.0], engine="julia").u.sum().backward()
        assert abs(t0.grad.item() - 3 * 0.36788) < 1e-4, t0.grad
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ps.PySciMLWarning)
            ps.solve_ensemble(ps.EnsembleProblem(branches, many.u0), ps.Tsit5(), engine="julia")
        assert ways == ["on_threads", "one_by_one", "one_by_one"], ways
        try:
            ps.solve_ensemble(many, ps.Tsit5(), saveat=[1.0], engine="julia", executor="threads")
        except ps.UnsupportedError as error:
            assert "an ensemble on threads has no gradients in times" in str(error)
        else:
            raise SystemExit("no error")
    """)


def test_progress_moves_while_threads_solve_and_failures_are_those_of_serial():
    run("""
        import pysciml.engines.julia.ensembles as ensembles
        from pysciml.ensemble.progress import Silence
        ensembles._LOOK = 0.005
        seen = []
        class Seen(Silence):
            def update(self, done, failed):
                seen.append((done, failed))
        import pysciml.ensemble.solve as module
        module.how_to_show = lambda way, total: Seen(total)
        solve(starts[:2])
        seen.clear()
        solve(starts, end=20.0)
        assert seen[-1] == (1000, 0) and any(0 < done < 1000 for done, _ in seen), seen
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        prob = ps.ODEProblem(lambda t, u: u * u, torch.ones(1, dtype=D), (0.0, 1.0))
        many = ps.EnsembleProblem(prob, torch.tensor([[0.5], [2.0], [0.25]], dtype=D))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ps.PySciMLWarning)
            found = [ps.solve_ensemble(many, ps.Tsit5(), engine="julia", executor=x).failures
                     for x in ("serial", "threads")]
        assert found[0] == found[1] and "stopped at t = 0.5" in found[0][0].message, found
        assert seen[-1] == (3, 1)
    """)


def test_workers_start_julia_with_one_thread():
    out = run("""
        from pysciml.ensemble.executors import executor_of
        solve(starts[:4], "processes", 1.0)
        code = "from pysciml.engines.julia.runtime import julia; n = julia().Base.Threads.nthreads()"
        scope = executor_of("processes")._pool.submit(eval, f"(d := {{}}, exec({code!r}, d), d['n'])[-1]")
        print("threads", scope.result())
    """)
    assert out.split()[-2:] == ["threads", "1"]
