"""Problems in halves: symplectic and Nyström's solvers, their energy, their gradients and what they refuse."""

from __future__ import annotations

import pytest
import torch
from finite_differences import gradient, relative_error
from problems import vector

import pysciml as ps

pytestmark = pytest.mark.julia
TIMES = [1.0, 2.5, 3.0]
TIGHT = {"reltol": 1e-10, "abstol": 1e-10}


def attraction(t, u, du, p):
    return -p * u / (u @ u) ** 1.5


def kepler(x, tspan=(0.0, 3.0)):
    """Velocity, position and strength of attraction in one vector."""
    return ps.SecondOrderODEProblem(attraction, x[:2], x[2:4], tspan, x[4:])


START = vector(0.0, 1.2, 1.0, 0.1, 1.1)


def loss(x, alg, problem=kepler, **options):
    v, u = ps.solve(problem(x), alg, saveat=TIMES, engine="julia", **{**TIGHT, **options}).u
    return (u**2).sum() + (v[:, 0] * u[:, 1]).sum()


@pytest.mark.parametrize(("alg", "options", "bound"), [
    (ps.VelocityVerlet(), {"dt": 1e-3}, 1e-6),
    (ps.McAte5(), {"dt": 1e-2}, 1e-6),
    (ps.KahanLi8(), {"dt": 1e-2}, 1e-6),
    (ps.KahanLi8(), {"dt": 1e-2, "route": "callback"}, 1e-6),
    (ps.KahanLi8(), {"dt": 1e-2, "sensealg": ps.InterpolatingAdjoint()}, 1e-6),
    (ps.DPRKN6(), {}, 1e-6),
    (ps.DPRKN6(), {"d_discontinuities": [1.7]}, 1e-6),
    (ps.FineRKN5(), {}, 1e-6),
    (ps.Tsit5(), {}, 1e-6),
], ids=str)  # fmt: skip
def test_gradients_are_those_of_the_solve(alg, options, bound):
    x = START.clone().requires_grad_()
    loss(x, alg, **options).backward()
    assert relative_error(x.grad, gradient(lambda y: loss(y, alg, **options), START)) < bound


def test_a_dynamical_problem_with_another_velocity():
    """The pendulum with a mass of its own, H = v^2 / (2 p0) - p1 cos u."""

    def problem(x):
        return ps.DynamicalODEProblem(lambda t, v, u, p: -p[1] * torch.sin(u), lambda t, v, u, p: v / p[0], x[:1],
                                      x[1:2], (0.0, 3.0), x[2:])  # fmt: skip

    def value(x, alg, **options):
        v, u = ps.solve(problem(x), alg, saveat=TIMES, engine="julia", **TIGHT, **options).u
        return (u**2 + v).sum()

    x = vector(0.5, 1.0, 1.5, 2.0).requires_grad_()
    found = value(x, ps.Yoshida6(), dt=0.01)
    found.backward()
    assert found.item() == pytest.approx(value(x, ps.Vern9()).item(), rel=1e-8)
    assert relative_error(x.grad, gradient(lambda y: value(y, ps.Vern9()), x)) < 1e-6


def henon_heiles(t, u, du):
    return torch.stack([-u[0] - 2 * u[0] * u[1], -u[1] - u[0] ** 2 + u[1] ** 2])


def drift(alg, **options):
    """The largest error of the energy in the first and in the last tenth of a long time."""
    du0, u0 = vector(0.25, 0.42), vector(0.0, 0.1)
    prob = ps.SecondOrderODEProblem(henon_heiles, du0, u0, (0.0, 5000.0))
    v, u = ps.solve(prob, alg, saveat=5.0, engine="julia", maxiters=10_000_000, **options).u
    energy = ((v**2).sum(1) + (u**2).sum(1)) / 2 + u[:, 0] ** 2 * u[:, 1] - u[:, 1] ** 3 / 3
    error = (energy - energy[0]).abs()
    return error[:100].max().item(), error[-100:].max().item()


@pytest.mark.parametrize(("alg", "dt", "size"), [(ps.VelocityVerlet(), 0.05, 1e-3), (ps.McAte4(), 0.1, 1e-4),
                                                 (ps.KahanLi8(), 0.1, 1e-6)], ids=str)  # fmt: skip
def test_the_energy_of_a_symplectic_solve_stays(alg, dt, size):
    early, late = drift(alg, dt=dt)
    assert early < size
    assert late < 3 * early


def test_the_energy_of_another_solve_drifts():
    early, late = drift(ps.Tsit5(), reltol=1e-5, abstol=1e-5)
    assert late > 10 * early


@pytest.mark.parametrize(("alg", "fix"), [(ps.KahanLi8(), "FineRKN5"), (ps.DPRKN6(), "FineRKN5")], ids=str)
def test_an_acceleration_that_depends_on_the_velocity_is_refused(alg, fix):
    prob = ps.SecondOrderODEProblem(lambda t, u, du: -u - 0.1 * du, vector(0.0), vector(1.0), (0.0, 1.0))
    with pytest.raises(ps.UnsupportedError, match=rf"does not depend on the velocity[\s\S]*{fix}"):
        ps.solve(prob, alg, dt=0.01, engine="julia")
    damped = torch.exp(torch.tensor(-0.05).double()) * (torch.cos(w := torch.tensor(0.9975).double().sqrt())
                                                        + 0.05 / w * torch.sin(w))  # fmt: skip
    for other in (ps.FineRKN5(), ps.Nystrom4(), ps.Tsit5()):
        _, u = ps.solve(prob, other, dt=0.01, engine="julia", reltol=1e-9, abstol=1e-9).u
        assert u[-1].item() == pytest.approx(damped.item(), abs=1e-7)


def test_what_halves_cannot_do_is_refused():
    general = ps.DynamicalODEProblem(lambda t, v, u: -u, lambda t, v, u: 2 * v, vector(0.0), vector(1.0), (0.0, 1.0))
    for alg in (ps.DPRKN6(), ps.VelocityVerlet()):
        with pytest.raises(
            ps.UnsupportedError, match=r"cannot solve a DynamicalODEProblem[\s\S]*a SecondOrderODEProblem"
        ):
            ps.solve(general, alg, dt=0.1, engine="julia")
    with pytest.raises(ps.UnsupportedError, match="ForwardSensitivity"):
        loss(START, ps.KahanLi8(), dt=0.1, sensealg=ps.ForwardSensitivity())
    with pytest.raises(ps.InvalidInputError, match="needs dt"):
        loss(START, ps.KahanLi8())
