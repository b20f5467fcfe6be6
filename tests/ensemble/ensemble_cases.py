"""Ensembles that touch all that can have a gradient, and right-hand sides that end their worker."""

from __future__ import annotations

import os
import signal

import torch

import pysciml as ps

D = torch.float64
COMPILED = {"alg": ps.CVODE_BDF(), "reltol": 1e-8, "abstol": 1e-8}
EAGER = {"alg": ps.Tsit5(), "engine": "embedded"}
JULIA = {"alg": ps.Tsit5(), "engine": "julia", "reltol": 1e-8, "abstol": 1e-8}


class Net(torch.nn.Module):
    """A module with parameters, a buffer and a tensor that the caller holds."""

    def __init__(self, rate: torch.Tensor):
        super().__init__()
        self.linear = torch.nn.Linear(2, 2, dtype=D)
        self.register_buffer("scale", torch.tensor([0.5, 0.25], dtype=D))
        self.rate = rate

    def forward(self, t, u, p):
        return torch.tanh(self.linear(u)) * self.scale - (self.rate + p) * u + 0.1 * torch.sin(t)


def leaves(n: int = 5) -> dict[str, torch.Tensor]:
    """What the loss of `solved` depends on."""
    torch.manual_seed(0)
    return {
        "u0": torch.rand(n, 2, dtype=D), "p": torch.rand(n, 2, dtype=D), "log_rate": torch.rand(2, dtype=D),
        "t0": torch.tensor(0.0, dtype=D), "saveat": torch.tensor([0.5, 1.0], dtype=D),
    }  # fmt: skip


def solved(executor, alg, times: bool = True, **options) -> tuple[ps.EnsembleSolution, list[torch.Tensor]]:
    """A solution, and the gradients of a loss over it: in u0, p, times, module parameters and what the module holds."""
    x = {name: leaf.requires_grad_(times or name not in ("t0", "saveat")) for name, leaf in leaves().items()}
    net = Net(torch.exp(x["log_rate"]))  # no leaf: its gradient goes on to log_rate
    prob = ps.ODEProblem(net, x["u0"][0].detach(), (x["t0"], 1.0), x["p"][0].detach())
    sol = ps.solve_ensemble(ps.EnsembleProblem(prob, x["u0"], x["p"]), alg, executor=executor, saveat=x["saveat"],
                            **options)  # fmt: skip
    (sol.u**2 * torch.arange(1.0, 6.0, dtype=D)[:, None, None]).sum().backward()
    grads = [leaf.grad for leaf in (*x.values(), *net.parameters()) if leaf.requires_grad]
    assert all(g is not None for g in grads)
    return sol, grads


def blow_ups() -> tuple[ps.EnsembleProblem, torch.Tensor]:
    """du/dt = k u^2 from five states, of which the fourth blows up at t = 0.5; and k."""
    k = torch.ones(1, dtype=D, requires_grad=True)
    u0 = torch.tensor([[0.5], [0.25], [0.1], [2.0], [0.2]], dtype=D, requires_grad=True)
    return ps.EnsembleProblem(ps.ODEProblem(lambda t, u: k * u * u, u0[0].detach(), (0.0, 1.0)), u0), k


def deadly(folder, deaths: int = 1, members: int = 6) -> ps.EnsembleProblem:
    """Growth whose right-hand side kills its process in the middle of a solve, that many times in all.

    The process that makes it is spared. How often it has struck is the number of files in the folder.
    """
    here, k = os.getpid(), torch.ones(1, dtype=D, requires_grad=True)

    def f(t, u):
        if os.getpid() != here and t > 0.5:
            strike(folder, deaths)
        return k * u

    u0 = torch.linspace(1.0, 2.0, members, dtype=D)[:, None].requires_grad_()
    return ps.EnsembleProblem(ps.ODEProblem(f, u0[0].detach(), (0.0, 1.0)), u0)


def strike(folder, deaths: int) -> None:
    for i in range(deaths):
        try:
            os.close(os.open(os.path.join(folder, str(i)), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)
