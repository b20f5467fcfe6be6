"""DistributedDataParallel: two processes train a UDE to the same numbers as one."""

from __future__ import annotations

import os
import socket

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import pysciml as ps

ENGINES = ["embedded", pytest.param("julia", marks=pytest.mark.julia)]
STEPS, MEMBERS = 3, 4
TIGHT = {"reltol": 1e-12, "abstol": 1e-12}


class Model(torch.nn.Module):
    """From initial states (batch, 2) to final ones, by a UDE."""

    def __init__(self, engine: str):
        super().__init__()
        torch.manual_seed(0)
        self.engine = engine
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
        self.rate = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def forward(self, u0: torch.Tensor) -> torch.Tensor:
        alg = ps.Tsit5() if self.engine == "julia" else ps.CVODE_Adams()
        final = [ps.solve(ps.ODEProblem(self.derivative, x, (0.0, 1.0)), alg, engine=self.engine, **TIGHT) for x in u0]
        return torch.stack([sol.u[-1] for sol in final])

    def derivative(self, t: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        return -self.rate * u + self.net(u)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand(MEMBERS, 2, generator=generator, dtype=torch.float64) for _ in range(2))  # type: ignore[return-value]


def train(model: torch.nn.Module, u0: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(STEPS):
        optimizer.zero_grad()
        ((model(u0) - targets) ** 2).mean().backward()
        optimizer.step()
    return [x.detach().clone() for x in model.parameters()]


def work(rank: int, engine: str, port: int, path: str) -> None:
    """One of two processes, with its half of the batch."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=2)
    half = [x.chunk(2)[rank] for x in batch()]
    torch.save(train(DistributedDataParallel(Model(engine)), *half), f"{path}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("engine", ENGINES)
def test_two_processes_train_to_the_numbers_of_one(engine, tmp_path):
    before = [x.detach().clone() for x in Model(engine).parameters()]
    expected = train(Model(engine), *batch())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, (engine, port, str(tmp_path)), nprocs=2)
    for rank in range(2):
        for x, y, start in zip(torch.load(tmp_path / f"{rank}.pt"), expected, before, strict=True):
            assert torch.allclose(x, y, rtol=0, atol=1e-10)  # rounding decides steps, within the tolerance
            assert not torch.equal(x, start)
