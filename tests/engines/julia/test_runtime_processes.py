"""Julia and other processes: forked after it started (refused), forked before, spawned; and both import orders."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from processes import environment, output

pytestmark = pytest.mark.julia
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

MODULE = """
import warnings
import torch
import problems
import pysciml as ps

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

def solve(k=0):
    p = (problems.vector(1.5, 1.0, 1.0, 3.0) * (1 + 0.01 * k)).requires_grad_()
    prob = ps.ODEProblem(problems.lotka_volterra, problems.vector(1.0, 1.0), (0.0, 1.0), p)
    sol = ps.solve(prob, ps.Tsit5(), saveat=[0.5, 1.0], engine="julia")
    sol.u.sum().backward()
    return torch.cat([sol.u.detach().reshape(-1), p.grad])

class Trajectories(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, k):
        return solve(k)

def batches(**options):
    return torch.cat(list(torch.utils.data.DataLoader(Trajectories(), batch_size=2, **options)))
"""


@pytest.fixture
def run(tmp_path):
    """Runs a main script beside MODULE, from a file, as a spawned process must find both; gives its lines."""

    def run(code: str) -> list[str]:
        (tmp_path / "work.py").write_text(MODULE)
        main = tmp_path / "main.py"
        main.write_text(code)
        command = [sys.executable, "-X", "faulthandler", str(main)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment(), cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert not done.stderr.strip(), done.stderr
        return done.stdout.splitlines()

    return run


@forks
def test_fork_works_before_julia_starts_and_is_refused_after_and_spawn_always_works(run):
    printed = run("""
import multiprocessing as mp
import torch
import work
import pysciml as ps

def attempt(queue):
    try:
        queue.put(("solved", work.solve().tolist()))
    except ps.UnsupportedError as error:
        queue.put(("refused", str(error)))

def child(method):
    context = mp.get_context(method)
    queue = context.Queue()
    process = context.Process(target=attempt, args=(queue,))
    process.start()
    found = queue.get(timeout=200)
    process.join()
    assert process.exitcode == 0, process.exitcode
    return found

if __name__ == "__main__":
    before = child("fork")
    here = work.solve().tolist()
    print(before == ("solved", here))
    print(child("spawn") == ("solved", here))
    print(child("fork")[0], "spawn" in child("fork")[1])
    print(work.solve().tolist() == here)  # the parent's Julia is none the worse
""")
    assert printed == ["True", "True", "refused True", "True"]


@forks
def test_workers_of_a_dataloader(run):
    printed = run("""
import torch
import work
import pysciml as ps

if __name__ == "__main__":
    forked = work.batches(num_workers=2, multiprocessing_context="fork")
    here = work.batches()
    print(torch.equal(forked, here))
    print(torch.equal(work.batches(num_workers=1, multiprocessing_context="spawn"), here))
    try:
        work.batches(num_workers=1, multiprocessing_context="fork")
    except ps.UnsupportedError as error:
        print("refused", 'DataLoader(..., multiprocessing_context="spawn")' in str(error))
""")
    assert printed == ["True", "True", "refused True"]


@pytest.mark.parametrize("first", ["import torch", "import juliacall"])
def test_torch_and_juliacall_may_be_imported_in_either_order(first):
    printed = output(f"{first}\nimport torch, juliacall\n{MODULE}\nprint(len(solve()), torch.ones(3).sum().item())",
                     PYTHONWARNINGS="ignore::UserWarning")  # fmt: skip
    assert printed.split() == ["8", "3.0"]
