"""Steady states against closed forms and finite differences, on every route of the embedded engine; implicit layers."""

from __future__ import annotations

import pytest
import torch
from finite_differences import gradient, relative_error
from problems import vector

import pysciml as ps

F64 = torch.float64
TIGHT = {"reltol": 1e-10, "abstol": 1e-10}
WAYS = [
    (ps.NewtonRaphson(), "compiled"), (ps.TrustRegion(), "compiled"), (ps.TrustRegion(), "callback"),
    (ps.SSRootfind(), "compiled"), (ps.SSRootfind(ps.NewtonRaphson()), "compiled"), (ps.DynamicSS(), "compiled"),
    (ps.DynamicSS(ps.CVODE_Adams()), "compiled"), (ps.DynamicSS(), "callback"), (ps.DynamicSS(ps.DP5()), "callback"),
]  # fmt: skip
ways = pytest.mark.parametrize(("alg", "route"), WAYS, ids=str)


def solve(f, u0, p=None, alg=None, route=None, **options):
    return ps.solve(ps.SteadyStateProblem(f, u0, p), alg, engine="embedded", route=route, **{**TIGHT, **options})


def brusselator(t, u, p):
    """At rest where u = (a, b / a), and stable for b < 1 + a^2."""
    a, b = p
    x, y = u
    return torch.stack([a + x**2 * y - (b + 1) * x, b * x - x**2 * y])


RATES = vector(1.0, 1.3)
START = vector(0.9, 1.1)


def at_rest(p):
    return torch.stack([p[0], p[1] / p[0]])


@ways
def test_a_closed_form_and_its_gradient(alg, route):
    p = RATES.clone().requires_grad_()
    sol = solve(brusselator, START, p, alg, route)
    assert relative_error(sol.u, at_rest(p)) < 1e-7
    weights = vector(0.3, -1.2)
    (found,), (truth,) = (torch.autograd.grad(weights @ u, p) for u in (sol.u, at_rest(p)))
    assert relative_error(found, truth) < 1e-6
    assert sol.retcode is ps.ReturnCode.Success
    assert sol.stats.nf > 0


@ways
def test_second_and_third_derivatives(alg, route):
    k = torch.tensor(2.0, dtype=F64, requires_grad=True)
    u = solve(lambda t, u: k - u**2, vector(1.0), None, alg, route).u.sum()
    truth = k.sqrt()
    for _ in range(3):
        (u,), (truth,) = (torch.autograd.grad(y, k, create_graph=True) for y in (u, truth))
        assert abs(u.item() - truth.item()) < 1e-6 * abs(truth.item())


def decaying(t, u, p):
    return {"x": p["k"] * (1 - u["x"]), "y": u["x"].sum() - torch.exp(u["y"])}


def test_structures_shapes_and_dtypes_are_kept():
    u0 = {"x": torch.zeros(2, 3, dtype=torch.float32), "y": torch.zeros((), dtype=torch.float32)}
    p = {"k": torch.tensor(0.5, dtype=torch.float32, requires_grad=True)}
    sol = ps.solve(ps.SteadyStateProblem(decaying, u0, p), engine="embedded")
    assert sol.u["x"].shape == (2, 3)
    assert sol.u["y"].dtype is torch.float32
    assert abs(sol.u["y"].item() - torch.log(torch.tensor(6.0)).item()) < 1e-4
    sol.u["y"].backward()
    assert p["k"].grad.abs() < 1e-5  # the steady state does not depend on the rate
    assert sol.resid["x"].shape == (2, 3)


def test_the_guess_has_a_gradient_of_zero_and_not_none():
    u0 = START.clone().requires_grad_()
    (found,) = torch.autograd.grad(solve(brusselator, u0, RATES).u.sum(), u0)
    assert torch.equal(found, torch.zeros(2, dtype=F64))


def test_it_does_not_depend_on_the_mass_matrix_and_takes_an_ode_problem():
    ode = ps.ODEProblem(brusselator, START, (0.0, 5.0), RATES, vector(2.0, 0.5))
    for alg in (ps.TrustRegion(), ps.DynamicSS(ps.IDA())):
        sol = ps.solve(ps.SteadyStateProblem(ode), alg, engine="embedded", **TIGHT)
        assert relative_error(sol.u, at_rest(RATES)) < 1e-7


def test_dynamics_and_roots_may_end_elsewhere():
    """u' = u - u^3 flows from 0.1 into 1, and Newton's method finds the unstable 0."""
    f = lambda t, u: u - u**3  # noqa: E731
    assert abs(solve(f, vector(0.1), alg=ps.DynamicSS()).u.item() - 1) < 1e-8
    assert abs(solve(f, vector(0.1), alg=ps.NewtonRaphson()).u.item()) < 1e-8


@pytest.mark.parametrize("route", ["compiled", "callback"])
def test_torch_func(route):
    def f(k):
        return solve(lambda t, u: k - u**3, vector(1.0, 2.0), None, ps.TrustRegion(), route).u.sum()

    k, w = torch.tensor(2.0, dtype=F64), torch.tensor(0.7, dtype=F64)
    root = lambda k: 2 * k ** (1 / 3)  # noqa: E731
    for transform in (torch.func.grad, torch.func.jacfwd, torch.func.hessian,
                      lambda f: torch.func.grad(torch.func.grad(torch.func.grad(f)))):  # fmt: skip
        torch.testing.assert_close(transform(f)(k), transform(root)(k), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(torch.func.jvp(f, (k,), (w,)), torch.func.jvp(root, (k,), (w,)), rtol=1e-8, atol=1e-9)
    ks = vector(1.0, 2.0, 5.0)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(f))(ks), torch.func.vmap(torch.func.grad(root))(ks))


# --- implicit layers


class Cell(torch.nn.Module):
    def __init__(self, width=4, inputs=2):
        super().__init__()
        self.z = torch.nn.Linear(width, width, bias=False).double()
        self.x = torch.nn.Linear(inputs, width).double()
        torch.nn.init.orthogonal_(self.z.weight, gain=0.6)

    def forward(self, z, x):
        return torch.tanh(self.z(z) + self.x(x))


def iterated(cell, x, width):
    z = torch.zeros(x.shape[0], width, dtype=F64)
    for _ in range(300):
        z = cell(z, x)
    return z


@pytest.mark.parametrize(("batch", "route"), [(5, None), (5, "callback"), (160, None)])
def test_a_layer_against_differences_and_against_many_layers(batch, route):
    """640 states have a sparse Jacobian."""
    cell, x = Cell(), torch.randn(batch, 2, dtype=F64, requires_grad=True)
    layer = ps.nn.DeepEquilibrium(cell, shape=(4,), engine="embedded", route=route, **TIGHT)
    weights = torch.randn(batch, 4, dtype=F64)
    inputs = [x, *cell.parameters()]
    found = torch.autograd.grad((weights * layer(x)).sum(), inputs)
    through = torch.autograd.grad((weights * iterated(cell, x, 4)).sum(), inputs)
    for g, truth in zip(found, through, strict=True):
        assert relative_error(g, truth) < 1e-8
    if batch == 5:
        fd = gradient(lambda w: (weights * torch.func.functional_call(layer, {"cell.z.weight": w}, (x,))).sum(),
                      cell.z.weight)  # fmt: skip
        assert relative_error(found[1], fd) < 1e-8


def test_where_the_jacobian_is_large_and_full_gmres_takes_products():
    n = 700
    a = torch.tensor(0.3, dtype=F64, requires_grad=True)
    mix = torch.randn(n, n, dtype=F64) / n
    sol = solve(lambda t, u: torch.tanh(a * (mix @ u) + a) - u, torch.zeros(n, dtype=F64), alg=ps.NewtonRaphson())
    (found,) = torch.autograd.grad(sol.u.sum(), a)
    z = torch.zeros(n, dtype=F64)
    for _ in range(100):
        z = torch.tanh(a * (mix @ z) + a)
    (truth,) = torch.autograd.grad(z.sum(), a)
    assert abs(found.item() - truth.item()) < 1e-8 * abs(truth.item())


def test_second_derivatives_through_a_layer():
    cell = Cell(2)
    layer = ps.nn.DeepEquilibrium(cell, shape=(2,), engine="embedded", reltol=1e-12, abstol=1e-12, warm_start=False)
    x = torch.randn(2, 2, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    assert torch.autograd.gradgradcheck(layer, (x,))


def test_a_deep_equilibrium_layer_trains_and_starts_warm():
    x = torch.randn(16, 2, dtype=F64)
    target = torch.sin(2 * x[:, :1]) * x[:, 1:]

    def train(warm_start: bool):
        torch.manual_seed(3)
        layer = ps.nn.DeepEquilibrium(Cell(6), (6,), warm_start=warm_start, engine="embedded")
        model = torch.nn.Sequential(layer, torch.nn.Linear(6, 1).double())
        optimizer, losses, evaluations = torch.optim.Adam(model.parameters(), lr=1e-2), [], 0
        for _ in range(150):
            optimizer.zero_grad()
            loss = ((model(x) - target) ** 2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            evaluations += layer.stats.nf
        return losses, evaluations

    (losses, warm), (_, cold) = train(True), train(False)
    assert losses[-1] < losses[0] / 20
    assert warm < 0.8 * cold


def test_a_layer_keeps_its_last_state_out_of_the_state_dict():
    layer = ps.nn.DeepEquilibrium(Cell(), (4,), engine="embedded")
    x = torch.randn(3, 2, dtype=F64)
    z = layer(x)
    assert torch.equal(layer.last, z)
    assert not layer.last.requires_grad
    assert "last" not in layer.state_dict()
    first = layer.stats.nf
    layer(x)
    assert layer.stats.nf < first
    assert layer(x[:2]).shape == (2, 4)  # another batch starts from zero
    assert "shape=(4,)" in repr(layer)


# --- what cannot be


@pytest.mark.parametrize("route", ["compiled", "callback"])
def test_where_the_solution_depends_on_the_guess_its_gradient_is_refused(route):
    k = torch.tensor(2.0, dtype=F64, requires_grad=True)
    u0 = vector(1.0, 0.0).requires_grad_()
    f = lambda t, u: torch.stack([k * u[1] - u[0], u[0] - k * u[1]])  # noqa: E731
    sol = solve(f, u0, alg=ps.DynamicSS(), route=route, reltol=1e-8, abstol=1e-8)
    assert relative_error(sol.u.detach(), vector(2 / 3, 1 / 3)) < 1e-6
    with pytest.raises(ps.SolveError, match="has no derivative") as caught:
        sol.u[0].backward()
    assert caught.value.direction == "backward"
    assert "conserve" in str(caught.value)
    assert caught.value.fix
    assert u0.grad is None


def test_a_large_singular_system_is_refused_too():
    n = 600
    a = torch.tensor(0.3, dtype=F64, requires_grad=True)
    sol = solve(lambda t, u: a * (u.mean() - u), torch.ones(n, dtype=F64), alg=ps.NewtonRaphson())
    with pytest.raises(ps.SolveError, match="has no derivative"):
        sol.u[0].backward()


@pytest.mark.parametrize("alg", [ps.TrustRegion(), ps.NewtonRaphson(), ps.SSRootfind(), ps.DynamicSS(tspan=0.5)],
                         ids=str)  # fmt: skip
def test_where_there_is_no_steady_state(alg):
    with pytest.raises(ps.SolveError, match="found no steady state") as caught:
        solve(lambda t, u: u**2 + 1, vector(1.0), alg=alg)
    assert caught.value.retcode in (ps.ReturnCode.ConvergenceFailure, ps.ReturnCode.Unstable)
    assert caught.value.got
    assert "Likely cause" in str(caught.value)
    assert "pysciml" in caught.value.fix
    assert caught.value.stats is not None


def test_what_newton_cannot_find_the_flow_does_where_no_method_is_named():
    """|f| has a minimum above the only root, where searches for roots end."""
    f = lambda t, u: -(u**3) + 2 * u - 2  # noqa: E731
    u0 = torch.full((3,), 1.5, dtype=F64)
    sol = solve(f, u0)
    assert torch.allclose(sol.u, torch.full_like(u0, -1.7692923542386314), atol=1e-8)
    assert sol.stats.alg == "DynamicSS"
    with pytest.raises(ps.SolveError):
        solve(f, u0, alg=ps.TrustRegion())


def test_a_flow_that_goes_round_is_given_up():
    with pytest.raises(ps.SolveError, match="oscillates"):
        solve(lambda t, u: torch.stack([u[1], -u[0]]), vector(1.0, 0.5), alg=ps.DynamicSS(), maxiters=2000)


def test_a_flow_that_blows_up_says_where():
    with pytest.raises(ps.SolveError, match=r"stopped at t = 0\.78"):
        solve(lambda t, u: u**2 + 1, vector(1.0), alg=ps.DynamicSS())


INVALID = {
    "t in f": (lambda: solve(lambda t, u: torch.cos(t) - u, vector(1.0)), "must not depend on t"),
    "t in f called back": (
        lambda: solve(lambda t, u: torch.cos(t) - u, vector(1.0), route="callback"), "must not depend on t"
    ),
    "no guess": (lambda: ps.SteadyStateProblem(brusselator), "needs u0"),
    "an ODEProblem and more": (
        lambda: ps.SteadyStateProblem(ps.ODEProblem(brusselator, START, (0.0, 1.0), RATES), START), "takes u0, p"
    ),
    "no function": (lambda: ps.SteadyStateProblem(3.0, START), "must be callable"),
    "unknown field": (lambda: ps.SteadyStateProblem(brusselator, START, RATES).remake(tspan=1.0), "no field 'tspan'"),
    "NaN": (lambda: solve(brusselator, vector(1.0, float("nan")), RATES), "`u0` must be finite"),
    "NaN captured": (
        lambda: (lambda k: solve(lambda t, u: k - u, vector(1.0)))(vector(float("nan"))), "`k` must be finite"
    ),
    "tolerance": (lambda: solve(brusselator, START, RATES, reltol=-1.0), "reltol must be positive"),
    "an ODE solver in SSRootfind": (lambda: ps.SSRootfind(ps.DP5()), "needs a method for roots"),
    "a root finder in DynamicSS": (lambda: ps.DynamicSS("DP5"), "needs a solver for ODEs"),
    "fixed steps": (lambda: ps.DynamicSS(ps.Euler()), "chooses its steps"),
    "no time": (lambda: ps.DynamicSS(tspan=0.0), "must be positive"),
    "no shape": (lambda: ps.nn.DeepEquilibrium(Cell())(torch.zeros(1, 2, dtype=F64)), "know the shape"),
    "iterations": (lambda: solve(brusselator, START, RATES, maxiters=0), "maxiters must be positive"),
}  # fmt: skip

UNSUPPORTED = {
    "an ODE solver": (lambda: solve(brusselator, START, RATES, ps.DP5()), "cannot solve a SteadyStateProblem",
                      "DynamicSS(pysciml.DP5())"),
    "another sensitivity": (lambda: solve(brusselator, START, RATES, sensealg=ps.GaussAdjoint()),
                            "implicit function theorem", "SteadyStateAdjoint"),
    "saveat": (lambda: solve(brusselator, START, RATES, saveat=[1.0]), "takes no `saveat`", "leave saveat out"),
    "an ODE by a root finder": (
        lambda: ps.solve(ps.ODEProblem(brusselator, START, (0.0, 1.0), RATES), ps.TrustRegion(), engine="embedded"),
        "cannot solve an ODEProblem", "CVODE_BDF",
    ),
    "SteadyStateAdjoint of an ODE": (
        lambda: ps.solve(ps.ODEProblem(brusselator, START, (0.0, 1.0), RATES), sensealg=ps.SteadyStateAdjoint(),
                         engine="embedded"), "not available", "GaussAdjoint",
    ),
    "complex": (lambda: solve(lambda t, u: 1j - u, torch.ones(1, dtype=torch.complex128)), "complex numbers",
                "view_as_real"),
    "Newton called back": (lambda: solve(brusselator, START, RATES, ps.NewtonRaphson(), "callback"),
                           "needs an f that is compiled", "TrustRegion"),
    "SUNDIALS called back": (lambda: solve(brusselator, START, RATES, ps.DynamicSS(ps.CVODE_BDF()), "callback"),
                             "cannot take the callback route", "DP5"),
    "Julia's solver": (lambda: solve(brusselator, START, RATES, ps.DynamicSS(ps.Rodas5P())),
                       "`Rodas5P` is not available", "CVODE_BDF"),
    "a root finder in DynamicSS": (lambda: ps.DynamicSS(ps.TrustRegion()), "cannot solve an ODEProblem", "CVODE_BDF"),
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


def test_what_hides_a_derivative_is_refused():
    k = torch.tensor(2.0, dtype=F64, requires_grad=True)
    sol = solve(lambda t, u, p: p.detach() - u, vector(1.0), k, route="callback")
    with pytest.raises(ps.UnsupportedError, match="torch cannot see how"):
        sol.u.sum().backward()
    with pytest.raises(ps.TraceError, match="is not the derivative"):
        solve(lambda t, u, p: p.detach() * 1.0 - u, vector(1.0), k, route="compiled")


class Scaled(torch.autograd.Function):
    """What no torch function shows, and torch.func cannot transform."""

    @staticmethod
    def forward(ctx, u, k):
        ctx.save_for_backward(u, k)
        return u * k

    @staticmethod
    def backward(ctx, g):
        u, k = ctx.saved_tensors
        return g * k, (g * u).sum()


def test_custom_functions_have_first_derivatives():
    k = torch.tensor(2.0, dtype=F64, requires_grad=True)
    sol = solve(lambda t, u: 1 - Scaled.apply(u, k), vector(1.0), route="callback")
    (found,) = torch.autograd.grad(sol.u.sum(), k, create_graph=True)
    assert abs(found.item() + 0.25) < 1e-8
    with pytest.raises(ps.UnsupportedError, match="second derivatives need"):
        torch.autograd.grad(found, k)


def test_what_cannot_be_compiled_is_called_back_with_one_warning():
    k = torch.tensor(2.0, dtype=F64, requires_grad=True)
    with pytest.warns(ps.PySciMLWarning, match="cannot be compiled") as said:
        sol = solve(lambda t, u: k - u if u.sum() > 0 else u, vector(1.0))
    assert len(said) == 1
    assert "test_steady_state.py" in said[0].filename
    (found,) = torch.autograd.grad(sol.u.sum(), k)
    assert abs(found.item() - 1) < 1e-8


def test_exceptions_of_f_arrive_unchanged():
    def f(t, u):
        raise ZeroDivisionError("as it was")

    with pytest.raises(ZeroDivisionError, match="as it was"):
        solve(f, vector(1.0))


def test_what_a_solution_shows():
    sol = solve(brusselator, START, RATES)
    assert "retcode  Success" in repr(sol)
    assert "TrustRegion (embedded)" in sol._repr_html_()
    assert repr(sol.prob) == "SteadyStateProblem(brusselator, u0: [2] torch.float64)"


def test_gradients_are_those_of_the_values_solved_with():
    p = RATES.clone().requires_grad_()
    sol = solve(brusselator, START, p)
    with torch.no_grad():
        p += 1.0
    (found,) = torch.autograd.grad(sol.u.sum(), p)
    truth = vector(1 - 1.3, 1.0)
    assert relative_error(found, truth) < 1e-7
