"""Boundary value problems against closed forms and finite differences, on every route of the embedded engine."""

from __future__ import annotations

import math

import pytest
import torch
from finite_differences import gradient, relative_error
from problems import vector

import pysciml as ps

F64 = torch.float64
TIGHT = {"reltol": 1e-9, "abstol": 1e-9}
WAYS = [
    (ps.Collocation4(), None), (ps.Shooting(), None), (ps.MultiShooting(4), None),
    (ps.Shooting(ps.CVODE_Adams()), None), (ps.Shooting(ps.DP5()), None),
    (ps.Collocation4(), "callback"), (ps.MultiShooting(3), "callback"),
]  # fmt: skip
ways = pytest.mark.parametrize(("alg", "route"), WAYS, ids=str)


def number(x):
    return torch.tensor(x, dtype=F64, requires_grad=True)


def solve(prob, alg=None, route=None, **options):
    return ps.solve(prob, alg, engine="embedded", route=route, **{**TIGHT, **options})


def check(found, truth, inputs, bound=1e-6):
    """Both values and gradients of a weighted sum of them."""
    assert relative_error(found.detach(), truth.detach()) < bound
    weights = torch.randn(found.shape, dtype=F64)
    each = [torch.autograd.grad((weights * u).sum(), inputs, retain_graph=True) for u in (found, truth)]
    for g, true in zip(*each, strict=True):
        assert relative_error(g, true) < bound


def oscillator(w):
    return lambda t, u: torch.stack([u[1], -(w**2) * u[0]])


@ways
def test_an_oscillator_between_two_points(alg, route):
    """u'' = -w^2 u, u(t0) = a, u(t1) = b, differentiated in all of these and in the saved times."""
    a, b, w, t0, t1 = map(number, (0.3, 2.0, 1.3, 0.2, 1.4))
    ts = vector(0.5, 1.1).requires_grad_()
    prob = ps.TwoPointBVProblem(oscillator(w), (lambda u: u[0] - a, lambda u: u[0] - b), vector(0.0, 0.0), (t0, t1))
    sol = solve(prob, alg, route, saveat=ts)
    up, down, width = (torch.sin(w * x) for x in (ts - t0, t1 - ts, t1 - t0))
    check(sol.u[:, 0], (b * up + a * down) / width, [a, b, w, t0, t1, ts])
    assert sol.retcode is ps.ReturnCode.Success
    assert sol.stats.alg == alg.name
    assert sol.stats.nf > 0


def test_dense_output_is_differentiable_in_time_at_nodes_too():
    b, w = number(2.0), number(1.3)
    prob = ps.TwoPointBVProblem(oscillator(w), lambda ua, ub: torch.stack([ua[0], ub[0] - b]), vector(0.0, 0.0),
                                (0.0, 1.2))  # fmt: skip
    sol = solve(prob, ps.MultiShooting(2))
    ts = vector(1.2, 0.6, 0.3, 0.6, 0.0).requires_grad_()  # 0, 0.6 and 1.2 are nodes
    check(sol(ts)[:, 0], b * torch.sin(w * ts) / torch.sin(w * 1.2), [b, w, ts])
    assert sol(0.25).shape == (2,)
    assert sol.u.shape == (2, 2)
    with pytest.raises(ps.InvalidInputError, match="inside the span"):
        sol(1.3)


def test_backwards_in_time():
    b, w = number(2.0), number(1.3)
    for alg in (ps.Collocation4(), ps.MultiShooting(3)):
        prob = ps.TwoPointBVProblem(oscillator(w), (lambda u: u[0] - b, lambda u: u[0]), vector(0.0, 0.0), (1.2, 0.0))
        sol = solve(prob, alg, saveat=[1.0, 0.3])
        check(sol.u[:, 0], b * torch.sin(w * sol.t) / torch.sin(w * 1.2), [b, w])


@pytest.mark.parametrize("size", [1e-2, 1e-4])
@pytest.mark.parametrize("alg", [ps.Collocation4(), ps.MultiShooting(25)], ids=str)
def test_a_boundary_layer(size, alg):
    """eps u'' = u, where a deviation grows to e^100 over the whole span."""
    eps = number(size)

    def f(t, u, p):
        return torch.stack([u[1], u[0]]) / p.sqrt()

    prob = ps.TwoPointBVProblem(f, (lambda ua, p: ua[0] - 1, lambda ub, p: ub[0]), vector(0.0, 0.0), (0.0, 1.0), eps)
    sol = solve(prob, alg, saveat=[0.01, 0.05, 0.2], abstol=1e-11)
    rate = 1 / eps.sqrt()
    check(sol.u[:, 0], torch.sinh((1 - sol.t) * rate) / torch.sinh(rate), [eps])


def bratu(k):
    """u'' = -k exp(u), u(0) = u(1) = 0: the lower solution at 0.25 and 0.5."""
    z = torch.zeros((), dtype=F64)
    for _ in range(60):  # of theta = sqrt(2 k) cosh(theta / 4)
        slope = 1 - torch.sqrt(2 * k) * torch.sinh(z / 4) / 4
        z = z - (z - torch.sqrt(2 * k) * torch.cosh(z / 4)) / slope
    x = vector(0.25, 0.5)
    return -2 * torch.log(torch.cosh((x - 0.5) * z / 2) / torch.cosh(z / 4))


def bratu_problem(k):
    f = lambda t, u: torch.stack([u[1], -k * torch.exp(u[0])])  # noqa: E731
    return ps.TwoPointBVProblem(f, lambda ua, ub: torch.stack([ua[0], ub[0]]), vector(0.0, 0.0), (0.0, 1.0))


@ways
def test_bratus_problem_with_second_derivatives(alg, route):
    k = number(2.0)
    sol = solve(bratu_problem(k), alg, route, saveat=[0.25, 0.5])
    truth = bratu(k)
    check(sol.u[:, 0], truth, [k])
    firsts = [torch.autograd.grad(u.sum(), k, create_graph=True)[0] for u in (sol.u[:, 0], truth)]
    seconds = [torch.autograd.grad(g, k)[0] for g in firsts]
    assert relative_error(*seconds) < 1e-6


def test_torch_func():
    def f(k):
        return solve(bratu_problem(k), ps.Shooting(), saveat=[0.25, 0.5]).u[:, 0].sum()

    def truth(k):
        return bratu(k).sum()

    k = torch.tensor(2.0, dtype=F64)
    for transform in (torch.func.grad, torch.func.jacfwd, torch.func.hessian):
        assert relative_error(transform(f)(k), transform(truth)(k)) < 1e-6
    mapped = [torch.func.vmap(torch.func.grad(g))(vector(1.0, 2.0)) for g in (f, truth)]
    assert relative_error(*mapped) < 1e-6


@pytest.mark.parametrize(("alg", "route"), [(None, None), (ps.Shooting(), None), (ps.MultiShooting(2), "callback")])
def test_conditions_in_the_middle_and_captured_by_bc(alg, route):
    """u'' = -w^2 u with a value at 0.4 and a mean of both ends."""
    a, b, w = map(number, (0.7, -0.4, 1.7))

    def bc(sol):
        first, last = sol(0.0), sol(1.0)
        return {"middle": sol(0.4)[0] - a, "mean": (first[0] + last[0]) / 2 - b}

    sol = solve(ps.BVProblem(oscillator(w), bc, vector(0.1, 0.1), (0.0, 1.0)), alg, route, saveat=[0.0, 0.4, 0.8])
    ends = torch.stack([torch.stack([torch.cos(0.4 * w), torch.sin(0.4 * w)]),
                        torch.stack([(1 + torch.cos(w)) / 2, torch.sin(w) / 2])])  # fmt: skip
    c, s = torch.linalg.solve(ends, torch.stack([a, b]))
    check(sol.u[:, 0], c * torch.cos(w * sol.t) + s * torch.sin(w * sol.t), [a, b, w])


def test_networks_in_f_and_in_bc_against_differences():
    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    end = torch.nn.Linear(1, 1).double()
    weights = torch.randn(3, 2, dtype=F64)

    def f(t, u):
        return torch.stack([u[1], net(u)[0] - u[0]])

    def bc(ua, ub):
        return torch.cat([ua[:1] - 0.3, ub[:1] - end(ua[1:])])

    def loss():
        sol = solve(ps.TwoPointBVProblem(f, bc, vector(0.0, 0.0), (0.0, 1.0)), saveat=[0.2, 0.5, 0.9])
        return (weights * sol.u).sum()

    inputs = [*net.parameters(), *end.parameters()]
    for x, g in zip(inputs, torch.autograd.grad(loss(), inputs), strict=True):

        def moved(values, x=x):
            before = x.detach().clone()
            x.data.copy_(values)
            out = loss()
            x.data.copy_(before)
            return out

        assert relative_error(g, gradient(moved, x)) < 1e-5


def test_structures_and_single_precision():
    k = torch.tensor(1.0, requires_grad=True)

    def f(t, u, p):
        return {"x": u["v"], "v": -p["k"] * u["x"]}

    u0 = {"x": torch.zeros(2), "v": torch.zeros(2)}
    bc = (lambda u, p: u["x"], lambda u, p: u["x"] - torch.tensor([1.0, 2.0]))
    sol = ps.solve(ps.TwoPointBVProblem(f, bc, u0, (0.0, 1.0), {"k": k}), saveat=[0.5], engine="embedded")
    assert sol.u["x"].dtype is torch.float32
    assert sol.u["x"].shape == (1, 2)
    truth = torch.tensor([1.0, 2.0]) * (torch.sin(k.sqrt() / 2) / torch.sin(k.sqrt()))
    (found,), (true,) = (torch.autograd.grad(x.sum(), k) for x in (sol.u["x"], truth))
    assert relative_error(sol.u["x"][0].detach(), truth.detach()) < 1e-4
    assert relative_error(found, true) < 1e-3


GUESSES = {
    "a function": (lambda t: torch.stack([0 * t + 3.0, 0 * t]), None),
    "states at times": (torch.tensor([[0.0, 8.0], [4.0, 0.0], [0.0, -8.0]], dtype=F64), [0.0, 0.5, 1.0]),
}


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("alg", [ps.Collocation4(), ps.MultiShooting(4)], ids=str)
def test_a_guess_decides_which_solution_is_found(guess, alg):
    """Bratu's problem has two; the upper one is at 4.0914 in the middle for k = 1."""
    u0, times = GUESSES[guess]
    k = number(1.0)
    prob = bratu_problem(k).remake(u0=u0, times=times)
    sol = solve(prob, alg, saveat=[0.5])
    assert abs(sol.u[0, 0].item() - 4.0914671) < 1e-5


def test_an_earlier_solution_starts_warm_and_the_guess_has_no_gradient():
    u0 = vector(0.0, 0.0).requires_grad_()
    prob = bratu_problem(torch.tensor(1.0, dtype=F64)).remake(u0=u0)
    cold = solve(prob, ps.Shooting())
    (found,) = torch.autograd.grad(cold.u.sum(), u0)
    assert torch.equal(found, torch.zeros(2, dtype=F64))
    warm = solve(prob.remake(u0=cold), ps.Shooting())
    assert warm.stats.nf < cold.stats.nf
    assert relative_error(warm.u.detach(), cold.u.detach()) < 1e-6


# --- what cannot be


def plain(bc=None, alg=None, f=None, u0=None, tspan=(0.0, 1.0), kind=ps.BVProblem, **options):
    bc = bc or (lambda sol: torch.stack([sol(0.0)[0], sol(1.0)[0] - 1]))
    return solve(kind(f or oscillator(1.0), bc, vector(0.0, 0.0) if u0 is None else u0, tspan), alg, **options)


INVALID = {
    "no function": (lambda: plain(bc=3.0), "bc must be callable"),
    "no pair": (lambda: plain(bc=(lambda u: u,), kind=ps.TwoPointBVProblem), "a pair of functions"),
    "too few residuals": (lambda: plain(bc=lambda sol: sol(0.0)[:1]), "as many residuals as a state has"),
    "too many residuals": (lambda: plain(bc=lambda sol: (sol(0.0), sol(1.0))), "as many residuals as a state has"),
    "numbers": (lambda: plain(bc=lambda sol: [0.0, 1.0]), "bc must return tensors"),
    "nothing": (lambda: plain(bc=lambda sol: []), "bc must return tensors"),
    "unknown field": (lambda: bratu_problem(number(1.0)).remake(t=1), "TwoPointBVProblem has no field 't'"),
    "times of no states": (lambda: bratu_problem(number(1.0)).remake(times=[0.0, 0.5, 1.0]), "`times` are those"),
    "times of a function": (
        lambda: bratu_problem(number(1.0)).remake(u0=lambda t: vector(0.0, 0.0), times=[0.0, 1.0]), "`times` are those"
    ),
    "times elsewhere": (
        lambda: bratu_problem(number(1.0)).remake(u0=torch.zeros(2, 2, dtype=F64), times=[0.0, 2.0]),
        "`times` are those",
    ),
    "NaN guess": (lambda: plain(u0=vector(float("nan"), 0.0)), "must be finite"),
    "a time outside in bc": (lambda: plain(bc=lambda sol: torch.stack([sol(0.0)[0], sol(3.0)[0]])), "inside the span"),
    "empty span": (lambda: plain(tspan=(1.0, 1.0)), "must not be empty"),
    "parts": (lambda: ps.MultiShooting(0), "must be a number of parts"),
    "points": (lambda: ps.Collocation4(max_nodes=1), "must be a number of points"),
    "points of MIRK": (lambda: ps.MIRK4(nodes=1), "must be a number of points"),
    "fixed steps": (lambda: ps.Shooting(ps.Euler()), "chooses its steps"),
    "no solver": (lambda: ps.Shooting("DP5"), "needs a solver for ODEs"),
    "tolerance": (lambda: plain(reltol=0.0), "reltol must be positive"),
    "saveat": (lambda: plain(saveat=[2.0]), "inside tspan"),
}  # fmt: skip

UNSUPPORTED = {
    "an ODE solver": (lambda: plain(alg=ps.DP5()), "cannot solve a BVProblem", "Shooting(pysciml.DP5())"),
    "a steady state's": (lambda: plain(alg=ps.TrustRegion()), "cannot solve a BVProblem", "Shooting()"),
    "a steady state's in Shooting": (lambda: ps.Shooting(ps.TrustRegion()), "cannot solve an ODEProblem", "CVODE_BDF"),
    "conditions anywhere": (lambda: plain(alg=ps.Collocation4()), "at the two ends alone", "MultiShooting"),
    "Julia's": (lambda: plain(alg=ps.MIRK4()), "`MIRK4` is not available", "Collocation4"),
    "Julia's solver": (lambda: plain(alg=ps.Shooting(ps.Rodas5P())), "`Rodas5P` is not available", "CVODE_BDF"),
    "an ODE by shooting": (
        lambda: ps.solve(ps.ODEProblem(oscillator(1.0), vector(0.0, 0.0), (0.0, 1.0)), ps.Shooting()),
        "cannot solve an ODEProblem", "CVODE_BDF",
    ),
    "callback": (lambda: plain(callback=ps.PresetTimeCallback([0.5], lambda t, u: u)), "takes no `callback`", "leave"),
    "complex": (lambda: plain(u0=torch.zeros(2, dtype=torch.complex128)), "complex numbers", "view_as_real"),
    "halves": (
        lambda: plain(f=ps.SecondOrderODEProblem(lambda t, u, du: -u, vector(0.0), vector(0.0), (0.0, 1.0)).f),
        "takes one f", "def f(t, u)",
    ),
    "SUNDIALS called back": (lambda: plain(alg=ps.Shooting(ps.CVODE_BDF()), route="callback"),
                             "cannot take the callback route", "DP5"),
    "eager and compiled": (lambda: plain(alg=ps.Shooting(ps.DP5()), route="compiled"), "cannot take the compiled route",
                           "CVODE_BDF"),
    "another adjoint": (lambda: plain(sensealg=ps.SteadyStateAdjoint()), "not available", "GaussAdjoint"),
}  # fmt: skip


@pytest.mark.parametrize("case", INVALID)
def test_invalid_input(case):
    call, what = INVALID[case]
    with pytest.raises(ps.InvalidInputError, match=what) as caught:
        call()
    assert caught.value.got


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_unsupported(case):
    call, what, fix = UNSUPPORTED[case]
    with pytest.raises(ps.UnsupportedError, match=what) as caught:
        call()
    assert fix in f"{caught.value.expected} {caught.value.fix}"


@pytest.mark.parametrize("alg", [ps.Shooting(), ps.MultiShooting(3), ps.Collocation4()], ids=str)
def test_where_there_is_no_solution(alg):
    """Bratu's problem has none above k = 3.51."""
    with pytest.raises(ps.SolveError, match="found no solution") as caught:
        solve(bratu_problem(torch.tensor(5.0, dtype=F64)), alg, maxiters=30)
    assert caught.value.retcode is ps.ReturnCode.ConvergenceFailure
    assert "Likely cause" in str(caught.value)
    assert caught.value.got
    assert "guess" in caught.value.fix


def test_conditions_that_do_not_determine_the_solution_have_no_gradient():
    """u'' = -u with u(0) = u(pi) = 0 is solved by every multiple of the sine."""
    w = number(1.0)
    prob = ps.TwoPointBVProblem(oscillator(w), (lambda u: u[0], lambda u: u[0]), vector(0.0, 1.0), (0.0, math.pi))
    sol = solve(prob, ps.Shooting(), saveat=[1.0])
    with pytest.raises(ps.SolveError, match="has no derivative"):
        sol.u.sum().backward()


def test_what_cannot_be_compiled_is_called_back_with_one_warning():
    w = number(1.3)

    def f(t, u):
        return torch.stack([u[1], -(w**2) * u[0] if u[0] < 1e9 else u[0]])

    prob = ps.TwoPointBVProblem(f, (lambda u: u[0], lambda u: u[0] - 1), vector(0.0, 0.0), (0.0, 1.0))
    with pytest.warns(ps.PySciMLWarning, match="cannot be compiled") as said:
        sol = solve(prob, saveat=[0.5])
    assert len(said) == 1
    assert "test_boundary.py" in said[0].filename
    check(sol.u[:, 0], (torch.sin(w / 2) / torch.sin(w))[None], [w])


class Scaled(torch.autograd.Function):
    """What no torch function shows."""

    @staticmethod
    def forward(ctx, u, k):
        ctx.save_for_backward(u, k)
        return u * k

    @staticmethod
    def backward(ctx, g):
        u, k = ctx.saved_tensors
        return g * k, (g * u).sum()


@pytest.mark.parametrize("where", ["f", "bc"])
def test_a_parameter_that_a_custom_function_reaches_for_is_refused_and_not_lost(where):
    k = number(1.3)
    times = Scaled.apply if where == "f" else (lambda u, k: u * 1.0)
    f = lambda t, u: torch.stack([u[1], -times(u[0], k)])  # noqa: E731
    bc = (lambda u: u[0], lambda u: (Scaled.apply(u[0], k) if where == "bc" else u[0]) - 1)
    prob = ps.TwoPointBVProblem(f, bc, vector(0.0, 0.0), (0.0, 1.0))
    with pytest.raises(ps.UnsupportedError, match="by torch functions alone"):
        solve(prob, ps.Shooting(), "callback", saveat=[0.5]).u[0, 0].backward()
    assert k.grad is None


def test_exceptions_of_f_and_bc_arrive_unchanged():
    def bad(*args):
        raise ZeroDivisionError("as it was")

    for given in ({"f": bad}, {"bc": bad}):
        with pytest.raises(ZeroDivisionError, match="as it was"):
            plain(**given)


def test_what_a_problem_shows():
    prob = bratu_problem(number(1.0))
    assert repr(prob) == "TwoPointBVProblem(<lambda>, u0: [2] torch.float64, tspan=(0, 1))"
    assert "Collocation4 (embedded)" in repr(solve(prob))
