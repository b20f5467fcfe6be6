"""What torch.func over a solve can only do in part: DAEs, Julia source, sensitivities; and the errors it gives."""

from __future__ import annotations

import pytest
import torch
from finite_differences import relative_error
from problems import vector
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

import pysciml as ps
from pysciml.rhs import functorch

A = torch.tensor(0.5, dtype=torch.float64)
TIGHT = {"reltol": 1e-10, "abstol": 1e-12}
P = vector(0.5, 0.7)

pytestmark = pytest.mark.usefixtures("float64")
ENGINES = ["embedded", pytest.param("julia", marks=pytest.mark.julia)]


def dae(engine, p, t1=1.0):
    """x' = -p0 y with 0 = y - p1 x^2."""

    def f(t, u, p):
        return torch.stack([-p[0] * u[1], u[1] - p[1] * u[0] ** 2])

    mass = torch.tensor([1.0, 0.0])  # inside of a transform, which wraps it
    alg = {"embedded": ps.IDA(), "julia": ps.Rodas5P()}[engine]
    prob = ps.ODEProblem(f, torch.tensor([1.0, 0.7]), (0.0, t1), p, mass_matrix=mass)
    return ps.solve(prob, alg, engine=engine, reltol=1e-9, abstol=1e-11).u[-1]


def dae_exactly(p, t1=1.0):
    x = 1 / (1 + p[0] * p[1] * t1)
    return torch.stack([x, p[1] * x**2])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_dae_in_its_parameters(engine):
    assert relative_error(jacrev(lambda p: dae(engine, p))(P), jacrev(dae_exactly)(P)) < 1e-5
    assert relative_error(jacfwd(lambda p: dae(engine, p))(P), jacrev(dae_exactly)(P)) < 1e-5
    assert relative_error(hessian(lambda p: dae(engine, p))(P), hessian(dae_exactly)(P)) < 1e-5


@pytest.mark.parametrize("engine", ENGINES)
def test_a_dae_in_times_once(engine):
    end = torch.tensor(1.0)
    exact = jacrev(lambda t: dae_exactly(P, t))(end)
    assert relative_error(jacrev(lambda t: dae(engine, P, t))(end), exact) < 1e-5
    assert relative_error(jacfwd(lambda t: dae(engine, P, t))(end), exact) < 1e-5
    with pytest.raises(ps.UnsupportedError, match=r"second derivatives in times(.|\n)*mass matrix(.|\n)*detach"):
        hessian(lambda t: dae(engine, P, t))(end)


def weighted(p, engine, alg, sensealg=None):
    """A mass matrix and tolerances that are not the same for all states."""

    def f(t, u, p):
        return torch.stack([u[1], p * (1 - u[0] ** 2) * u[1] - u[0]])

    takes_mass = engine == "embedded" or alg.name == "Rodas5P"  # Julia's explicit methods and CVODE take none
    weights = torch.tensor([1.0, 2.0])
    g = f if takes_mass else lambda t, u, p: f(t, u, p) / weights
    mass = weights if takes_mass else None
    prob = ps.ODEProblem(g, torch.tensor([2.0, 0.1]), (0.0, 1.0), p, mass_matrix=mass)
    abstol = torch.tensor([1e-11, 1e-12])
    return ps.solve(prob, alg, engine=engine, reltol=1e-10, abstol=abstol, sensealg=sensealg).u[-1].sum()


SENSITIVITIES = [
    ("embedded", ps.CVODE_BDF(), ps.GaussAdjoint()),
    ("embedded", ps.CVODE_Adams(), ps.InterpolatingAdjoint(checkpoints=30)),
    ("embedded", ps.CVODE_Adams(), ps.ForwardSensitivity()),
    *(pytest.param("julia", alg, sensealg, marks=pytest.mark.julia) for alg, sensealg in [
        (ps.Rodas5P(), ps.GaussAdjoint()), (ps.Tsit5(), ps.InterpolatingAdjoint()),
        (ps.Tsit5(), ps.QuadratureAdjoint()), (ps.Tsit5(), ps.ForwardSensitivity()), (ps.CVODE_BDF(), None)]),
]  # fmt: skip


@pytest.mark.parametrize(("engine", "alg", "sensealg"), SENSITIVITIES, ids=str)
def test_second_derivatives_by_every_sensitivity_algorithm(engine, alg, sensealg):
    p = torch.tensor(1.0)
    exact = hessian(lambda p: weighted(p, "embedded", ps.CVODE_Adams()))(p)
    assert relative_error(hessian(lambda p: weighted(p, engine, alg, sensealg))(p), exact) < 1e-5
    h = 1e-3
    up, down = (grad(lambda p: weighted(p, engine, alg, sensealg))(p + s * h) for s in (1, -1))
    assert relative_error((up - down) / (2 * h), exact) < 1e-5


def by_source(a, t1=1.0):
    prob = ps.ODEProblem(ps.JuliaFunction("f(u, p, t) = p[1] .* u"), torch.ones(1), (0.0, t1), a.reshape(1))
    return ps.solve(prob, ps.Vern7(), engine="julia", **TIGHT).u[-1, 0]


@pytest.mark.julia
def test_a_julia_function_has_first_derivatives():
    many = vector(0.5, 0.2)
    assert relative_error(grad(by_source)(A), A.exp()) < 1e-8
    assert relative_error(jacrev(by_source)(A), A.exp()) < 1e-8
    assert relative_error(vmap(grad(by_source))(many), many.exp()) < 1e-8
    assert relative_error(grad(lambda t: by_source(A, t))(torch.tensor(1.0)), A * A.exp()) < 1e-8


@pytest.mark.julia
@pytest.mark.parametrize("second", [hessian, jacfwd, lambda f: grad(grad(f)), lambda f: lambda a: jvp(f, (a,), (a,))])
def test_a_julia_function_says_that_it_has_no_more(second):
    with pytest.raises(ps.UnsupportedError, match=r"JuliaFunction(.|\n)*def f\(t, u, p\)"):
        second(by_source)(A)


@pytest.mark.julia
def test_a_julia_function_says_so_after_create_graph_too():
    a = A.clone().requires_grad_()
    (first,) = torch.autograd.grad(by_source(a), a, create_graph=True)
    assert relative_error(first, A.exp()) < 1e-8
    with pytest.raises(ps.UnsupportedError, match="second derivatives and forward mode through a JuliaFunction"):
        first.backward()


@pytest.mark.julia
def test_parameters_lent_to_the_hole_of_a_julia_function():
    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(2, 2)
            self.f = ps.JuliaFunction("f(u, p, t) = nn(u, p)", nn=self.net)

        def forward(self, u0):
            return (ps.solve(ps.ODEProblem(self.f, u0, (0.0, 1.0)), ps.Vern7(), engine="julia", **TIGHT).u ** 2).sum()

    whole, u0 = Whole(), torch.ones(2)
    whole(u0).backward()
    found = grad(lambda params: functional_call(whole, params, (u0,)))(
        {n: x.detach() for n, x in whole.named_parameters()}
    )
    for name, x in whole.named_parameters():
        assert relative_error(found[name], x.grad) < 1e-10


def test_backsolve_has_first_derivatives_and_says_that_it_has_no_more():
    def final(a):
        prob = ps.ODEProblem(lambda t, u, p: p * u, torch.ones(1), (0.0, 1.0), a.reshape(1))
        return ps.solve(prob, ps.DP5(), engine="embedded", sensealg=ps.BacksolveAdjoint(), **TIGHT).u[-1, 0]

    assert relative_error(vmap(grad(final))(A.reshape(1)), A.exp()) < 1e-7
    with pytest.raises(ps.UnsupportedError, match=r"second derivatives through BacksolveAdjoint(.|\n)*DirectAdjoint"):
        hessian(final)(A)


def test_vmap_says_what_cannot_differ_among_members():
    def ended(t1):
        return ps.solve(ps.ODEProblem(lambda t, u: -u, torch.ones(1), (0.0, t1)), saveat=0.1, **TIGHT).u

    def tolerant(abstol):
        return ps.solve(ps.ODEProblem(lambda t, u: -u, torch.ones(2), (0.0, 1.0)), abstol=abstol).u

    def massive(mass):
        return ps.solve(ps.ODEProblem(lambda t, u: -u, torch.ones(2), (0.0, 1.0), mass_matrix=mass)).u

    def asked(t):
        return ps.solve(ps.ODEProblem(lambda t, u: -u, torch.ones(1), (0.0, 1.0)))(t)

    with pytest.raises(ps.UnsupportedError, match=r"number of saved times(.|\n)*linspace"):
        vmap(ended)(vector(1.0, 2.0))
    with pytest.raises(ps.UnsupportedError, match="abstol cannot differ"):
        vmap(tolerant)(torch.ones(3, 2) * 1e-8)
    with pytest.raises(ps.InvalidInputError, match="mass_matrix cannot be differentiated or mapped"):
        vmap(massive)(torch.ones(3, 2))
    for transform in (grad, jacfwd):
        with pytest.raises(ps.InvalidInputError, match="mass_matrix cannot be differentiated"):
            transform(lambda mass: massive(mass).sum())(torch.ones(2))
    with pytest.raises(ps.UnsupportedError, match=r"sol\(t\)(.|\n)*saveat=t"):
        vmap(asked)(vector(0.1, 0.2))


def test_times_of_each_member_are_looked_at():
    def final(t):
        return ps.solve(ps.ODEProblem(lambda t, u: -u, torch.ones(1), (0.0, 1.0)), saveat=t).u

    with pytest.raises(ps.InvalidInputError, match="inside tspan"):
        vmap(final)(torch.tensor([[0.5], [2.0]]))
    with pytest.raises(ps.InvalidInputError, match="finite"):
        vmap(lambda u0: ps.ODEProblem(lambda t, u: -u, u0, (0.0, 1.0)))(torch.tensor([[1.0], [torch.nan]]))


def test_parameters_that_are_not_finite_are_refused():
    def final(a):
        return ps.solve(ps.ODEProblem(lambda t, u: a * u, torch.ones(1), (0.0, 1.0))).u.sum()

    with pytest.raises(ps.InvalidInputError, match="parameters must be finite"):
        vmap(grad(final))(torch.tensor([1.0, torch.inf]))


def test_the_values_in_wrappers():
    seen = []

    def look(x):
        seen.append((functorch.example(x), functorch.values(x), functorch.mapped(x), functorch.wrapped(x)))
        return (x**2).sum()

    x = torch.arange(6.0).reshape(2, 3)
    vmap(grad(look), in_dims=1)(x)
    example, values, mapped, wrapped = seen[0]
    assert torch.equal(example, x[:, 0])
    assert torch.equal(values, x)
    assert (mapped, wrapped) == (True, True)
    assert (functorch.mapped(x), functorch.wrapped(x)) == (False, False)
    assert torch.equal(functorch.values(x), x)
    hessian(look)(x)
    assert torch.equal(seen[1][0], x)
    assert seen[1][2:] == (False, True)


@pytest.mark.julia
def test_an_ensemble_on_threads_says_that_it_is_not_for_transforms():
    prob = ps.ODEProblem(lambda t, u: -u, torch.ones(1), (0.0, 1.0))

    def total(u0, executor):
        return (
            ps.solve_ensemble(ps.EnsembleProblem(prob, u0=u0), executor=executor, engine="julia", **TIGHT)
            .u[:, -1]
            .sum()
        )

    u0 = torch.ones(3, 1)
    with pytest.raises(ps.UnsupportedError, match=r'a transform of torch.func(.|\n)*executor="serial"'):
        grad(lambda x: total(x, "threads"))(u0)
    assert relative_error(grad(lambda x: total(x, "serial"))(u0), torch.full((3, 1), -1.0).exp()) < 1e-7
