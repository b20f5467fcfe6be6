"""torch.func over a solve, and derivatives of any order, by every engine and route.

The closed form: y' = a y from y(0) = 1 gives y(1) = exp(a), and the loss L = a y(1).
"""

from __future__ import annotations

import pytest
import torch
from finite_differences import relative_error
from problems import lotka_volterra, vector
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import pysciml as ps

F64 = torch.float64
TIGHT = {"reltol": 1e-11, "abstol": 1e-13}
ROUTES = {
    "embedded": {"engine": "embedded", "alg": ps.CVODE_Adams()},
    "eager": {"engine": "embedded", "alg": ps.TorchDiffEq("dopri8"), "route": "callback"},
    "julia": {"engine": "julia", "alg": ps.Vern7()},
    "callback": {"engine": "julia", "alg": ps.Vern7(), "route": "callback"},
}
A = torch.tensor(0.5, dtype=F64)
MANY = vector(0.5, 0.2, 1.0)

pytestmark = pytest.mark.usefixtures("float64")
in_julia = pytest.mark.julia


def marked(name: str):
    return pytest.param(name, marks=in_julia) if ROUTES[name]["engine"] == "julia" else name


routes = pytest.mark.parametrize("route", list(map(marked, ROUTES)))


def states(route, f, u0, tspan, p=None, **options):
    chosen = {"saveat": None, **TIGHT, **ROUTES[route], **options}
    return ps.solve(ps.ODEProblem(f, u0, tspan, p), chosen.pop("alg"), **chosen).u


def loss(route):
    """L(a) = a y(1), whose derivatives of order n are (n + a) exp(a)."""
    return lambda a: a * states(route, lambda t, u, p: p * u, torch.ones(1), (0.0, 1.0), a.reshape(1))[-1, 0]


def truth(a: torch.Tensor, order: int) -> torch.Tensor:
    return (order + a) * a.exp()


def test_the_second_derivative_that_torchdiffeqs_adjoint_gets_silently_wrong():
    """Theirs says 1.65, the truth is 4.12."""
    torchdiffeq = pytest.importorskip("torchdiffeq")

    class Growth(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a = torch.nn.Parameter(A.clone())

        def forward(self, t, y):
            return self.a * y

    def second(solve):
        f = Growth()
        (first,) = torch.autograd.grad(f.a * solve(f)[-1, 0], f.a, create_graph=True)
        return torch.autograd.grad(first, f.a)[0].item()

    times = torch.tensor([0.0, 1.0])
    theirs = second(lambda f: torchdiffeq.odeint_adjoint(f, torch.ones(1), times, rtol=1e-10, atol=1e-12))
    ours = second(lambda f: states("embedded", f, torch.ones(1), (0.0, 1.0)))
    assert truth(A, 2).item() == pytest.approx(4.1218, abs=1e-4)
    assert theirs == pytest.approx(1.6487, abs=1e-4)
    assert ours == pytest.approx(truth(A, 2).item(), rel=1e-8)


@routes
def test_double_backward_of_any_order(route):
    a = A.clone().requires_grad_()
    value = loss(route)(a)
    for order in (1, 2, 3):
        (value,) = torch.autograd.grad(value, a, create_graph=True)
        assert relative_error(value, truth(A, order)) < 1e-7


TRANSFORMS = {
    "grad": (grad, 1),
    "jacrev": (jacrev, 1),
    "jacfwd": (jacfwd, 1),
    "vjp": (lambda f: lambda a: vjp(f, a)[1](torch.ones(()))[0], 1),
    "jvp": (lambda f: lambda a: jvp(f, (a,), (torch.ones(()),))[1], 1),
    "grad of grad": (lambda f: grad(grad(f)), 2),
    "hessian": (hessian, 2),
    "jacrev of jacrev": (lambda f: jacrev(jacrev(f)), 2),
    "jacrev of jacfwd": (lambda f: jacrev(jacfwd(f)), 2),
    "jacfwd of jacfwd": (lambda f: jacfwd(jacfwd(f)), 2),
    "hessian of grad": (lambda f: hessian(grad(f)), 3),
}
transforms = pytest.mark.parametrize("name", TRANSFORMS)


@routes
@transforms
def test_each_transform_against_the_closed_form(route, name):
    transform, order = TRANSFORMS[name]
    assert relative_error(transform(loss(route))(A), truth(A, order)) < 1e-7


@routes
@transforms
def test_each_transform_under_vmap(route, name):
    transform, order = TRANSFORMS[name]
    assert relative_error(vmap(transform(loss(route)))(MANY), truth(MANY, order)) < 1e-7


@routes
def test_derivatives_of_a_vmap(route):
    def total(a):
        return vmap(loss(route))(a).sum()

    assert relative_error(vmap(loss(route))(MANY), truth(MANY, 0)) < 1e-8
    assert relative_error(grad(total)(MANY), truth(MANY, 1)) < 1e-8
    assert relative_error(hessian(total)(MANY), torch.diag(truth(MANY, 2))) < 1e-7


@routes
def test_vmap_over_states_and_parameters_in_any_dimension(route):
    def final(u0, p):
        return states(route, lotka_volterra, u0, (0.0, 1.0), p)[-1]

    u0, p = torch.rand(2, 3) + 0.5, torch.rand(4, 2) + 0.5
    many = vmap(vmap(final, in_dims=(1, None)), in_dims=(None, 1))(u0, p)
    for i in range(2):
        for j in range(3):
            assert torch.equal(many[i, j], final(u0[:, j], p[:, i]))


def moving(route, t0, t1, a):
    """u' = a t u, saved in the middle and at the end."""
    times = torch.stack([(t0 + t1) / 2, t1])
    # Backpropagation through steps differentiates the last step's own error in its length too: small steps are needed.
    options = {"dtmax": 0.05} if route == "eager" else {}
    return states(
        route, lambda t, u, p: p * t * u, torch.ones(1), (t0, t1), a.reshape(1), saveat=times, **options
    ).sum()


def moving_exactly(t0, t1, a):
    middle = (t0 + t1) / 2
    return torch.exp(a * (t1**2 - t0**2) / 2) + torch.exp(a * (middle**2 - t0**2) / 2)


@routes
@pytest.mark.parametrize("second", [hessian, lambda f: jacrev(jacrev(f)), lambda f: jacfwd(jacfwd(f))],
                         ids=["hessian", "reverse", "forward"])  # fmt: skip
def test_second_derivatives_in_times_and_parameters_together(route, second):
    x = vector(0.2, 0.9, 0.7)
    found = second(lambda x: moving(route, *x))(x)
    assert relative_error(found, hessian(lambda x: moving_exactly(*x))(x)) < (1e-5 if route == "eager" else 1e-7)


@routes
def test_second_derivatives_in_times_by_backward(route):
    x = vector(0.2, 0.9, 0.7)
    found = torch.autograd.functional.hessian(lambda x: moving(route, *x), x)
    assert relative_error(found, hessian(lambda x: moving_exactly(*x))(x)) < (1e-5 if route == "eager" else 1e-7)


@routes
def test_vmap_over_times_gives_each_member_its_own_span(route):
    ends = vector(0.5, 1.5)
    slopes = vmap(grad(lambda t1: moving(route, torch.tensor(0.2), t1, A)))(ends)
    assert relative_error(slopes, vmap(grad(lambda t1: moving_exactly(torch.tensor(0.2), t1, A)))(ends)) < 1e-7


class Missing(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
        self.rates = torch.nn.Parameter(vector(0.6, 0.9))

    def forward(self, t, u):
        return torch.stack([self.rates[0] * u[0], -self.rates[1] * u[1]]) + self.net(u)


class Whole(torch.nn.Module):
    """A model with a solve inside."""

    def __init__(self, route):
        super().__init__()
        self.route, self.f = route, Missing()

    def forward(self, u0):
        return (states(self.route, self.f, u0, (0.0, 1.0), saveat=[0.5, 1.0]) ** 2).sum()


U0 = vector(1.0, 0.5)


def ude(route):
    """Two ways to hand parameters to a UDE, lent around the solve and inside f, and its parameters."""
    whole = Whole(route)
    params = {name: x.detach() for name, x in whole.named_parameters()}

    def around(params):
        return functional_call(whole, params, (U0,))

    def inside(params):
        mine = {name.removeprefix("f."): x for name, x in params.items()}
        return (states(route, lambda t, u: functional_call(whole.f, mine, (t, u)), U0, (0.0, 1.0), saveat=[0.5, 1.0])
                ** 2).sum()  # fmt: skip

    return whole, params, {"around": around, "inside": inside}


def flat(tree):
    return torch.cat([x.reshape(-1) for x in tree.values()])


def along(function, params, w, step=1e-3):
    """The derivative of a function along w, by central differences of fourth order."""

    def at(s):
        return function({name: x + s * step * w[name] for name, x in params.items()})

    one, two = flat(at(1)) - flat(at(-1)), flat(at(2)) - flat(at(-2))
    return (8 * one - two) / (12 * step)


@routes
@pytest.mark.parametrize("way", ["around", "inside"])
def test_parameters_that_functional_call_lends(route, way):
    whole, params, ways = ude(route)
    whole(U0).backward()
    expected = torch.cat([x.grad.reshape(-1) for x in whole.parameters()])
    assert relative_error(flat(grad(ways[way])(params)), expected) < 1e-10
    lent = {name: x.clone().requires_grad_() for name, x in params.items()}
    ways[way]({name: 2 * x for name, x in lent.items()}).backward()  # without torch.func, at other values
    doubled = {name: 2 * x for name, x in params.items()}
    assert relative_error(flat({n: x.grad for n, x in lent.items()}), 2 * flat(grad(ways[way])(doubled))) < 1e-10
    many = vmap(grad(ways[way]))({name: torch.stack([x, 2 * x]) for name, x in params.items()})
    assert relative_error(flat({name: x[0] for name, x in many.items()}), expected) < 1e-10
    assert relative_error(flat({name: x[1] for name, x in many.items()}), flat(grad(ways[way])(doubled))) < 1e-10


@routes
def test_the_hessian_of_a_ude_against_differences_of_gradients(route):
    whole, params, ways = ude(route)
    w = {name: torch.randn_like(x) for name, x in params.items()}
    expected = along(grad(ways["inside"]), params, w)
    for way in ways.values():
        assert relative_error(flat(jvp(grad(way), (params,), (w,))[1]), expected) < 1e-6
        assert (
            relative_error(flat(grad(lambda p, way=way: (flat(grad(way)(p)) * flat(w)).sum())(params)), expected) < 1e-6
        )
    first = torch.autograd.grad(whole(U0), list(whole.parameters()), create_graph=True)
    again = torch.autograd.grad(sum((g * v).sum() for g, v in zip(first, w.values(), strict=True)), whole.parameters())
    assert relative_error(torch.cat([x.reshape(-1) for x in again]), expected) < 1e-6


@routes
def test_the_whole_hessian_is_symmetric_and_the_same_by_every_way(route):
    def final(u0):
        return (states(route, lotka_volterra, u0[:2], (0.0, 1.0), u0[2:], saveat=[0.4, 1.0]) ** 3).sum()

    x = vector(1.0, 0.8, 1.5, 1.0, 0.7, 0.9)
    forward, backward = hessian(final)(x), torch.autograd.functional.hessian(final, x)
    assert relative_error(forward, forward.T) < 1e-7
    assert relative_error(forward, backward) < 1e-7


@routes
def test_a_tensor_that_f_captured_from_a_transform(route):
    def captured(a):
        b = 2 * a
        return states(route, lambda t, u: a * u + torch.func.grad(lambda z: (b * z**2).sum())(u), torch.ones(1),
                      (0.0, 0.2))[-1, 0]  # fmt: skip

    def exactly(a):
        return torch.exp(a)  # a u + 4 a u = 5 a u, for a time 0.2

    assert relative_error(grad(captured)(A), grad(exactly)(A)) < 1e-8
    assert relative_error(vmap(grad(captured))(MANY), MANY.exp()) < 1e-8
    assert relative_error(jacfwd(captured)(A), A.exp()) < 1e-8


@routes
def test_what_requires_grad_outside_of_the_transform_gets_its_gradient(route):
    b = A.clone().requires_grad_()

    def final(a):
        return states(route, lambda t, u: a * b * u, torch.ones(1), (0.0, 1.0))[-1, 0]

    slope = grad(final)(torch.tensor(2.0))  # b exp(2 b)
    slope.backward()
    assert relative_error(slope, A * (2 * A).exp()) < 1e-8
    assert relative_error(b.grad, (1 + 2 * A) * (2 * A).exp()) < 1e-7


@routes
def test_torchs_own_forward_mode(route):
    with forward_ad.dual_level():
        a = forward_ad.make_dual(A, torch.tensor(2.0))
        u = states(route, lambda t, u: a * u, torch.ones(1), (0.0, 1.0))
        assert relative_error(forward_ad.unpack_dual(u[-1, 0]).tangent, 2 * A.exp()) < 1e-8


@routes
def test_trees_and_float32(route):
    def final(a):
        u0 = {"x": torch.ones(1, dtype=torch.float32), "y": torch.ones((), dtype=torch.float32)}
        options = {**ROUTES[route]}
        prob = ps.ODEProblem(lambda t, u, p: {"x": p[0] * u["x"], "y": -u["y"]}, u0, (0.0, 1.0), (a,))
        return ps.solve(prob, options.pop("alg"), reltol=1e-5, abstol=1e-6, **options).u["x"][-1, 0]

    a = A.float()
    for transform in (grad, jacfwd, hessian):
        found = transform(final)(a)
        assert found.dtype is torch.float32
        assert relative_error(found, a.exp()) < 1e-3


@routes
def test_dense_output_under_transforms(route):
    def at(a):
        options = {**ROUTES[route]}
        prob = ps.ODEProblem(lambda t, u, p: p * u, torch.ones(1), (0.0, 1.0), a.reshape(1))
        sol = ps.solve(prob, options.pop("alg"), **TIGHT, **options)
        return sol(torch.stack([a, a / 2, a]))[:, 0]

    times = torch.stack([A, A / 2, A])
    exact = (A * times).exp() * (times + A * torch.tensor([1.0, 0.5, 1.0]))
    assert relative_error(jacrev(at)(A), exact) < 1e-7
    assert relative_error(jacfwd(at)(A), exact) < 1e-7


@routes
def test_tangents_of_any_size_are_as_accurate(route):
    for size in (1e-9, 1e9):
        _, along = jvp(loss(route), (A,), (torch.tensor(size),))
        assert relative_error(along / size, truth(A, 1)) < 1e-8


def test_one_gradient_solves_once_and_a_jacobian_no_more_often(monkeypatch):
    from pysciml.engines.embedded.sundials import SundialsEngine

    calls = []
    solve = SundialsEngine.solve
    monkeypatch.setattr(SundialsEngine, "solve", lambda self, request: (calls.append(request), solve(self, request))[1])
    jacrev(lambda u0: states("embedded", lotka_volterra, u0, (0.0, 1.0), torch.ones(4)))(U0)
    assert len(calls) == 1
