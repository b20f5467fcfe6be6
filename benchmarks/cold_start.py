"""From `python` to the first gradient of a model never seen before, and to that of a second one, with each engine.

Each sample is a process of its own. Julia's packages are compiled already; models never are: their code lives in the
process that made it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median

from pysciml.engines.select import engine_name

# The pieces are timed where they are called, so that the process does what any user's does.
SCRIPT = """
import json, sys, time
start, pieces = float(sys.argv[1]), {}

def piece(name, begun):
    pieces[name] = pieces.get(name, 0.0) + time.time() - begun

begun = time.time()
pieces["python"] = begun - start
import torch
piece("torch", begun)
begun = time.time()
import pysciml as ps
from pysciml.engines.julia import bridge, runtime
piece("pysciml", begun)
begun = time.time()
import pysciml.engines.julia.engine as engine

def timed(owner, attribute, name):
    call = getattr(owner, attribute)
    def wrapper(*args):
        begun = time.time()
        try:
            return call(*args)
        finally:
            piece(name, begun)
    setattr(owner, attribute, wrapper)

timed(runtime, "_start", "juliacall and PySciML")
timed(runtime, "_load", "PySciML")
timed(bridge, "model", "model")
"""

EMBEDDED = """
import json, sys, time
start, pieces = float(sys.argv[1]), {"model": 0.0}
import torch
begun = time.time()
import pysciml as ps
pieces["pysciml"] = time.time() - begun
"""

BOTH = """
torch.set_num_threads(1)

def gradient(sizes, activation):
    torch.manual_seed(0)
    layers = [m for a, b in zip(sizes, sizes[1:]) for m in (torch.nn.Linear(a, b), activation())]
    net = torch.nn.Sequential(*layers[:-1]).double()
    u0 = torch.ones(sizes[0], dtype=torch.float64)
    prob = ps.ODEProblem(lambda t, u: net(u) - u, u0, (0.0, 2.0))
    begun = time.time()
    u = ps.solve(prob, ps.ALGORITHM(), saveat=0.1, engine=ENGINE).u
    forward = time.time() - begun
    (u ** 2).mean().backward()
    return forward, time.time() - begun - forward

pieces["rest"] = 0.0
forward, backward = gradient([2, 32, 32, 2], torch.nn.Tanh)
total = time.time() - start
first = dict(pieces)
begun = time.time()
gradient([3, 16, 24, 3], torch.nn.Sigmoid)
second = time.time() - begun
print(json.dumps({"total": total, "second": second, "forward": forward, "backward": backward, "pieces": first,
                  "second model": pieces["model"] - first["model"]}))
"""


def sample(cache: str, algorithm: str, engine: str = "julia") -> dict:
    """Seconds of one process: in all, of a second model, and of their pieces."""
    script = (SCRIPT if engine == "julia" else EMBEDDED) + BOTH
    code = script.replace("ALGORITHM", algorithm).replace("ENGINE", repr(engine))
    command = [sys.executable, "-c", code, repr(time.time())]
    # As pip leaves an installed package: its modules are compiled once, whatever the environment says of bytecode.
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": cache}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    return json.loads(done.stdout.splitlines()[-1])


def main(samples: int = 3) -> None:
    print("seconds from `python` to the first gradient of a model, and of a second, different model\n")
    with tempfile.TemporaryDirectory() as cache:
        embedded(cache, samples)
        if engine_name("auto") == "julia":
            with_julia(cache, samples)


def embedded(cache: str, samples: int) -> None:
    for algorithm in ("CVODE_Adams", "CVODE_BDF"):
        sample(cache, algorithm, "embedded")
        found = [sample(cache, algorithm, "embedded") for _ in range(samples)]
        print(
            f"{algorithm}, embedded: {summary(found)}; first solve {median(s['forward'] for s in found):.2f} s; "
            f"import pysciml {median(s['pieces']['pysciml'] for s in found):.2f} s over torch"
        )


def summary(found: list[dict]) -> str:
    return (f"{median(s['total'] for s in found):.2f} s median, {min(s['total'] for s in found):.2f} s best of "
            f"{len(found)}; a second model {median(s['second'] for s in found):.2f} s median, "
            f"{min(s['second'] for s in found):.2f} s best")  # fmt: skip


def with_julia(cache: str, samples: int) -> None:
    for algorithm in ("Tsit5", "Rodas5P"):
        sample(cache, algorithm)  # files into memory; packages compiled, should they not be
        found = [sample(cache, algorithm) for _ in range(samples)]
        middle = sorted(found, key=lambda s: s["total"])[samples // 2]
        times = middle["pieces"]
        juliacall = times["juliacall and PySciML"] - times["PySciML"]
        # Julia starts inside the first call, which belongs to the model.
        model = times["model"] - times["juliacall and PySciML"]
        print(f"{algorithm}, julia: {summary(found)}")
        parts = {
            "python itself": times["python"], "import torch": times["torch"], "import pysciml": times["pysciml"],
            "juliacall, Julia": juliacall, "PySciML": times["PySciML"], "the model (4 parts)": model,
            "the solve": middle["forward"] - times["juliacall and PySciML"],
            "the gradient": middle["backward"],
        }  # fmt: skip
        print("".join(f"  {name:22}{seconds:7.2f}\n" for name, seconds in parts.items()))
    print("'the solve' and 'the gradient' hold the making of the model's parts that each needs.")


if __name__ == "__main__":
    main()
