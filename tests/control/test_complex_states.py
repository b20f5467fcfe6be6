"""Complex states: solutions, and gradients by torch's convention."""

from __future__ import annotations

import warnings

import pytest
import torch

import pysciml as ps

C = torch.complex128
TIMES = torch.tensor([0.5, 2.0], dtype=torch.float64)
TIGHT = {"reltol": 1e-10, "abstol": 1e-10}
julia = pytest.mark.julia
WAYS = [
    pytest.param(ps.DP5(), {"engine": "embedded"}, id="dp5"),
    pytest.param(ps.DP5(), {"engine": "embedded", "sensealg": ps.BacksolveAdjoint()}, id="backsolve"),
    pytest.param(ps.Tsit5(), {"engine": "julia", "route": "callback"}, id="tsit5", marks=julia),
    pytest.param(ps.Rodas5P(), {"engine": "julia", "route": "callback"}, id="rodas5p", marks=julia),
]


def close(found, truth, bound=1e-8):
    return all(x.dtype is y.dtype and (x - y).abs().max() < bound for x, y in zip(found, truth, strict=True))


@pytest.mark.parametrize(("alg", "options"), WAYS)
def test_a_rotation_against_its_closed_form(alg, options):
    w = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    u0 = torch.tensor([1.0 + 0.5j], dtype=C, requires_grad=True)
    sol = ps.solve(ps.ODEProblem(lambda t, u: 1j * w * u, u0, (0.0, 2.0)), alg, saveat=TIMES, **TIGHT, **options)
    truth = torch.exp(1j * w * TIMES)[:, None] * u0

    def loss(u):
        return (u.real**2 + 3 * u.imag + u.real * u.imag).sum()

    assert close([sol.u], [truth])
    assert close(torch.autograd.grad(loss(sol.u), (w, u0)), torch.autograd.grad(loss(truth), (w, u0)))
    assert close([sol(1.0)], [torch.exp(1j * w) * u0])
    assert sol.prob.u0 is u0


@pytest.mark.parametrize("given", ["captured", "p"])
@pytest.mark.parametrize(("alg", "options"), WAYS)
def test_two_levels_of_schroedinger_and_the_gradient_of_the_hamiltonian(alg, options, given):
    H = torch.tensor([[1.0, 0.5 - 0.2j], [0.5 + 0.2j, -1.0]], dtype=C, requires_grad=True)
    psi = torch.tensor([1.0, 0.0], dtype=C, requires_grad=True)
    if given == "p":
        prob = ps.ODEProblem(lambda t, u, p: -1j * (p @ u), psi, (0.0, 2.0), H)
    else:
        prob = ps.ODEProblem(lambda t, u: -1j * (H @ u), psi, (0.0, 2.0))
    if given == "captured" and isinstance(options.get("sensealg"), ps.BacksolveAdjoint):
        pytest.skip("refused: see below")
    u = ps.solve(prob, alg, saveat=TIMES, **TIGHT, **options).u
    truth = torch.stack([torch.linalg.matrix_exp(-1j * H * t) @ psi for t in TIMES])

    def loss(u):
        return u[1, 1].abs() ** 2 + (u[0, 0] * u[1, 1].conj()).real

    assert close([u], [truth])
    assert close(torch.autograd.grad(loss(u), (H, psi)), torch.autograd.grad(loss(truth), (H, psi)))


def test_backsolve_refuses_captured_complex_parameters():
    H = torch.eye(2, dtype=C, requires_grad=True)
    prob = ps.ODEProblem(lambda t, u: -1j * (H @ u), torch.ones(2, dtype=C), (0.0, 1.0))
    with pytest.raises(ps.UnsupportedError, match=r"complex parameters[\s\S]*DirectAdjoint"):
        ps.solve(prob, ps.DP5(), sensealg=ps.BacksolveAdjoint(), engine="embedded")


@pytest.mark.parametrize("engine", ["embedded", pytest.param("julia", marks=julia)])
def test_nothing_compiles_complex_numbers_and_one_warning_says_so(engine):
    prob = ps.ODEProblem(lambda t, u: 1j * u, torch.ones(1, dtype=torch.complex64), (0.0, 1.0))
    with pytest.warns(ps.PySciMLWarning, match="complex numbers, which have no compiled form") as said:
        u = ps.solve(prob, engine=engine).u
    assert len(said) == 1
    assert u.dtype is torch.complex64
    with pytest.raises(ps.TraceError, match="complex numbers"):
        ps.solve(prob, ps.CVODE_BDF(), engine="embedded")


def test_options_of_states_are_those_of_complex_ones():
    u0 = {"a": torch.ones(1, dtype=C), "b": torch.ones(2, dtype=C)}
    prob = ps.ODEProblem(lambda t, u: {k: 1j * x for k, x in u.items()}, u0, (0.0, 1.0))
    abstol = {"a": torch.tensor([1e-8]), "b": torch.tensor([1e-8, 1e-10])}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sol = ps.solve(prob, ps.DP5(), abstol=abstol, save_idxs=["b"], engine="embedded", save_everystep=True)
    assert list(sol.u) == ["b"]
    assert sol.u["b"].shape == (len(sol.t), 2)
    assert ps.solve(prob, ps.DP5(), save_idxs=2, engine="embedded").u.shape == (2,)


def test_a_real_derivative_of_a_complex_state_is_refused():
    prob = ps.ODEProblem(lambda t, u: u.real, torch.ones(1, dtype=C), (0.0, 1.0))
    with pytest.raises(ps.InvalidInputError, match=r"must be complex[\s\S]*float64"):
        ps.solve(prob, ps.DP5(), engine="embedded")
