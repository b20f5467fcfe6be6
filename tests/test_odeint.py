"""odeint, odeint_adjoint, odeint_event: torchdiffeq's calls and numerics, with gradients that are complete."""

from __future__ import annotations

import math

import pytest
import torch
import torchdiffeq
from problems import SMOOTH, Problem

import pysciml as ps
from pysciml import odeint, odeint_adjoint, odeint_event

pytestmark = pytest.mark.usefixtures("float64")

EXACT = [p for p in SMOOTH if p.exact is not None]
NATIVE = ["dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun", "euler", "midpoint", "heun2", "heun3", "rk4",
          "explicit_adams", "implicit_adams"]  # fmt: skip
COMPILED = ["CVODE_BDF", "CVODE_Adams"]
BOTH = {"direct": odeint, "adjoint": odeint_adjoint}
interfaces = pytest.mark.parametrize("interface", BOTH.values(), ids=BOTH)
compiled = pytest.mark.parametrize("method", COMPILED)


def times(k: int = 6, reverse: bool = False) -> torch.Tensor:
    return torch.linspace(1.0, 0.0, k) if reverse else torch.linspace(0.0, 1.0, k)


class Spiral(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.A = torch.nn.Parameter(torch.tensor([[-0.2, 1.5], [-1.5, -0.1]]))

    def forward(self, t, y):
        return y @ self.A.T + 0.3 * torch.sin(t)


# The same numbers as torchdiffeq --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", NATIVE)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("state", ["tensor", "tuple"])
def test_torchdiffeq_s_methods_give_its_numbers(method, reverse, state):
    f, y0, t = Spiral(), torch.tensor([[1.0, 0.5], [0.2, -1.0]]), times(reverse=reverse)
    options = {"rtol": 1e-4, "atol": 1e-5, "options": {"step_size": 0.05} if method in NATIVE[5:] else None}
    if state == "tuple":
        g, y0 = (lambda t, y: (f(t, y[0]), y[1] * y[0].sum())), (y0, torch.tensor(0.3))
    else:
        g = f
    ours = odeint(g, y0, t, method=method, **options)
    theirs = torchdiffeq.odeint(g, y0, t, method=method, **options)
    assert isinstance(ours, tuple) == (state == "tuple")
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


def test_dopri5_is_the_default_as_there():
    f, y0 = Spiral(), torch.ones(2)
    assert torch.equal(odeint(f, y0, times()), torchdiffeq.odeint(f, y0, times(), method="dopri5"))


@pytest.mark.parametrize("t_grad", [False, True], ids=["t fixed", "t free"])
def test_the_adjoint_s_gradients_are_torchdiffeq_s(t_grad):
    found = []
    for interface in (odeint_adjoint, torchdiffeq.odeint_adjoint):
        f, y0, t = Spiral(), torch.tensor([1.0, 0.5], requires_grad=True), times().requires_grad_(t_grad)
        y = interface(f, y0, t, rtol=1e-6, atol=1e-8, adjoint_rtol=1e-7, adjoint_options={"norm": "seminorm"})
        (y**2).sum().backward()
        found.append([y, y0.grad, f.A.grad, *([t.grad] if t_grad else [])])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-13, atol=0.0)


def test_tolerances_may_be_tensors_and_tuples():
    f, y0, t = (lambda t, y: -y), torch.tensor([1.0, 100.0]), times()
    for tol in ({"rtol": torch.tensor(1e-4), "atol": torch.tensor([1e-6, 1e-3])}, {"atol": 1e-3, "rtol": 1e-3}):
        assert torch.equal(odeint(f, y0, t, **tol), torchdiffeq.odeint(f, y0, t, **tol))
    g, z0 = (lambda t, y: (-y[0], -2 * y[1])), (torch.ones(2), torch.ones(3))
    tol = {"rtol": 1e-3, "atol": (1e-5, torch.tensor([1e-4, 1e-5, 1e-6]))}
    for a, b in zip(odeint(g, z0, t, **tol), torchdiffeq.odeint(g, z0, t, **tol), strict=True):
        assert torch.equal(a, b)


@interfaces
def test_complex_states_go_to_torchdiffeq(interface):
    w = torch.tensor(-0.3 + 1.2j, requires_grad=True)
    y = interface(lambda t, y: w * y, torch.tensor([1.0 + 0.5j]), times(), rtol=1e-9, atol=1e-10)
    exact = (1.0 + 0.5j) * torch.exp(w * times())[:, None]
    assert torch.allclose(y, exact, rtol=1e-7)
    (got,), (wanted,) = (torch.autograd.grad((x.abs() ** 2).sum() + x[-1].real.sum(), w) for x in (y, exact))
    assert torch.allclose(got, wanted, rtol=1e-6)


# Names ----------------------------------------------------------------------------------------------------------------


NAMES = [("DP5", "dopri5", ps.DP5()), ("BS3", "bosh3", ps.BS3()), ("Heun", "adaptive_heun", ps.Heun()),
         ("Tsit5", "tsit5", ps.Tsit5()), ("rk4", ps.TorchDiffEq("rk4")), ("CVODE_BDF", ps.CVODE_BDF())]  # fmt: skip


@pytest.mark.parametrize("same", NAMES, ids=lambda s: s[0])
def test_a_method_goes_by_either_name_or_as_an_algorithm(same):
    f, y0 = Spiral(), torch.ones(2)
    first, *others = (odeint(f, y0, times(), method=m, rtol=1e-4, atol=1e-4) for m in same)
    assert all(torch.equal(first, other) for other in others)


def test_options_of_an_algorithm_and_of_the_call_are_joined():
    f, y0 = Spiral(), torch.ones(2)
    joined = odeint(f, y0, times(3), method=ps.TorchDiffEq("rk4", {"step_size": 0.1}), options={"interp": "cubic"})
    apart = odeint(f, y0, times(3), method="rk4", options={"step_size": 0.1, "interp": "cubic"})
    assert torch.equal(joined, apart)


@pytest.mark.parametrize(("name", "hint"), [("dopri55", "dopri5"), ("cvode_bdf", "CVODE_BDF"), ("tsit", "Tsit5")])
def test_an_unknown_method_gets_a_suggestion(name, hint):
    with pytest.raises(ValueError, match=f"(?i)did you mean (.* )?{hint}"):
        odeint(Spiral(), torch.ones(2), times(), method=name)


def test_methods_of_julia_say_where_they_are():
    for name in ("Rodas5P", "RK4"):  # `rk4` is torchdiffeq's
        with pytest.raises(ps.UnsupportedError, match=f"`{name}` is not available in the embedded engine"):
            odeint(Spiral(), torch.ones(2), times(), method=name)
    with pytest.raises(ps.InvalidInputError, match="a name or an algorithm"):
        odeint(Spiral(), torch.ones(2), times(), method=3)


# Right answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", EXACT, ids=lambda p: p.name)
@pytest.mark.parametrize("method", ["dopri5", "tsit5", *COMPILED])
def test_solutions_and_gradients_against_exact_ones(method, problem: Problem):
    p, y0 = problem.p.clone().requires_grad_(), problem.u0.clone().requires_grad_()
    t = torch.cat([torch.zeros(1), problem.times]).requires_grad_()
    y = odeint(lambda t, u: problem.f(t, u, p), y0, t, rtol=1e-9, atol=1e-11, method=method)
    assert torch.equal(y[0], y0)
    assert torch.allclose(y[1:], problem.exact(problem.times), rtol=1e-5, atol=1e-7)
    weights = torch.cos(torch.arange(y.numel())).reshape(y.shape)
    got = torch.autograd.grad((y * weights).sum(), (p, y0, t))
    with torch.no_grad():
        slopes = torch.stack([problem.f(s, u, p) for s, u in zip(t, y, strict=True)])
    assert torch.allclose(got[2][1:], (weights * slopes).sum(1)[1:], rtol=1e-5, atol=1e-7)
    adjoint = odeint_adjoint(lambda t, u: problem.f(t, u, p), y0, t, rtol=1e-9, atol=1e-11, method=method)
    for a, b in zip(got, torch.autograd.grad((adjoint * weights).sum(), (p, y0, t)), strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


@compiled
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_compiled_algorithms_take_tuples_and_go_back(method, reverse):
    k, t = torch.tensor(0.7, requires_grad=True), times(reverse=reverse)
    y0 = (torch.ones(2, 2), torch.tensor(2.0))
    y = odeint(lambda t, y: (-k * y[0], y[1] * t), y0, t, method=method, rtol=1e-8, atol=(1e-9, 1e-10))
    assert isinstance(y, tuple)
    shift = t - t[0]
    assert torch.allclose(y[0], torch.exp(-0.7 * shift)[:, None, None].expand(-1, 2, 2), rtol=1e-5)
    assert torch.allclose(y[1], 2 * torch.exp((t**2 - t[0] ** 2) / 2), rtol=1e-5)
    (slope,) = torch.autograd.grad(y[0][-1].sum(), k)
    assert torch.allclose(slope, (-4 * shift * torch.exp(-0.7 * shift))[-1], rtol=1e-5)


@compiled
def test_compiled_algorithms_keep_the_small_print(method):
    def f(t, y):
        return -y

    y0 = torch.tensor([1.0, 2.0], dtype=torch.float32)
    y = odeint(f, y0, times(), method=method)  # the default tolerances are finer than float32
    assert y.dtype == torch.float32
    assert torch.allclose(y[-1], y0 * math.exp(-1), rtol=1e-3)
    assert torch.equal(odeint(f, y0, torch.tensor([3.0]), method=method), y0[None])
    assert odeint(f, y0.double(), times(), method=method, atol=torch.tensor([1e-6, 1e-9])).shape == (6, 2)
    steps = {"first_step": 1e-4, "max_step": 0.5, "max_num_steps": 1000}
    assert odeint(f, y0.double(), times(), method=method, options=steps).shape == (6, 2)


@compiled
def test_compiled_algorithms_refuse_what_they_cannot_do(method):
    y0, t = torch.ones(2), times()
    refused = {
        "`step_size` is an option for another algorithm": {"options": {"step_size": 0.1}},
        "one rtol for all states": {"rtol": torch.tensor([1e-3, 1e-4])},
    }
    for text, arguments in refused.items():
        with pytest.raises(ps.UnsupportedError, match=text):
            odeint(lambda t, y: -y, y0, t, method=method, **arguments)
    with pytest.raises(ps.UnsupportedError, match="view_as_real"):
        odeint(lambda t, y: -y, y0 + 0j, t, method=method)
    with pytest.raises(ps.UnsupportedError, match="no adjoint_options"):
        odeint_adjoint(lambda t, y: -y, y0, t, method=method, adjoint_options={"norm": "seminorm"})
    with pytest.raises(ps.UnsupportedError, match="dopri5 cannot be solved backwards by"):
        odeint_adjoint(lambda t, y: -y, y0, t, adjoint_method=method)


BAD = {
    "integer state": (lambda: odeint(Spiral(), torch.ones(2, dtype=torch.long), times()), "floating tensors"),
    "list": (lambda: odeint(Spiral(), [torch.ones(2)], times()), "a tensor or a tuple"),
    "times out of order": (lambda: odeint(Spiral(), torch.ones(2), torch.tensor([0.0, 1.0, 0.5])), "strictly"),
    "times twice": (lambda: odeint(Spiral(), torch.ones(2), torch.tensor([0.0, 1.0, 1.0])), "strictly"),
    "integer times": (lambda: odeint(Spiral(), torch.ones(2), torch.arange(3)), "one-dimensional floating"),
    "no function": (lambda: odeint(3, torch.ones(2), times()), "callable"),
    "t0 of an event": (lambda: odeint_event(Spiral(), torch.ones(2), 0.0, event_fn=lambda t, y: y[0]), "scalar float"),
}


@pytest.mark.parametrize(("call", "text"), BAD.values(), ids=BAD)
def test_bad_input(call, text):
    with pytest.raises(ps.InvalidInputError, match=text):
        call()


# Gradients torchdiffeq leaves out -------------------------------------------------------------------------------------


def test_the_adjoint_needs_no_module_and_counts_nothing_twice():
    """`k` is captured by itself and beneath `double`; torchdiffeq, told of both, counts the second path twice."""
    k = torch.tensor(0.3, requires_grad=True)
    double = 2 * k
    for params in (None, (k, double)):
        tight = {"rtol": 1e-9, "atol": 1e-10, "adjoint_params": params}
        y = odeint_adjoint(lambda t, y: -k * double * y, torch.ones(1), times(), **tight)
        (grad,) = torch.autograd.grad(y[-1].sum(), k, retain_graph=True)
        assert abs(grad.item() + 4 * 0.3 * math.exp(-2 * 0.09)) < 1e-7


def test_given_adjoint_params_are_all_that_is_differentiated():
    a, b = (torch.tensor(x, requires_grad=True) for x in (0.3, 0.5))
    y = odeint_adjoint(lambda t, y: -(a + b) * y, torch.ones(1), times(), adjoint_params=(a,))
    y.sum().backward()
    assert a.grad.item() < 0
    assert b.grad is None


@interfaces
@pytest.mark.parametrize(("method", "close"), [("euler", 0.4), ("rk4", 0.2)])
def test_save_times_on_a_step_have_gradients(interface, method, close):
    t = torch.tensor([0.0, 0.5, 0.75, 1.0], requires_grad=True)
    y = interface(lambda t, y: -y, torch.ones(1), t, method=method, options={"step_size": 0.25})
    y.sum().backward()
    assert torch.allclose(t.grad[1:], -y.detach()[1:, 0], rtol=close)
    twin = torchdiffeq.odeint(lambda t, y: -y, torch.ones(1), t.detach(), method=method, options={"step_size": 0.25})
    assert torch.equal(y, twin)


def test_second_derivatives_in_save_times_on_a_step():
    t = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
    y = odeint(lambda t, y: -y, torch.ones(1), t, method="rk4", options={"step_size": 0.01})
    (slope,) = torch.autograd.grad(y[1].sum(), t, create_graph=True)
    (curve,) = torch.autograd.grad(slope[1], t)
    assert abs(slope[1].item() + math.exp(-0.5)) < 1e-6
    assert abs(curve[1].item() - math.exp(-0.5)) < 1e-6


def test_second_derivatives_are_right_or_refused():
    k = torch.tensor(0.7, requires_grad=True)
    y = odeint(lambda t, y: -k * y, torch.ones(1), times(), rtol=1e-10, atol=1e-11)[-1].sum()
    (first,) = torch.autograd.grad(y, k, create_graph=True)
    (second,) = torch.autograd.grad(first, k)
    assert abs(second.item() - math.exp(-0.7)) < 1e-7
    y = odeint_adjoint(lambda t, y: -k * y, torch.ones(1), times())[-1].sum()
    (first,) = torch.autograd.grad(y, k, create_graph=True)
    with pytest.raises(ps.UnsupportedError, match="second derivatives through odeint_adjoint"):
        torch.autograd.grad(first, k)


def test_scipy_s_solvers_refuse_backward():
    k = torch.tensor(0.7, requires_grad=True)
    y = odeint(lambda t, y: -k * y, torch.ones(1), times(), method="scipy_solver")
    assert abs(y[-1].item() - math.exp(-0.7)) < 1e-5
    with pytest.raises(ps.UnsupportedError, match="scipy_solver cannot be backpropagated"):
        (y.sum() + k).backward()
    y = odeint_adjoint(lambda t, y: -k * y, torch.ones(1), times(), method="scipy_solver")
    (grad,) = torch.autograd.grad(y[-1].sum(), k)
    assert abs(grad.item() + math.exp(-0.7)) < 1e-5


# Events ---------------------------------------------------------------------------------------------------------------


def fall(gravity: torch.Tensor):
    """Height and speed."""
    return lambda t, y: torch.stack([y[1], -gravity * torch.ones_like(y[1])])


@interfaces
@pytest.mark.parametrize("method", ["dopri5", "tsit5", "rk4", "CVODE_BDF"])
def test_the_time_of_an_event_has_every_gradient(interface, method):
    """A fall from h to a floor takes sqrt(2 (h - floor) / g), at speed sqrt(2 g (h - floor))."""
    g, h, floor, t0 = (torch.tensor(x, requires_grad=True) for x in (9.81, 2.0, 0.5, 1.0))
    options = {"options": {"step_size": 0.01, "interp": "cubic"}} if method == "rk4" else {"rtol": 1e-9, "atol": 1e-11}
    t, y = odeint_event(fall(g), torch.stack([h, torch.zeros(())]), t0, event_fn=lambda t, y: y[0] - floor,
                        odeint_interface=interface, method=method, **options)  # fmt: skip
    assert t.shape == ()
    assert y.shape == (2, 2)
    took = torch.sqrt(2 * (h - floor) / g)
    exact = (t0 + took, floor, -g * took)
    for seen, wanted in zip((t, y[1, 0], y[1, 1]), exact, strict=True):
        assert abs(seen.item() - wanted.item()) < 1e-6
        inputs = (g, h, floor, t0)
        found = torch.autograd.grad(seen, inputs, retain_graph=True, allow_unused=True, materialize_grads=True)
        truth = torch.autograd.grad(wanted, inputs, retain_graph=True, allow_unused=True, materialize_grads=True)
        for a, b in zip(found, truth, strict=True):
            assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


@interfaces
def test_odeint_itself_differentiates_the_event_time(interface):
    h = torch.tensor(2.0, requires_grad=True)
    t, y = interface(fall(torch.tensor(9.81)), torch.stack([h, torch.zeros(())]), torch.tensor([0.0, 1.0]),
                     event_fn=lambda t, y: y[0])  # fmt: skip
    assert y.shape == (2, 2)
    (slope,) = torch.autograd.grad(t, h)
    assert abs(slope.item() - 1 / math.sqrt(2 * 9.81 * 2.0)) < 1e-6


def test_the_first_of_several_events_of_a_tuple_state_backwards():
    k = torch.tensor(0.5, requires_grad=True)
    start = (torch.tensor(1.0), torch.zeros(2))
    t, (x, y) = odeint_event(lambda t, u: (-k * u[0], torch.ones(2)), start, torch.tensor(0.0), reverse_time=True,
                             event_fn=lambda t, u: torch.stack([u[0] - 2.0, u[1][0] + 10.0]), rtol=1e-9,
                             atol=1e-10)  # fmt: skip
    assert abs(t.item() + math.log(2) / 0.5) < 1e-6
    assert abs(x[1].item() - 2.0) < 1e-6
    assert torch.allclose(y[1], t.detach().expand(2))
    (slope,) = torch.autograd.grad(t, k, retain_graph=True)
    assert abs(slope.item() - math.log(2) / 0.25) < 1e-5
    (slope,) = torch.autograd.grad(y[1].sum(), k)
    assert abs(slope.item() - 2 * math.log(2) / 0.25) < 1e-5


EVENT_METHODS = [
    *(pytest.param(name, "embedded", id=name) for name in COMPILED),
    *(pytest.param(alg, "julia", id=f"julia-{alg.name}", marks=pytest.mark.julia)
      for alg in (ps.Vern7(), ps.Rodas5P(), ps.CVODE_BDF())),
]  # fmt: skip


@interfaces
@pytest.mark.parametrize(("method", "engine"), EVENT_METHODS)
def test_compiled_algorithms_find_torchdiffeq_s_event(interface, method, engine):
    """Its bouncing ball, with the gradients that torchdiffeq has: it has none in what `event_fn` captures."""
    tight, found = {"rtol": 1e-10, "atol": 1e-11}, []
    theirs = {"odeint_interface": torchdiffeq.odeint, **tight}
    ours = {"odeint_interface": interface, "method": method, **tight}
    for call, options in ((torchdiffeq.odeint_event, theirs), (odeint_event, ours)):
        g, h = inputs = [torch.tensor(x, requires_grad=True) for x in (9.81, 2.0)]
        with ps.config.override(engine=engine):
            t, y = call(fall(g), torch.stack([h, torch.zeros(())]), torch.tensor(1.0),
                        event_fn=lambda t, y: y[0] - 0.5, **options)  # fmt: skip
            loss = t**2 + y[1, 1] + y[0, 0] * y[1, 0]
            found.append([t, y, *torch.autograd.grad(loss, inputs)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("method", "engine"), EVENT_METHODS)
def test_compiled_algorithms_search_far_near_and_backwards(method, engine):
    """A tuple state, from zero and away from it: the first of two, a thousandth and a thousand from the start."""
    for k in (1e3, 1e-3):
        rate, t0 = torch.tensor(k, requires_grad=True), torch.tensor(0.5, requires_grad=True)
        with ps.config.override(engine=engine):
            t, (x, y) = odeint_event(
                lambda t, u, rate=rate: (-rate * u[0], torch.ones_like(u[1])), (torch.tensor(1.0), torch.zeros(2)), t0,
                event_fn=lambda t, u, k=k: torch.stack([u[0] - 2.0, u[1][0] + 100.0 / k]), reverse_time=True,
                method=method, rtol=1e-9, atol=1e-10,
            )  # fmt: skip
            slopes = [torch.autograd.grad(z, (rate, t0), retain_graph=True) for z in (t, y[1, 0])]
        assert abs((t.item() - 0.5) * k + math.log(2)) < 1e-6
        assert abs(x[1].item() - 2.0) < 1e-6
        assert abs(y[1, 0].item() * k + math.log(2)) < 1e-6
        for (by_rate, by_start), start in zip(slopes, (1.0, 0.0), strict=True):
            assert abs(by_rate.item() * k**2 - math.log(2)) < 1e-5
            assert abs(by_start.item() - start) < 1e-5


@compiled
def test_compiled_algorithms_stop_before_a_singularity(method):
    t, y = odeint_event(lambda t, y: y**2, torch.ones(1), torch.tensor(0.0), event_fn=lambda t, y: y[0] - 50.0,
                        method=method, rtol=1e-9)  # fmt: skip
    assert abs(t.item() - 0.98) < 1e-6
    assert abs(y[1].item() - 50.0) < 1e-4


@compiled
def test_compiled_algorithms_say_that_no_event_came(method):
    for f, way in ((lambda t, y: -y, {}), (lambda t, y: torch.cos(t) * y, {"options": {"max_num_steps": 500}})):
        with pytest.raises(ps.SolveError) as info:
            odeint_event(f, torch.ones(1), torch.tensor(0.0), event_fn=lambda t, y: y[0] + 1, method=method, **way)
        assert info.value.retcode is ps.ReturnCode.MaxIters


def test_an_event_function_that_starts_with_zero_is_met_when_it_comes_back():
    v = torch.tensor(3.0, requires_grad=True)
    t, _ = odeint_event(fall(torch.tensor(9.81)), torch.stack([torch.zeros(()), v]), torch.tensor(0.0),
                        event_fn=lambda t, y: y[0], method="CVODE_BDF", rtol=1e-9, atol=1e-10)  # fmt: skip
    assert abs(t.item() - 6 / 9.81) < 1e-6
    (slope,) = torch.autograd.grad(t, v)
    assert abs(slope.item() - 2 / 9.81) < 1e-6


def test_second_derivatives_of_an_event_are_refused():
    h = torch.tensor(2.0, requires_grad=True)
    t, y = odeint_event(fall(torch.tensor(9.81)), torch.stack([h, torch.zeros(())]), torch.tensor(0.0),
                        event_fn=lambda t, y: y[0])  # fmt: skip
    for x in (t, y[1, 1]):
        (slope,) = torch.autograd.grad(x, h, create_graph=True)
        with pytest.raises(ps.UnsupportedError, match="second derivatives through an event"):
            torch.autograd.grad(slope, h)


@pytest.mark.parametrize("choice", [("euler", {"step_size": 0.1}), ("dopri5", {"max_num_steps": 50})],
                         ids=lambda c: c[0])  # fmt: skip
def test_an_event_that_never_comes_is_an_error(choice):
    method, options = choice
    with pytest.raises(ps.SolveError, match="MaxIters"):
        odeint_event(lambda t, y: -y, torch.ones(1), torch.tensor(0.0), event_fn=lambda t, y: y[0] + 1, method=method,
                     options=options)  # fmt: skip


# Failures -------------------------------------------------------------------------------------------------------------


@interfaces
def test_giving_up_says_where(interface):
    with pytest.raises(ps.SolveError, match="by dopri5 stopped at t = ") as info:
        interface(lambda t, y: y**2, torch.ones(1), torch.tensor([0.0, 2.0]))
    assert abs(info.value.t - 1.0) < 0.01


def test_the_adjoint_s_backward_failure_is_told_apart():
    y0 = torch.ones(1, requires_grad=True)
    y = odeint_adjoint(lambda t, y: -y, y0, times(), adjoint_options={"max_num_steps": 1})
    with pytest.raises(ps.SolveError, match="backward solve by dopri5") as info:
        y.sum().backward()
    assert (info.value.direction, info.value.retcode) == ("backward", ps.ReturnCode.MaxIters)


@interfaces
def test_exceptions_of_func_arrive_unchanged(interface):
    error = AssertionError("underflow in dt 0.0")

    def f(t, y):
        if t.item() > 0.5:
            raise error
        return -y

    with pytest.raises(AssertionError) as info:
        interface(f, torch.ones(1), times())
    assert info.value is error


def test_callbacks_on_func_are_kept():
    f, seen = Spiral(), []
    f.callback_step = lambda t, y, dt: seen.append("step")
    f.callback_accept_step = lambda t, y, dt: seen.append("accept")
    f.callback_step_adjoint = lambda t, y, dt: seen.append("back")
    y = odeint_adjoint(f, torch.ones(2), times())
    assert {"step", "accept"} == set(seen)
    y.sum().backward()
    assert "back" in seen
