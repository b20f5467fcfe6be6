"""Julia under Python's threads: any may start it and call it, and both garbage collectors run meanwhile."""

from __future__ import annotations

import pytest
from processes import output

pytestmark = pytest.mark.julia

WORK = """
import gc, itertools, queue, threading, time
from concurrent.futures import ThreadPoolExecutor
import torch
import julia_calls, problems
import pysciml as ps
from pysciml.engines.julia import runtime

def one(k, route="compiled"):
    p = (problems.vector(1.5, 1.0, 1.0, 3.0) * (1 + 0.01 * k)).requires_grad_()
    prob = ps.ODEProblem(problems.lotka_volterra, problems.vector(1.0, 1.0), (0.0, 4.0), p)
    sol = ps.solve(prob, ps.Tsit5(), saveat=0.5, engine="julia", route=route)
    sol.u.sum().backward()
    return sol.u.detach(), p.grad

def same(found, expected):
    return all(torch.equal(x, y) for pair, other in zip(found, expected, strict=True) for x, y in zip(pair, other))

def in_thread(function, *args):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result()
"""


def test_threads_give_what_one_thread_gives_whichever_started_julia():
    printed = output(
        WORK
        + """
first = in_thread(one, 0)  # Julia starts here
print("started", runtime.started())
alone = [one(k) for k in range(24)]
by_callback = [one(k, "callback") for k in range(3)]
print("as the first", same([first], alone[:1]))
with ThreadPoolExecutor(6) as pool:
    together = pool.map(one, range(24))
    called_back = pool.map(lambda k: one(k, "callback"), range(3))
    print("together", same(list(together), alone), same(list(called_back), by_callback))
for _ in range(50):  # threads that end, each with a solve
    in_thread(one, 1)
print("again", same([one(1)], alone[1:2]))
"""
    )
    assert printed.splitlines() == ["started True", "as the first True", "together True True", "again True"]


def test_both_garbage_collectors_run_while_threads_solve():
    printed = output(
        WORK
        + """
alone = [one(k) for k in range(4)]
julia_calls.solve()
kept = julia_calls.kept()
stop, counts, wrong = time.monotonic() + 12, dict.fromkeys(("solves", "python", "julia", "dropped"), 0), []
handles = queue.SimpleQueue()

def until_then(name, work):
    def run():
        for k in itertools.count():
            if time.monotonic() > stop:
                return
            work(k)
            counts[name] += 1
    return run

def solve(k):
    if not same([one(k % 4)], alone[k % 4 : k % 4 + 1]):
        wrong.append(k)
    handles.put(julia_calls.solve())  # stays in Julia until another thread lets it go

def collect(k):
    julia_calls.garbage() if k % 2 else julia_calls.allocate()

def drop(k):
    handles.get(timeout=60)

works = [("solves", solve)] * 3 + [("python", lambda k: gc.collect())] + [("julia", collect)] * 2
works += [("dropped", drop)]
with ThreadPoolExecutor(len(works)) as pool:
    for done in [pool.submit(until_then(*work)) for work in works]:
        done.result()
while not handles.empty():
    handles.get()
julia_calls.solve()
julia_calls.garbage()
print(wrong, all(counts.values()), julia_calls.kept() - kept)
"""
    )
    assert printed.splitlines() == ["[] True 0"]
