"""torchdiffeq's methods under pysciml's names: right answers, their order of convergence, and their options."""

from __future__ import annotations

import math

import pytest
import torch
from problems import SMOOTH, Problem, vector

import pysciml as ps

F64 = torch.float64
EXACT = [p for p in SMOOTH if p.exact is not None]
FORCED = next(p for p in SMOOTH if p.name == "forced")

ADAPTIVE = {"Tsit5": ps.Tsit5(), "DP5": ps.DP5(), "BS3": ps.BS3(), "Heun": ps.Heun(),
            "dopri8": ps.TorchDiffEq("dopri8"), "fehlberg2": ps.TorchDiffEq("fehlberg2")}  # fmt: skip
ORDERS = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4, "adaptive_heun": 2, "fehlberg2": 2, "bosh3": 3,
          "dopri5": 5, "Tsit5": 5, "dopri8": 8}  # fmt: skip
ONE_STEP = ("euler", "midpoint", "heun2", "heun3", "rk4")


def solve(problem: Problem, alg, times=None, **options):
    times = problem.times if times is None else times
    prob = ps.ODEProblem(problem.f, problem.u0, (0.0, float(times[-1])), problem.p)
    return ps.solve(prob, alg, saveat=times, **options)


@pytest.mark.parametrize("problem", EXACT, ids=lambda p: p.name)
@pytest.mark.parametrize("alg", ADAPTIVE.values(), ids=ADAPTIVE)
def test_adaptive_methods_hold_their_tolerance(alg, problem):
    tol = 1e-9 if alg in (ps.Tsit5(), ps.DP5(), ps.TorchDiffEq("dopri8")) else 1e-5
    sol = solve(problem, alg, reltol=tol, abstol=tol)
    bound = 100 * tol if "fehlberg2" not in alg.name else 2000 * tol  # its error estimate is that of order 1
    assert (sol.u - problem.exact(problem.times)).abs().max() < bound
    between = torch.linspace(0.0, problem.times[-1], 7, dtype=F64)
    assert (sol(between) - problem.exact(between)).abs().max() < bound
    assert sol.stats.naccept > 0
    assert sol.stats.nreject >= 0
    assert sol.stats.nf > sol.stats.naccept


def options_for(method: str, h: float) -> dict:
    """Steps of h: an adaptive method takes them when it may take neither longer nor shorter ones."""
    return {"step_size": h} if method in ONE_STEP else {"first_step": h, "min_step": h, "max_step": h}


@pytest.mark.parametrize(("method", "order"), ORDERS.items())
def test_order_of_convergence(method, order):
    coarse = 0.1 if order < 8 else 0.25
    end = torch.tensor([1.0], dtype=F64)
    errors = [(solve(FORCED, ps.TorchDiffEq(method, options_for(method, h)), end).u - FORCED.exact(end)).abs().item()
              for h in (coarse, coarse / 2, coarse / 4)]  # fmt: skip
    seen = math.log2(errors[1] / errors[2])
    assert order - 0.5 < seen < order + 0.8, errors


@pytest.mark.parametrize("method", ["explicit_adams", "implicit_adams"])
def test_adams_methods_converge(method):
    errors = []
    for dt in (0.02, 0.005):
        # Of order 12, its default, the explicit one is stable only for |lambda dt| < 0.001.
        sol = solve(FORCED, ps.TorchDiffEq(method, {"max_order": 5}), dt=dt, reltol=1e-9, abstol=1e-11)
        errors.append((sol.u - FORCED.exact(FORCED.times)).abs().max().item())
    assert errors[1] < 1e-7
    assert errors[0] > 50 * errors[1]


def test_fixed_steps_do_not_depend_on_what_is_saved():
    few = solve(FORCED, ps.TorchDiffEq("rk4"), vector(0.333, 2.0), dt=0.05)
    times = torch.cat([torch.arange(1, 190, dtype=F64) / 100, vector(2.0)])
    many = solve(FORCED, ps.TorchDiffEq("rk4"), times, dt=0.05)
    assert torch.allclose(few.u[-1], many.u[-1], rtol=1e-14)
    assert torch.allclose(few(0.333), few.u[0], rtol=1e-13)
    assert torch.allclose(many(0.333), few.u[0], rtol=1e-13)


def test_between_fixed_steps_rk4_keeps_its_accuracy():
    sol = solve(FORCED, ps.TorchDiffEq("rk4"), vector(0.123, 0.777), dt=0.01)
    assert (sol.u - FORCED.exact(sol.t)).abs().max() < 1e-7


@pytest.mark.parametrize("sensealg", [ps.DirectAdjoint(), ps.BacksolveAdjoint()], ids=lambda s: s.name)
@pytest.mark.parametrize("alg", [*ADAPTIVE.values(), ps.TorchDiffEq("rk4")], ids=lambda a: a.name)
def test_f_is_never_asked_outside_the_span(alg, sensealg):
    asked = []

    def f(t, u):
        asked.append(t.item())
        return -u * t

    for tspan in ((0.5, 2.0), (2.0, 0.5)):
        u0 = torch.ones(1, dtype=F64, requires_grad=True)
        dt = {"dt": 0.07} if alg.name.endswith('rk4")') else {}
        sol = ps.solve(ps.ODEProblem(f, u0, tspan), alg, sensealg=sensealg, reltol=1e-4, abstol=1e-4, **dt)
        sol.u.sum().backward()
    assert min(asked) >= 0.5 - 1e-12
    assert max(asked) <= 2.0 + 1e-12


def test_one_step_too_many_by_rounding_is_not_taken():
    # 1.1 / 0.1 is 11.000000000000002 in floating point.
    assert solve(FORCED, ps.Euler(), vector(1.1), dt=0.1).stats.naccept == 11


def test_scipy_solves_but_does_not_pretend_to_have_gradients():
    alg = ps.TorchDiffEq("scipy_solver", {"solver": "LSODA"})
    sol = solve(FORCED, alg, reltol=1e-9, abstol=1e-10)
    assert (sol.u - FORCED.exact(FORCED.times)).abs().max() < 1e-6
    k = torch.tensor(1.0, dtype=F64, requires_grad=True)
    prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(1, dtype=F64), (0.0, 1.0))
    with pytest.raises(ps.UnsupportedError, match="cannot be backpropagated"):
        ps.solve(prob, alg)
    with torch.no_grad():
        assert abs(ps.solve(prob, alg).u[-1].item() - math.exp(-1)) < 1e-5
    ps.solve(prob, alg, reltol=1e-9, abstol=1e-10, sensealg=ps.BacksolveAdjoint()).u[-1].sum().backward()
    assert abs(k.grad.item() + math.exp(-1)) < 1e-6


BAD = {
    "no step": (ps.Euler(), {}, ps.InvalidInputError, "must be told which"),
    "no step for rk4": (ps.TorchDiffEq("rk4"), {}, ps.InvalidInputError, r'pysciml.TorchDiffEq\("rk4"\), dt=0.01'),
    "dtmax with a fixed step": (ps.Euler(), {"dt": 0.1, "dtmax": 0.1}, ps.UnsupportedError, "`dtmax` is an option"),
    "dt for SciPy": (ps.TorchDiffEq("scipy_solver"), {"dt": 0.1}, ps.UnsupportedError, "`dt` is an option"),
    "unknown method": (ps.TorchDiffEq("dopri55"), {}, ps.InvalidInputError, "did you mean dopri5"),
    "unknown option": (ps.TorchDiffEq("dopri5", {"safty": 0.8}), {}, ps.InvalidInputError, "did you mean safety"),
    "other sensitivity": (
        ps.DP5(), {"sensealg": ps.GaussAdjoint()}, ps.UnsupportedError, "DirectAdjoint or BacksolveAdjoint"),
    "tolerance of no solve": (
        ps.DP5(), {"sensealg": ps.DirectAdjoint(reltol=1e-3)}, ps.UnsupportedError, "no backward solve"),
    "compiled backward solve": (
        ps.DP5(), {"sensealg": ps.BacksolveAdjoint(alg=ps.CVODE_BDF())}, ps.UnsupportedError, "eager algorithm"),
}  # fmt: skip


@pytest.mark.parametrize(("alg", "options", "kind", "text"), BAD.values(), ids=BAD)
def test_options_that_mean_nothing_are_refused(alg, options, kind, text):
    with pytest.raises(kind, match=text):
        solve(FORCED, alg, **options)


def test_dt_and_dtmax_reach_the_method():
    free = solve(FORCED, ps.DP5(), reltol=1e-4, abstol=1e-4).stats
    bound = solve(FORCED, ps.DP5(), reltol=1e-4, abstol=1e-4, dt=0.001, dtmax=0.01).stats
    assert bound.naccept >= 300 > free.naccept


def test_the_torchdiffeq_here_has_every_method_named():
    from pysciml.engines.embedded.torchdiffeq_methods import aliases, methods

    assert {"dopri5", "tsit5", "rk4"} <= set(methods())
    assert aliases()["dopri5"] == "DP5"
    assert aliases()["rk4"] == "TorchDiffEq"
