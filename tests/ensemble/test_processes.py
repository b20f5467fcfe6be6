"""Worker processes and how they end: with Ctrl-C, with the process that started them, and with it in good order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from processes import environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")

# No `if __name__ == "__main__"`: workers do not run it.
SCRIPT = """
import signal, sys, torch, pysciml as ps
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without it
print("begins", flush=True)
D = torch.float64
k = torch.tensor(1.0, dtype=D, requires_grad=True)
def f(t, u):
    return -k * u * (1.0 if u.sum().item() > -1 else 2.0)
def solve(end):
    u0 = torch.ones(4, 1, dtype=D)
    many = ps.EnsembleProblem(ps.ODEProblem(f, u0[0], (0.0, end)), u0)
    return ps.solve_ensemble(many, ps.DP5(), executor="processes", engine="embedded", maxiters=10**9, dtmax=1e-2)
"""
LONG = """
solve(1.0)
print("solves", flush=True)
try:
    solve(1e6)
except KeyboardInterrupt:
    import multiprocessing
    print(f"stopped, {len(multiprocessing.active_children())} left", flush=True)
print("again", solve(1.0).u.shape, flush=True)
"""


def started(code: str, tmp_path) -> subprocess.Popen:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT + code)
    return subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env=environment(), start_new_session=True)  # fmt: skip


def test_a_script_needs_no_guard_and_leaves_no_process(tmp_path):
    process = started("solve(1.0).u.sum().backward()\nprint(round(k.grad.item(), 6))", tmp_path)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out.split(), err) == (0, ["begins", "-1.471518"], "")


@pytest.mark.parametrize("whom", ["the first", "all"])  # by kill, or by a terminal's Ctrl-C
def test_ctrl_c_stops_workers_and_the_next_call_starts_others(tmp_path, whom):
    process = started(LONG, tmp_path)
    wait_for(process, "solves")
    workers = children(process)
    assert workers
    time.sleep(1.0)
    begun = time.perf_counter()
    (os.kill if whom == "the first" else os.killpg)(process.pid, signal.SIGINT)
    wait_for(process, "stopped, 0 left")
    assert time.perf_counter() - begun < 5
    out, err = process.communicate(timeout=120)
    assert out.splitlines() == ["again torch.Size([4, 2, 1])"]
    assert (process.returncode, err) == (0, "")
    assert gone(workers)


def test_workers_end_with_the_process_that_started_them(tmp_path):
    process = started(LONG, tmp_path)
    wait_for(process, "solves")
    workers = children(process)
    time.sleep(0.5)
    process.kill()
    process.communicate(timeout=30)
    assert workers
    assert gone(workers)


def test_workers_that_died_while_they_had_nothing_to_do_are_replaced(tmp_path):
    code = """
import multiprocessing
solve(1.0)
for worker in multiprocessing.active_children():
    worker.kill()
    worker.join()
print(solve(1.0).u.shape)
"""
    out, err = started(code, tmp_path).communicate(timeout=120)
    assert (out.splitlines(), err) == (["begins", "torch.Size([4, 2, 1])"], "")


def wait_for(process: subprocess.Popen, line: str) -> None:
    for said in process.stdout:
        if said.strip() == line:
            return
    raise AssertionError(f"{process.wait(30)} without {line}: {process.stderr.read()}")


def children(process: subprocess.Popen) -> list[psutil.Process]:
    return [x for x in psutil.Process(process.pid).children(recursive=True) if "spawn_main" in " ".join(x.cmdline())]


def gone(workers: list[psutil.Process], patience: float = 10.0) -> bool:
    _, alive = psutil.wait_procs(workers, timeout=patience)
    return all(x.status() == psutil.STATUS_ZOMBIE for x in alive)
