"""Large states with sparse Jacobians: found from the Graph, factorised as such, forwards and backwards."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from finite_differences import relative_error

import pysciml as ps
from pysciml.engines.julia import bridge
from pysciml.engines.julia.bridge import takes_sparse
from pysciml.rhs.parameters import Inputs
from pysciml.rhs.trace import prepare_for

pytestmark = pytest.mark.julia
N = 96
X = torch.arange(N, dtype=torch.float64) / N


def reaction_diffusion(t, u, p):
    """Fisher's equation on a ring, by the method of lines."""
    return p[0] * N**2 * (torch.roll(u, 1) + torch.roll(u, -1) - 2 * u) + p[1] * u * (1 - u)


def between_walls(t, u, p):
    """The same on a line: a narrow band, where the ring has two corners besides."""
    inner = u[:-2] - 2 * u[1:-1] + u[2:]
    return p[0] * N**2 * torch.cat([u[1:2] - u[:1], inner, u[-2:-1] - u[-1:]]) + p[1] * u * (1 - u)


def solved(alg, f=reaction_diffusion, sensealg=None):
    p = torch.tensor([1e-2, 1.5], dtype=torch.float64, requires_grad=True)
    u0 = torch.exp(-50 * (X - 0.5) ** 2).requires_grad_()
    prob = ps.ODEProblem(f, u0, (0.0, 1.0), p)
    sol = ps.solve(prob, alg, saveat=[0.4, 1.0], engine="julia", reltol=1e-8, abstol=1e-10, sensealg=sensealg)
    (sol.u**2).sum().backward()
    return sol.u.detach(), u0.grad, p.grad


@pytest.fixture(scope="module")
def dense():
    return solved(ps.Rodas5P(linsolve="LUFactorization"))


@pytest.mark.parametrize("alg", [ps.Rodas5P(), ps.FBDF(), ps.TRBDF2()], ids=lambda a: a.name)
def test_sparse_solves_and_gradients_are_those_of_dense_ones(alg, dense):
    assert max(map(relative_error, solved(alg), dense)) < 1e-5


@pytest.mark.parametrize("f", [reaction_diffusion, between_walls], ids=["sparse", "band"])
def test_collocations_on_sparse_jacobians(f):
    tight = solved(ps.Rodas5P(linsolve="LUFactorization"), f)
    assert max(map(relative_error, solved(ps.Rodas5P(), f, ps.CollocationAdjoint()), tight)) < 1e-5


def test_a_band_in_a_dense_jacobian():
    def chain(t, u, p):
        inner = u[:-2] - 2 * u[1:-1] + u[2:]
        return p[0] * torch.cat([u[1:2] - u[:1], inner, u[-2:-1] - u[-1:]]) + p[1] * u * (1 - u) - 0.1 * u.roll(0)

    def gradient(sensealg):
        p = torch.tensor([3.0, 1.5], dtype=torch.float64, requires_grad=True)
        u0 = torch.exp(-50 * (X[::4] - 0.5) ** 2).requires_grad_()
        sol = ps.solve(ps.ODEProblem(chain, u0, (0.0, 1.0), p), ps.Rodas5P(), saveat=[0.4, 1.0], engine="julia",
                       reltol=1e-9, abstol=1e-11, sensealg=sensealg)  # fmt: skip
        (sol.u**3).sum().backward()
        return torch.cat([u0.grad, p.grad])

    assert relative_error(gradient(ps.CollocationAdjoint()), gradient(ps.GaussAdjoint())) < 1e-6


def test_who_takes_a_sparse_jacobian():
    from pysciml.rhs.trace import prepare

    p, t = torch.tensor([1e-2, 1.5], dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)
    rhs = prepare(reaction_diffusion, t, X, p)[1]
    full = prepare(lambda t, u, p: p[0] * u * u.mean(), t, X, p)[1]

    def takes(alg, sensealg=None, rhs=rhs):
        return takes_sparse(SimpleNamespace(rhs=rhs, alg=alg, mass=None, sensealg=sensealg or ps.GaussAdjoint()))

    assert takes(ps.Rodas5P())
    assert takes(ps.FBDF())
    assert not takes(ps.Tsit5())
    assert not takes(ps.Rodas5P(linsolve="LUFactorization"))
    assert not takes(ps.CVODE_BDF())
    assert not takes(ps.Rodas5P(), ps.ForwardSensitivity())
    assert not takes(ps.Rodas5P(), rhs=full)


@pytest.mark.parametrize(
    ("n", "reach", "expected"), [(24, 1, False), (32, 1, True), (40, 3, False), (64, 3, True), (64, 10, False)]
)
def test_what_counts_as_sparse(n, reach, expected):
    def f(t, u):
        return sum(torch.roll(u, k) for k in range(-reach, reach + 1)) * u

    program, rhs = prepare_for(f, 0.0, Inputs.of(torch.ones(n, dtype=torch.float64), None))
    rhs.graph("f", program)
    assert rhs.sparsity.size == n * (2 * reach + 1)
    assert bridge.is_sparse(rhs) is expected
