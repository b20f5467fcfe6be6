"""Times a solver must step on, and jumps of the right-hand side: accuracy forwards and backwards."""

from __future__ import annotations

import pytest
import torch
from problems import vector

import pysciml as ps

TIGHT = {"reltol": 1e-8, "abstol": 1e-8}
julia = pytest.mark.julia
WAYS = [
    pytest.param(ps.CVODE_BDF(), {"engine": "embedded"}, 1e-5, id="cvode-bdf"),
    pytest.param(ps.CVODE_Adams(), {"engine": "embedded"}, 1e-5, id="cvode-adams"),
    pytest.param(ps.DP5(), {"engine": "embedded"}, 1e-6, id="dp5"),
    pytest.param(ps.Tsit5(), {"engine": "embedded", "sensealg": ps.BacksolveAdjoint()}, 2e-6, id="eager-backsolve"),
    pytest.param(ps.TorchDiffEq("rk4"), {"engine": "embedded", "dt": 0.03}, 1e-6, id="rk4"),
    pytest.param(ps.Tsit5(), {"engine": "julia"}, 1e-8, id="julia-tsit5", marks=julia),
    pytest.param(ps.Tsit5(), {"engine": "julia", "route": "callback"}, 1e-8, id="julia-callback", marks=julia),
    pytest.param(ps.Rodas5P(), {"engine": "julia"}, 1e-8, id="julia-rodas5p", marks=julia),
    pytest.param(ps.CVODE_BDF(), {"engine": "julia"}, 1e-6, id="julia-cvode", marks=julia),
    pytest.param(ps.Tsit5(), {"engine": "julia", "sensealg": ps.InterpolatingAdjoint()}, 1e-7,
                 id="julia-interpolating", marks=julia),
    pytest.param(ps.Tsit5(), {"engine": "julia", "sensealg": ps.ForwardSensitivity()}, 1e-8, id="julia-forward",
                 marks=julia),
]  # fmt: skip


def inputs():
    return [vector(x).requires_grad_() for x in (0.3, 2.0, 1.0)]  # decay, force, start


def switched(decay, force, start, alg, times, tspan=(0.0, 3.0), **options):
    """u' = -decay u + force, which comes on at t = 1."""

    def f(t, u):
        return -decay * u + force * torch.where(t >= 1, 1.0, 0.0)

    return ps.solve(ps.ODEProblem(f, start, tspan), alg, saveat=times, **{**TIGHT, **options})


def exact(decay, force, start, times):
    t = torch.tensor(times, dtype=torch.float64)[:, None]
    late = (t - 1).clamp_min(0)
    return start * torch.exp(-decay * t) + force / decay * (1 - torch.exp(-decay * late))


@pytest.mark.parametrize(("alg", "options", "bound"), WAYS)
def test_solution_and_gradients_through_a_jump(alg, options, bound):
    times = [0.5, 1.0, 1.5, 3.0]
    found, truth = inputs(), inputs()
    u = switched(*found, alg, times, d_discontinuities=[1.0], **options).u
    reference = exact(*truth, times)
    assert (u - reference).abs().max() < bound
    w = vector(1.0, -2.0, 0.5, 3.0)[:, None]
    (w * u).sum().backward()
    (w * reference).sum().backward()
    for x, y in zip(found, truth, strict=True):
        assert (x.grad - y.grad).abs().max() < 3 * bound


@pytest.mark.julia
def test_the_jump_matters():
    """Without being told, the same solve is worse by more than a thousand times."""
    errors = [abs(switched(*inputs(), ps.Tsit5(), [3.0], engine="julia", d_discontinuities=jumps).u
                  - exact(*inputs(), [3.0])).item() for jumps in ([], [1.0])]  # fmt: skip
    assert errors[0] > 1000 * errors[1]


@pytest.mark.parametrize(("alg", "options", "bound"), WAYS[:3] + WAYS[5:6])
def test_a_jump_in_a_solve_backwards_in_time(alg, options, bound):
    start = exact(*inputs(), [3.0])[0].detach()
    decay, force, _ = inputs()
    sol = switched(decay, force, start, alg, [2.0, 1.0, 0.0], tspan=(3.0, 0.0), d_discontinuities=[1.0], **options)
    assert (sol.u.flip(0) - exact(*inputs(), [0.0, 1.0, 2.0])).abs().max() < 10 * bound


@pytest.mark.parametrize(("alg", "options", "bound"), WAYS)
def test_gradients_in_times_through_a_jump(alg, options, bound):
    times = vector(0.5, 2.0).requires_grad_()
    u = switched(*inputs(), alg, times, d_discontinuities=[1.0], **options).u
    u.sum().backward()
    reference = vector(0.5, 2.0).requires_grad_()
    decay, force, start = inputs()
    late = (reference - 1).clamp_min(0)
    (start * torch.exp(-decay * reference) + force / decay * (1 - torch.exp(-decay * late))).sum().backward()
    assert (times.grad - reference.grad).abs().max() < 10 * bound


@pytest.mark.parametrize(("alg", "options"), [
    pytest.param(ps.CVODE_BDF(), {"engine": "embedded"}, id="cvode"),
    pytest.param(ps.DP5(), {"engine": "embedded"}, id="dp5"),
    pytest.param(ps.Tsit5(), {"engine": "julia"}, id="julia", marks=julia),
    pytest.param(ps.CVODE_BDF(), {"engine": "julia"}, id="julia-cvode", marks=julia),
])  # fmt: skip
def test_a_short_pulse_is_stepped_over_unless_there_are_stops(alg, options):
    def f(t, u):
        return torch.exp(-(((t - 50.0) / 0.01) ** 2)) * torch.ones_like(u)

    def area(**more):
        prob = ps.ODEProblem(f, vector(0.0), (0.0, 100.0))
        return ps.solve(prob, alg, saveat=[100.0], reltol=1e-8, abstol=1e-10, **options, **more).u.item()

    truth = 0.01 * torch.pi**0.5
    assert area() < 1e-3 * truth
    stops = [49.96, 49.98, 50.0, 50.02, 50.04]
    assert area(tstops=stops) == pytest.approx(truth, rel=1e-5)


@pytest.mark.julia
def test_many_stops_are_made_by_julia_in_one_solve():
    stops = torch.linspace(0.0, 2.0, 101, dtype=torch.float64)
    prob = ps.ODEProblem(lambda t, u: -u, vector(1.0), (0.0, 2.0))
    sol = ps.solve(prob, ps.Tsit5(), tstops=stops, save_everystep=True, engine="julia")
    assert torch.isin(stops, sol.t).all()


def test_stops_outside_the_span_are_refused():
    with pytest.raises(ps.InvalidInputError, match=r"tstops must lie inside tspan[\s\S]*times from 0 to 3"):
        switched(*inputs(), ps.DP5(), [3.0], tstops=[4.0])
    with pytest.raises(ps.InvalidInputError, match="d_discontinuities must lie inside"):
        switched(*inputs(), ps.DP5(), [3.0], d_discontinuities=[float("nan")])


def test_stops_are_refused_where_nobody_can_make_them():
    with pytest.raises(ps.UnsupportedError, match="tstops or d_discontinuities"), torch.no_grad():
        switched(*inputs(), ps.TorchDiffEq("scipy_solver", {"solver": "LSODA"}), [3.0], tstops=[1.0])
    with pytest.raises(ps.InvalidInputError, match="given twice"):
        switched(*inputs(), ps.TorchDiffEq("dopri5", {"jump_t": vector(1.0)}), [3.0], tstops=[1.0])
