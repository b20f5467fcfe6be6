"""Right-hand sides in Julia's own language, alone and with torch modules in their holes."""

from __future__ import annotations

import pytest
import torch
from finite_differences import gradient, relative_error

import pysciml as ps

LOTKA_VOLTERRA = """
function (du, u, p, t)
    du[1] = p[1] * u[1] - p[2] * u[1] * u[2]
    du[2] = -p[3] * u[2] + p[4] * u[1] * u[2]
end
"""
OUT_OF_PLACE = "f(u, p, t) = [p[1] * u[1] - p[2] * u[1] * u[2], -p[3] * u[2] + p[4] * u[1] * u[2]]"
WITH_HOLE = """
function rhs!(du, u, p, t)
    m = nn(u, p)
    du[1] = p[1] * u[1] + m[1]
    du[2] = -p[2] * u[2] + m[2]
    return nothing
end
"""
WITH_HOLE_OUT_OF_PLACE = "f(u, p, t) = (m = nn(u, p); [p[1] * u[1] + m[1], -p[2] * u[2] + m[2]])"
TIGHT = {"reltol": 1e-10, "abstol": 1e-10}
TIMES = [0.0, 0.7, 1.5]
EXACT = {"reltol": 1e-12, "abstol": 1e-12}
SENSITIVITIES = [ps.GaussAdjoint, ps.InterpolatingAdjoint, ps.QuadratureAdjoint, ps.BacksolveAdjoint,
                 ps.ForwardSensitivity]  # fmt: skip


def lotka_volterra(t, u, p):
    x, y = u
    return torch.stack([p[0] * x - p[1] * x * y, -p[2] * y + p[3] * x * y])


def values():
    u0 = torch.tensor([1.0, 0.8], dtype=torch.float64)
    return u0, torch.tensor([1.5, 1.0, 3.0, 1.0], dtype=torch.float64)


def solve(source, u0, p, alg=None, **options):
    prob = ps.ODEProblem(source, u0, (0.0, 1.5), p)
    return ps.solve(prob, alg or ps.Tsit5(), saveat=TIMES, engine="julia", **{**TIGHT, **options}).u


def loss_and_gradients(source, u0, p, **options):
    u0, p = u0.clone().requires_grad_(), p.clone().requires_grad_()
    loss = (solve(source, u0, p, **options) ** 2).sum()
    loss.backward()
    return u0.grad, p.grad


@pytest.fixture(scope="module")
def by_differences():
    """The gradient in u0 and p, from the compiled route."""
    u0, p = values()
    return (gradient(lambda x: (solve(lotka_volterra, x, p, **EXACT) ** 2).sum(), u0),
            gradient(lambda x: (solve(lotka_volterra, u0, x, **EXACT) ** 2).sum(), p))  # fmt: skip


@pytest.mark.julia
@pytest.mark.parametrize("text", [LOTKA_VOLTERRA, OUT_OF_PLACE], ids=["in place", "out of place"])
def test_a_julia_source_solves_as_its_torch_twin(text):
    u0, p = values()
    ours, theirs = solve(ps.JuliaFunction(text), u0, p), solve(lotka_volterra, u0, p)
    assert torch.allclose(ours, theirs, atol=1e-9)


@pytest.mark.julia
@pytest.mark.parametrize("alg", [ps.Tsit5(), ps.Rodas5P()], ids=lambda a: a.name)
@pytest.mark.parametrize("sense", SENSITIVITIES, ids=lambda s: s.__name__)
def test_gradients_agree_with_differences(sense, alg, by_differences):
    found = loss_and_gradients(ps.JuliaFunction(LOTKA_VOLTERRA), *values(), alg=alg, sensealg=sense())
    assert max(map(relative_error, found, by_differences)) < 1e-6


@pytest.mark.julia
@pytest.mark.parametrize(("autojacvec", "text"), [
    ("ReverseDiffVJP", OUT_OF_PLACE), ("ReverseDiffVJP(true)", LOTKA_VOLTERRA), ("ZygoteVJP", OUT_OF_PLACE),
    ("ZygoteVJP", LOTKA_VOLTERRA), ("TrackerVJP", OUT_OF_PLACE),
])  # fmt: skip
def test_the_user_chooses_the_ad(autojacvec, text, by_differences):
    sense = ps.InterpolatingAdjoint(autojacvec=autojacvec)
    found = loss_and_gradients(ps.JuliaFunction(text), *values(), sensealg=sense)
    assert max(map(relative_error, found, by_differences)) < 1e-6


@pytest.mark.julia
def test_an_ad_that_is_not_there_says_so():
    with pytest.raises(ps.PySciMLError, match="Mooncake"):
        loss_and_gradients(
            ps.JuliaFunction(LOTKA_VOLTERRA), *values(), sensealg=ps.GaussAdjoint(autojacvec="MooncakeVJP")
        )


@pytest.mark.julia
def test_a_source_from_a_file_and_a_pytree_of_parameters(tmp_path):
    path = tmp_path / "model.jl"
    path.write_text("using LinearAlgebra\nf!(du, u, p, t) = mul!(du, reshape(view(p, 2:5), 2, 2)', u, p[1], false)\n")
    a, k = torch.tensor([[0.0, 1.0], [-1.0, -0.1]], dtype=torch.float64), torch.tensor([2.0], dtype=torch.float64)
    u0 = values()[0]
    found = solve(ps.JuliaFunction(path), u0, [k, a])
    twin = solve(lambda t, u, p: p[0] * (p[1] @ u), u0, [k, a])
    assert torch.allclose(found, twin, atol=1e-9)


@pytest.mark.julia
@pytest.mark.parametrize(("text", "words"), [
    ("function f(u, p, t\n  u\nend", "source:"), ("x = 1\nf(u, p, t) = u\nundefined_name", "undefined_name"),
    ("x = 1", "end with a function"), ("g(x) = x", "it takes 1 arguments"), ("using NoSuchPackage", "NoSuchPackage"),
])  # fmt: skip
def test_a_text_that_does_not_load_arrives_with_julias_words(text, words):
    with pytest.raises(ps.InvalidInputError, match="cannot be loaded") as info:
        solve(ps.JuliaFunction(text), *values())
    assert words in info.value.got


@pytest.mark.julia
def test_an_error_inside_the_function_arrives_with_julias_words():
    with pytest.raises(ps.PySciMLError, match="undefined_inside"):
        solve(ps.JuliaFunction("f(u, p, t) = undefined_inside .* u"), *values())
    with pytest.raises(ps.PySciMLError, match="1 derivatives of 2 states"):
        solve(ps.JuliaFunction("f(u, p, t) = [u[1]]"), *values())


@pytest.mark.julia
def test_float32_stays_float32():
    u0, p = values()
    u = solve(ps.JuliaFunction(LOTKA_VOLTERRA), u0.float(), p.float(), reltol=1e-5, abstol=1e-6)
    assert u.dtype is torch.float32
    assert torch.allclose(u.double(), solve(lotka_volterra, u0, p), atol=1e-3)


@pytest.mark.julia
def test_implicit_solvers_take_differences_where_dual_numbers_cannot_pass(by_differences):
    text = LOTKA_VOLTERRA.replace("(du, u, p, t)", "f(du, u::AbstractVector{Float64}, p, t)")
    u0, p = values()
    u = solve(ps.JuliaFunction(text, autodiff="AutoFiniteDiff"), u0, p, ps.Rodas5P())
    assert torch.allclose(u, solve(lotka_volterra, u0, p), atol=1e-7)


class Mixed(torch.nn.Module):
    """The torch twin of WITH_HOLE."""

    def __init__(self, net, rates):
        super().__init__()
        self.net, self.rates = net, rates

    def forward(self, t, u):
        return torch.stack([self.rates[0] * u[0], -self.rates[1] * u[1]]) + self.net(u)


def network():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()


def gradients_of(prob, net, rates, alg, sense):
    for x in (rates, *net.parameters()):
        x.grad = None
    sol = ps.solve(prob, alg, saveat=TIMES, engine="julia", sensealg=sense, **TIGHT)
    (sol.u**2).sum().backward()
    return sol.u.detach(), [x.grad.clone() for x in (rates, *net.parameters())]


@pytest.mark.julia
@pytest.mark.parametrize(("alg", "sense"), [
    (ps.Tsit5(), ps.GaussAdjoint()), (ps.Rodas5P(), ps.GaussAdjoint()),
    (ps.Tsit5(), ps.GaussAdjoint(autojacvec="ReverseDiffVJP(true)")),
    (ps.Rodas5P(), ps.InterpolatingAdjoint()), (ps.Tsit5(), ps.InterpolatingAdjoint(autojacvec="ZygoteVJP")),
    (ps.Tsit5(), ps.InterpolatingAdjoint(autojacvec="TrackerVJP")), (ps.Tsit5(), ps.ForwardSensitivity()),
])  # fmt: skip
def test_a_hole_filled_by_a_torch_module_is_as_its_twin_all_in_torch(alg, sense):
    net, u0 = network(), values()[0]
    rates = torch.tensor([1.3, 1.8], dtype=torch.float64, requires_grad=True)
    # Tracker cannot differentiate through what f writes to du.
    text = WITH_HOLE_OUT_OF_PLACE if sense.autojacvec == "TrackerVJP" else WITH_HOLE
    mixed = ps.ODEProblem(ps.JuliaFunction(text, nn=net), u0, (0.0, 1.5), rates)
    u, found = gradients_of(mixed, net, rates, alg, sense)
    twin = ps.ODEProblem(Mixed(net, rates), u0, (0.0, 1.5))
    v, theirs = gradients_of(twin, net, rates, alg, ps.GaussAdjoint())
    assert (u - v).abs().max() < 1e-9
    assert max(map(relative_error, found, theirs)) < 1e-6


@pytest.mark.julia
def test_two_holes_of_other_sizes_and_an_optimizer_step():
    torch.manual_seed(2)
    narrow, wide = torch.nn.Linear(2, 1).double(), torch.nn.Linear(1, 3).double()
    text = "f(u, p, t) = (a = grow(u, p); b = shrink([u[1] * p[1]], p); [a[1] + b[1], b[2] * b[3]])"
    f = ps.JuliaFunction(text, holes={"grow": narrow, "shrink": (wide, 1)})
    u0, p = values()[0], torch.tensor([0.3], dtype=torch.float64, requires_grad=True)

    def twin(t, u, p):
        a, b = narrow(u), wide((u[0] * p[0]).reshape(1))
        return torch.stack([a[0] + b[0], b[1] * b[2]])

    parameters = [p, *narrow.parameters(), *wide.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=1e-3)
    for _ in range(2):
        grads = [torch.autograd.grad((solve(g, u0, p) ** 2).sum(), parameters) for g in (f, twin)]
        assert max(map(relative_error, *grads)) < 1e-6
        for x, g in zip(parameters, grads[0], strict=True):
            x.grad = g
        optimizer.step()


@pytest.mark.julia
def test_a_hole_called_with_the_wrong_sizes_says_so():
    net = network()
    for text, words in (("f(u, p, t) = nn([u[1]], p)", "takes 2 numbers, but got 1"),
                        ("f(u, p, t) = nn(u, p[1:1])", "called with all parameters")):  # fmt: skip
        with pytest.raises(ps.PySciMLError, match=words):
            solve(ps.JuliaFunction(text, nn=net), *values())


@pytest.mark.parametrize("arguments", [
    {"source": ""}, {"source": 3}, {"source": "model.jl"}, {"source": "f(u,p,t)=u", "autodiff": "Enzyme"},
    {"source": "f(u,p,t)=u", "nn": torch.tanh}, {"source": "f(u,p,t)=u", "holes": {"a b": torch.nn.Linear(1, 1)}},
    {"source": "f(u,p,t)=u", "nn": (torch.sum, 2)},
])  # fmt: skip
def test_bad_arguments_are_refused_before_julia(arguments):
    with pytest.raises(ps.InvalidInputError) as info:
        ps.JuliaFunction(**arguments)
    assert info.value.fix


@pytest.mark.usefixtures("no_julia")
def test_a_julia_source_needs_the_julia_engine():
    prob = ps.ODEProblem(ps.JuliaFunction(LOTKA_VOLTERRA), values()[0], (0.0, 1.0), values()[1])
    with pytest.raises(ps.UnsupportedError, match="by Julia alone"):
        ps.solve(prob, ps.CVODE_BDF(), engine="embedded")
    with ps.config.override(engine="auto"), pytest.raises(ps.EngineMissingError, match="julia install"):
        ps.solve(prob, ps.CVODE_BDF())


def test_an_unknown_autojacvec_is_refused():
    with pytest.raises(ps.InvalidInputError, match="ZygoteVJP"):
        ps.GaussAdjoint(autojacvec="Zygote")
