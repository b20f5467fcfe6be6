"""What `solve` is asked for besides the solution, together with torch.func and with second derivatives."""

import math
import sys

import pytest
import torch

import pysciml as ps

TIGHT = {"reltol": 1e-9, "abstol": 1e-10}
WAYS = [
    pytest.param(ps.CVODE_BDF(), {"engine": "embedded"}, id="cvode"),
    pytest.param(ps.DP5(), {"engine": "embedded"}, id="dp5"),
    pytest.param(ps.Tsit5(), {"engine": "julia"}, id="tsit5", marks=pytest.mark.julia),
    pytest.param(ps.Tsit5(), {"engine": "julia", "route": "callback"}, id="callback", marks=pytest.mark.julia),
]


def number(x):
    return torch.tensor(x, dtype=torch.float64)


def switched(k, tspan=(0.0, 2.0)):
    """u = exp(-k t) up to t = 1, then exp(-k) exp(k (t - 1)) = exp(k (t - 2))."""
    return ps.ODEProblem(lambda t, u, k: torch.where(t < 1.0, -k, k) * u, number([1.0]), tspan, k)


@pytest.mark.parametrize(("alg", "options"), WAYS)
class TestAJump:
    def test_has_first_and_second_derivatives(self, alg, options):
        def last(k):
            sol = ps.solve(switched(k), alg, saveat=[0.5, 1.5], d_discontinuities=[1.0], **TIGHT, **options)
            return sol.u[1, 0] * sol.u[0, 0]  # exp(-k)

        k = number(0.7)
        assert torch.func.grad(last)(k).item() == pytest.approx(-math.exp(-0.7), abs=1e-6)
        assert torch.func.hessian(last)(k).item() == pytest.approx(math.exp(-0.7), abs=1e-5)
        x = k.clone().requires_grad_()
        (first,) = torch.autograd.grad(last(x), x, create_graph=True)
        (second,) = torch.autograd.grad(first, x)
        assert second.item() == pytest.approx(math.exp(-0.7), abs=1e-5)

    def test_maps(self, alg, options):
        def last(k):
            return ps.solve(switched(k), alg, saveat=[1.5], d_discontinuities=[1.0], **TIGHT, **options).u[0, 0]

        ks = number([0.3, 0.7, 1.1])
        torch.testing.assert_close(torch.func.vmap(last)(ks), torch.exp(-ks / 2), rtol=0, atol=1e-7)

    def test_its_time_is_met_from_the_left(self, alg, options):
        """At t = 1 the state is saved before the jump, and moves along the slope there."""

        def at(t):
            return ps.solve(switched(number(0.7)), alg, saveat=t, d_discontinuities=[1.0], **TIGHT, **options).u.sum()

        t = number([1.0]).requires_grad_()
        at(t).backward()
        slope = -0.7 * math.exp(-0.7)
        assert t.grad.item() == pytest.approx(slope, abs=1e-6)
        assert torch.func.grad(at)(number([1.0])).item() == pytest.approx(slope, abs=1e-6)
        along = torch.func.jvp(at, (number([1.0]),), (number([1.0]),))[1]
        assert along.item() == pytest.approx(slope, abs=1e-6)

    def test_a_start_on_it_is_behind_it(self, alg, options):
        def late(t0):
            prob = switched(number(0.7), (t0, 2.0))
            return ps.solve(prob, alg, saveat=[2.0], d_discontinuities=[1.0], **TIGHT, **options).u.sum()

        assert torch.func.grad(late)(number(1.0)).item() == pytest.approx(-0.7 * math.exp(0.7), abs=1e-6)


@pytest.mark.parametrize(("alg", "options"), WAYS)
def test_stops_and_places_are_transformed(alg, options):
    def velocity(k):
        prob = ps.ODEProblem(lambda t, u: torch.stack([u[1], -k * u[0]]), number([1.0, 0.0]), (0.0, 1.0))
        sol = ps.solve(prob, alg, tstops=[0.25, 0.5], save_idxs=1, saveat=[1.0], **TIGHT, **options)
        return sol.u[-1]  # -w sin(w), w = sqrt(k)

    def exact(k):
        return -k.sqrt() * torch.sin(k.sqrt())

    k = number(2.0)
    torch.testing.assert_close(torch.func.jacrev(velocity)(k), torch.func.jacrev(exact)(k), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.func.hessian(velocity)(k), torch.func.hessian(exact)(k), rtol=0, atol=1e-5)


EXPLICIT = [ways for ways in WAYS if ways.id != "cvode"]


@pytest.mark.parametrize(("alg", "options"), EXPLICIT)
def test_a_reltol_for_each_state_has_second_derivatives(alg, options):
    def last(k):
        prob = ps.ODEProblem(lambda t, u: -k * u, number([1.0, 2.0]), (0.0, 1.0))
        return ps.solve(prob, alg, reltol=number([1e-9, 1e-8]), abstol=1e-10, **options).u[-1].sum()

    assert torch.func.hessian(last)(number(0.5)).item() == pytest.approx(3 * math.exp(-0.5), abs=1e-5)


@pytest.mark.parametrize(("alg", "options"), WAYS[1:])
def test_saved_steps_have_second_derivatives(alg, options):
    k = number(0.5).requires_grad_()
    prob = ps.ODEProblem(lambda t, u: -k * u, number([1.0]), (0.0, 1.0))
    sol = ps.solve(prob, alg, save_everystep=True, **TIGHT, **options)
    (first,) = torch.autograd.grad(sol.u.sum(), k, create_graph=True)
    (second,) = torch.autograd.grad(first, k)
    assert len(sol.t) > 4
    assert second.item() == pytest.approx((sol.t**2 * torch.exp(-0.5 * sol.t)).sum().item(), abs=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"save_everystep": True}, r"save_everystep[\s\S]*saveat=torch\.linspace"),
        ({"progress": True}, r"progress[\s\S]*leave progress out"),
    ],
)
@pytest.mark.parametrize("alg", [ps.CVODE_BDF(), ps.DP5()], ids=["cvode", "dp5"])
def test_what_cannot_be_transformed_says_so(alg, options, words):
    def loss(k):
        return ps.solve(switched(k), alg, engine="embedded", **options).u.sum()

    with pytest.raises(ps.UnsupportedError, match=words):
        torch.func.grad(loss)(number(0.7))
    with pytest.raises(ps.UnsupportedError, match=words):
        torch.func.vmap(loss)(number([0.7, 0.8]))


@pytest.mark.parametrize("name", ["tstops", "d_discontinuities"])
def test_stops_that_differ_among_members_are_refused(name):
    def last(stop):
        return ps.solve(switched(number(0.7)), ps.CVODE_BDF(), engine="embedded", **{name: stop}).u[-1]

    with pytest.raises(ps.UnsupportedError, match=rf"{name} cannot differ[\s\S]*{name}=\[1\]"):
        torch.func.vmap(last)(number([[0.5], [1.0]]))


def test_tolerances_that_differ_among_members_are_refused():
    def last(tolerance):
        return ps.solve(switched(number(0.7)), ps.DP5(), engine="embedded", reltol=tolerance).u[-1]

    with pytest.raises(ps.UnsupportedError, match=r"reltol cannot differ[\s\S]*reltol=1e-8"):
        torch.func.vmap(last)(number([[1e-5], [1e-6]]))


class TestComplexNumbers:
    def test_are_not_transformed(self):
        def loss(w):
            prob = ps.ODEProblem(lambda t, u: 1j * w * u, number([1.0]).to(torch.complex128), (0.0, 1.0))
            return ps.solve(prob, ps.DP5(), engine="embedded").u[-1].real.sum()

        with pytest.raises(ps.UnsupportedError, match=r"complex[\s\S]*torch\.view_as_real\(u0\)"):
            torch.func.grad(loss)(number(0.5))

    @pytest.mark.parametrize(("alg", "options"), [WAYS[1], WAYS[3]])
    def test_have_second_derivatives(self, alg, options):
        w = number(0.5).requires_grad_()
        prob = ps.ODEProblem(lambda t, u: 1j * w * u, number([1.0]).to(torch.complex128), (0.0, 1.0))
        last = ps.solve(prob, alg, **TIGHT, **options).u[-1].real.sum()  # cos(w)
        (first,) = torch.autograd.grad(last, w, create_graph=True)
        assert torch.autograd.grad(first, w)[0].item() == pytest.approx(-math.cos(0.5), abs=1e-5)

    @pytest.mark.julia
    def test_that_f_captured_have_none_where_it_is_called_back(self):
        w = number(0.5).to(torch.complex128).requires_grad_()
        prob = ps.ODEProblem(lambda t, u: 1j * w * u, number([1.0]).to(torch.complex128), (0.0, 1.0))
        last = ps.solve(prob, ps.Tsit5(), engine="julia", route="callback").u[-1].real.sum()
        (first,) = torch.autograd.grad(last, w, create_graph=True)
        with pytest.raises(ps.UnsupportedError, match=r"captured to be real[\s\S]*as p"):
            torch.autograd.grad(first.real, w)


class TestParts:
    def test_second_order_problems_are_transformed(self):
        def last(k):
            prob = ps.SecondOrderODEProblem(lambda t, u, du: -k * u, number([0.0]), number([1.0]), (0.0, 1.0))
            return ps.solve(prob, ps.CVODE_Adams(), engine="embedded", **TIGHT).u[1][-1, 0]

        k = number(2.0)
        expected = torch.func.hessian(lambda k: torch.cos(k.sqrt()))(k)
        torch.testing.assert_close(torch.func.hessian(last)(k), expected, rtol=0, atol=1e-5)

    def test_a_module_in_one_of_them_may_be_lent_parameters(self):
        net = torch.nn.Linear(1, 1, bias=False, dtype=torch.float64)
        prob = ps.SplitODEProblem(lambda t, u: net(u), lambda t, u: 0 * u, number([1.0]), (0.0, 1.0))

        def last(weights):
            return torch.func.functional_call(_Solving(net, prob), weights, ()).sum()

        found = torch.func.grad(last)({"net.weight": number([[0.5]])})
        assert found["net.weight"].item() == pytest.approx(math.exp(0.5), abs=1e-6)

    def test_a_parameter_that_has_changed_since_is_noticed(self):
        k = number(1.0).requires_grad_()
        prob = ps.SplitODEProblem(lambda t, u: -k * u, lambda t, u: 0 * u, number([1.0]), (0.0, 1.0))
        sol = ps.solve(prob, ps.DP5(), engine="embedded")
        with torch.no_grad():
            k += 1.0
        with pytest.raises(ps.InvalidInputError, match=r"has changed since[\s\S]*`k`"):
            sol(0.5)

    def test_what_a_solver_takes_apart_has_no_second_derivative(self, monkeypatch):
        monkeypatch.setattr(sys.modules["pysciml.solve_ode"], "split_parts", lambda *given: ("as if taken apart",))
        k = number(1.0).requires_grad_()
        prob = ps.SplitODEProblem(lambda t, u: -k * u, lambda t, u: 0 * u, number([1.0]), (0.0, 1.0))
        last = ps.solve(prob, ps.CVODE_BDF(), engine="embedded").u[-1].sum()
        (first,) = torch.autograd.grad(last, k, create_graph=True)
        with pytest.raises(ps.UnsupportedError, match=r"takes apart[\s\S]*pysciml\.Rodas5P\(\)"):
            torch.autograd.grad(first, k)

    @pytest.mark.julia
    @pytest.mark.parametrize("alg", [ps.KenCarp4(), ps.DPRKN6()], ids=["split", "halves"])
    def test_nor_in_julia_but_first_ones_are_transformed(self, alg):
        def last(k):
            if isinstance(alg, ps.KenCarp4):
                prob = ps.SplitODEProblem(lambda t, u: -k * u, lambda t, u: 0 * u, number([1.0]), (0.0, 1.0))
                return ps.solve(prob, alg, engine="julia", **TIGHT).u[-1].sum()
            prob = ps.SecondOrderODEProblem(lambda t, u, du: -k * k * u, -k.reshape(1), number([1.0]), (0.0, 1.0))
            return ps.solve(prob, alg, engine="julia", **TIGHT).u[1][-1].sum()  # cos(k) - sin(k)

        exact = (lambda k: torch.exp(-k)) if isinstance(alg, ps.KenCarp4) else (lambda k: torch.cos(k) - torch.sin(k))
        k = number(0.7)
        torch.testing.assert_close(torch.func.grad(last)(k), torch.func.grad(exact)(k), rtol=0, atol=1e-6)
        torch.testing.assert_close(torch.func.vmap(last)(k.reshape(1)), exact(k).reshape(1), rtol=0, atol=1e-7)
        with pytest.raises(ps.UnsupportedError, match=r"takes apart"):
            torch.func.hessian(last)(k)


class _Solving(torch.nn.Module):
    def __init__(self, net, prob):
        super().__init__()
        self.net, self.prob = net, prob

    def forward(self):
        return ps.solve(self.prob, ps.CVODE_BDF(), engine="embedded", **TIGHT).u[-1]
