"""What is saved: every step, some states; and tolerances of each state."""

from __future__ import annotations

import pytest
import torch
from finite_differences import relative_error
from problems import lotka_volterra, vector

import pysciml as ps

TIGHT = {"reltol": 1e-9, "abstol": 1e-9}
ENGINES = ["embedded", pytest.param("julia", marks=pytest.mark.julia)]
julia = pytest.mark.julia
STEPPING = [
    pytest.param(ps.DP5(), {"engine": "embedded"}, id="dp5"),
    pytest.param(ps.BS3(), {"engine": "embedded", "reltol": 1e-7, "abstol": 1e-7}, id="bs3"),
    pytest.param(ps.TorchDiffEq("rk4"), {"engine": "embedded", "dt": 0.01}, id="rk4"),
    pytest.param(ps.Tsit5(), {"engine": "julia"}, id="julia", marks=julia),
    pytest.param(ps.Tsit5(), {"engine": "julia", "route": "callback"}, id="callback", marks=julia),
    pytest.param(ps.CVODE_BDF(), {"engine": "julia"}, id="julia-cvode", marks=julia),
    pytest.param(ps.Tsit5(), {"engine": "julia", "sensealg": ps.InterpolatingAdjoint(checkpoints=5)},
                 id="checkpoints", marks=julia),
]  # fmt: skip


def named(t, u, p):
    du = lotka_volterra(t, torch.cat([u["prey"], u["pred"]]), p)
    return {"prey": du[:1], "pred": du[1:]}


def problem(p=None):
    u0 = {"prey": vector(1.0), "pred": vector(0.8)}
    return ps.ODEProblem(named, u0, (0.0, 3.0), vector(1.5, 1.0, 1.0, 3.0) if p is None else p)


@pytest.mark.parametrize(("alg", "options"), STEPPING)
@pytest.mark.parametrize("jumps", [(), [2.0]], ids=["whole", "pieces"])
def test_every_step_is_saved_with_its_gradients(alg, options, jumps):
    p = vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
    sol = ps.solve(problem(p), alg, save_everystep=True, d_discontinuities=jumps, **{**TIGHT, **options})
    assert len(sol.t) > 40
    assert abs(len(sol.t) - 1 - sol.stats.naccept) <= 0.05 * sol.stats.naccept
    assert (sol.t[0], sol.t[-1]) == (0.0, 3.0)
    assert (sol.t.diff() > 0).all()
    assert all(t in sol.t for t in jumps)
    q = p.detach().clone().requires_grad_()
    truth = ps.solve(problem(q), ps.CVODE_Adams(), saveat=sol.t, engine="embedded", reltol=1e-12, abstol=1e-13)
    assert relative_error(sol.u["pred"], truth.u["pred"]) < 1e-5
    for u, x in ((sol.u, p), (truth.u, q)):
        (u["pred"] ** 2 + u["prey"]).mean().backward()
        assert x.grad is not None
    assert relative_error(p.grad, q.grad) < 1e-5


def test_sundials_of_casadi_cannot_say_where_it_stepped():
    with pytest.raises(ps.UnsupportedError, match=r"does not say where SUNDIALS stepped[\s\S]*DP5"):
        ps.solve(problem(), ps.CVODE_BDF(), save_everystep=True, engine="embedded")


def test_steps_and_times_exclude_each_other():
    with pytest.raises(ps.InvalidInputError, match="save_everystep saves"):
        ps.solve(problem(), ps.DP5(), saveat=[1.0], save_everystep=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_some_states_come_back_with_their_gradients(engine):
    p = vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
    q = p.detach().clone().requires_grad_()
    times = [1.0, 2.0]
    whole = ps.solve(problem(q), ps.CVODE_Adams(), saveat=times, engine=engine, **TIGHT)
    by_name = ps.solve(problem(p), ps.CVODE_Adams(), saveat=times, engine=engine, save_idxs=["prey"], **TIGHT)
    assert list(by_name.u) == ["prey"]
    assert torch.equal(by_name.u["prey"], whole.u["prey"])
    by_name.u["prey"].sum().backward()
    whole.u["prey"].sum().backward()
    assert torch.equal(p.grad, q.grad)
    by_place = ps.solve(problem(), ps.CVODE_Adams(), saveat=times, engine=engine, save_idxs=[1, 0], **TIGHT)
    assert by_place.u.shape == (2, 2)
    assert torch.equal(by_place.u[:, 0], whole.u["pred"][:, 0])
    one = ps.solve(problem(), ps.CVODE_Adams(), saveat=times, engine=engine, save_idxs=-1, **TIGHT)
    assert one.u.shape == (2,)
    assert torch.allclose(one(2.0), whole.u["pred"][1])


@pytest.mark.parametrize("alg", [ps.DP5(), ps.CVODE_BDF()], ids=lambda a: a.name)
def test_a_solution_of_some_states_draws_itself(alg):
    ps.solve(problem(), alg, save_idxs=["prey"]).plot()
    assert "[2, 1]" in repr(ps.solve(problem(), alg, save_idxs=[0]))


@pytest.mark.parametrize(("idxs", "message"), [
    (["lynx"], r"'lynx'[\s\S]*'prey', 'pred'"), ([2], "0 to 1"), ([], "none"), ([0.5], "all integers"),
    ([0, "prey"], "all integers"),
])  # fmt: skip
def test_states_that_are_not_there_are_refused(idxs, message):
    with pytest.raises(ps.InvalidInputError, match=message):
        ps.solve(problem(), ps.DP5(), save_idxs=idxs)


@pytest.mark.parametrize(("alg", "options"), [
    pytest.param(ps.DP5(), {"engine": "embedded"}, id="dp5"),
    pytest.param(ps.DP5(), {"engine": "embedded", "sensealg": ps.BacksolveAdjoint()}, id="backsolve"),
    pytest.param(ps.Tsit5(), {"engine": "julia"}, id="julia", marks=julia),
    pytest.param(ps.Vern7(), {"engine": "julia", "sensealg": ps.QuadratureAdjoint()}, id="vern7", marks=julia),
])  # fmt: skip
def test_reltol_of_each_state(alg, options):
    """Of two states that know nothing of each other, the fast one is as exact as its own tolerance asks."""

    def f(t, u, p):
        return torch.stack([-p[0] * u[0], torch.cos(40 * t) * p[1] * u[1]])

    def solved(reltol, p):
        prob = ps.ODEProblem(f, vector(1.0, 1.0), (0.0, 2.0), p)
        return ps.solve(prob, alg, saveat=[2.0], reltol=reltol, abstol=1e-12, **options)

    p, q = (vector(1.0, 3.0).requires_grad_() for _ in range(2))
    each, other, tight = solved(vector(1e-3, 1e-10), p), solved(vector(1e-10, 1e-3), p), solved(1e-10, q)
    fast = torch.exp(3.0 * torch.sin(torch.tensor(80.0).double()) / 40.0)
    errors = [abs(sol.u[0, 1] - fast).item() for sol in (each, other)]
    assert errors[0] < 1e-8 < 1e-6 < errors[1]
    assert other.stats.naccept < 0.5 * tight.stats.naccept
    each.u.sum().backward()
    tight.u.sum().backward()
    assert relative_error(p.grad, q.grad) < 1e-3


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("alg", [None, ps.CVODE_BDF(), ps.Rodas5P()], ids=lambda a: a.name if a else "default")
def test_implicit_solvers_take_one_reltol(engine, alg):
    if engine == "embedded" and isinstance(alg, ps.Rodas5P):
        pytest.skip("not there at all")
    with pytest.raises(ps.UnsupportedError, match=r"one reltol for all states[\s\S]*reltol=1e-06"):
        ps.solve(problem(), alg, reltol={"prey": 1e-3, "pred": 1e-6}, engine=engine)
