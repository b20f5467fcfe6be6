"""Ctrl-C in the middle of a solve: it is over at once, and Julia goes on working."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from processes import environment

pytestmark = [pytest.mark.julia, pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is sent as POSIX does")]

LATENCY = 3.0  # seconds; 0.001 to 0.12 were measured on a machine with nothing else to do

SOLVES = """
import signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without it
import torch
import problems
import pysciml as ps

COUPLING = torch.sin(torch.arange(40_000.0).double()).reshape(200, 200)
def wide(t, u, p):  # a million backward steps, which is when a solve gives up, take minutes
    return torch.cos(t) * p[0] * torch.tanh(COUPLING @ u) - p[1] * u

KEPT = ps.InterpolatingAdjoint(checkpoints=50)
ENDLESS = {"dtmax": 1e-6, "maxiters": 10**9, "engine": "julia"}

def problem(f=problems.lotka_volterra, end=1000.0):
    p = problems.vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
    return ps.ODEProblem(f, problems.vector(1.0, 1.0), (0.0, end), p)

def right():
    prob = problem(end=4.0)
    sol = ps.solve(prob, ps.Tsit5(), saveat=0.5, engine="julia", reltol=1e-8, abstol=1e-10)
    sol.u.sum().backward()
    other = problem(end=4.0)
    exact = ps.solve(other, ps.CVODE_Adams(), saveat=0.5, engine="embedded", reltol=1e-10, abstol=1e-12)
    exact.u.sum().backward()
    assert torch.allclose(sol.u, exact.u, rtol=1e-5) and torch.allclose(prob.p.grad, other.p.grad, rtol=1e-4)

def compiled():
    ps.solve(problem(), ps.Tsit5(), saveat=[1000.0], sensealg=KEPT, **ENDLESS)

def stiff():
    ps.solve(problem(), ps.Rodas5P(), saveat=[1000.0], sensealg=KEPT, **ENDLESS)

def multistep():
    ps.solve(problem(), ps.CVODE_BDF(), saveat=[1000.0], sensealg=KEPT, **ENDLESS)

def callback():
    ps.solve(problem(), ps.Tsit5(), saveat=[1000.0], route="callback", sensealg=KEPT, **ENDLESS)

def source():
    f = ps.JuliaFunction("(du, u, p, t) -> (du .= sin.(p[1:2] .* t) .- u; nothing)")
    ps.solve(problem(f), ps.Tsit5(), saveat=[1000.0], sensealg=KEPT, **ENDLESS)

def backward(f=wide, n=200, end=2000.0, route="compiled"):
    tight = ps.GaussAdjoint(alg=ps.BS3(), reltol=1e-13, abstol=1e-14)
    prob = ps.ODEProblem(f, torch.ones(n, dtype=torch.float64), (0.0, end), torch.ones(4).double().requires_grad_())
    sol = ps.solve(prob, ps.Tsit5(), saveat=[end], sensealg=tight, route=route, engine="julia")
    return sol.u.sum().backward

def backward_callback():
    return backward(problems.lotka_volterra, 2, 10.0, "callback")

def interrupted(prepare):
    solve = prepare() if prepare.__name__.startswith("backward") else prepare
    print("running", flush=True)
    try:
        solve()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    right()
    print("right", flush=True)

right()
for prepare in (compiled, stiff, multistep, callback, source, backward, backward_callback):
    interrupted(prepare)

"""


def test_ctrl_c_ends_a_solve_and_the_next_one_is_right():
    with subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", SOLVES], env=environment(), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:  # fmt: skip
        try:
            latencies = [interrupt(child) for _ in range(7)]
            assert child.wait(timeout=120) == 0
            assert not child.stderr.read().strip()
        finally:
            child.kill()
    print("seconds from Ctrl-C to KeyboardInterrupt:", ", ".join(f"{s:.2f}" for s in latencies))
    assert max(latencies) < LATENCY


def interrupt(child: subprocess.Popen[str]) -> float:
    """Seconds from SIGINT in the next solve of the child's to its KeyboardInterrupt."""
    expect(child, "running")
    time.sleep(4)  # what a solve has to compile at first cannot be interrupted
    sent = time.monotonic()
    child.send_signal(signal.SIGINT)
    expect(child, "interrupted")
    seconds = time.monotonic() - sent
    expect(child, "right")
    return seconds


def expect(child: subprocess.Popen[str], word: str) -> None:
    line = child.stdout.readline().strip()
    if line != word:
        child.kill()
        pytest.fail(f"{word!r} was expected, and {line!r} came\n{child.stderr.read()}")
