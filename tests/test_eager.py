"""Eager torch on torchdiffeq: complete gradients, states of any structure, and failures that say what happened."""

from __future__ import annotations

import functools
import gc

import pytest
import torch
from finite_differences import gradient, relative_error

import pysciml as ps

pytestmark = pytest.mark.usefixtures("float64")

TIGHT = {"reltol": 1e-11, "abstol": 1e-12}
both = pytest.mark.parametrize("sensealg", [ps.DirectAdjoint(), ps.BacksolveAdjoint()], ids=lambda s: s.name)


RK4 = ps.TorchDiffEq("rk4")


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)

    def forward(self, t, u, p):
        return torch.tanh(self.layer(u)) - p["rate"] * u * torch.sin(t)


def everything() -> dict[str, torch.Tensor]:
    return {
        "u0": torch.tensor([1.0, -0.5]), "rate": torch.tensor([0.4, 0.9]), "captured": torch.tensor(0.7),
        "weight": torch.tensor([[0.3, -0.8], [0.5, 0.2]]), "tspan": torch.tensor([0.1, 1.6]),
        "saveat": torch.tensor([0.3, 0.8, 1.5]),
    }  # fmt: skip


def loss_of(x: dict[str, torch.Tensor], sensealg, alg=None, backwards: bool = False, **options) -> torch.Tensor:
    """A loss that depends on everything; `captured` both by itself and through a result."""
    model, twice = Model(), x["captured"] * 2

    def f(t, u, p):
        known = x["captured"] * u / twice**3
        return known + torch.func.functional_call(model, {"layer.weight": x["weight"]}, (t, u, p))

    with torch.no_grad():
        model.layer.bias.fill_(0.1)
    t0, t1 = x["tspan"]
    prob = ps.ODEProblem(f, x["u0"], (t1, t0) if backwards else (t0, t1), {"rate": x["rate"]})
    saveat = x["saveat"].flip(0) if backwards else x["saveat"]
    sol = ps.solve(prob, alg or ps.DP5(), saveat=saveat, sensealg=sensealg, **(options or TIGHT))
    return (sol.u * torch.tensor([[1.0, -2.0], [0.5, 1.5], [-1.0, 0.7]])).sum() + (sol.u**2).sum()


@functools.cache
def truth(name: str, backwards: bool = False) -> torch.Tensor:
    return gradient(lambda v: loss_of(everything() | {name: v}, None, backwards=backwards).item(), everything()[name])


@both
@pytest.mark.parametrize("backwards", [False, True], ids=["forward", "backwards"])
def test_gradients_in_everything(sensealg, backwards):
    x = {k: v.requires_grad_() for k, v in everything().items()}
    loss_of(x, sensealg, backwards=backwards).backward()
    for name in x:
        assert relative_error(x[name].grad, truth(name, backwards)) < 1e-6, name


METHODS = {"Tsit5": (ps.Tsit5(), {}, 1e-5), "BS3": (ps.BS3(), {"reltol": 1e-6, "abstol": 1e-7}, 1e-3),
           "dopri8": (ps.TorchDiffEq("dopri8"), {}, 1e-5), "rk4": (RK4, {"dt": 0.05}, 1e-5),
           "Euler": (ps.Euler(), {"dt": 0.01}, 0.02)}  # fmt: skip


@both
@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_other_methods(sensealg, method):
    alg, options, close = METHODS[method]
    x = {k: v.requires_grad_() for k, v in everything().items()}
    loss_of(x, sensealg, alg, **(options or {"reltol": 1e-8, "abstol": 1e-10})).backward()
    for name in x:
        assert relative_error(x[name].grad, truth(name)) < close, name


@both
@pytest.mark.parametrize("alg", [ps.DP5(), RK4], ids=lambda a: a.name)
def test_saving_at_the_start_has_its_gradients(sensealg, alg):
    u0 = torch.tensor([0.8], requires_grad=True)
    t0, ts = torch.tensor(0.5, requires_grad=True), torch.tensor([0.5, 1.5], requires_grad=True)
    prob = ps.ODEProblem(lambda t, u: -t * u, u0, (t0, 2.0))
    u = ps.solve(prob, alg, saveat=ts, sensealg=sensealg, **TIGHT, **({"dt": 0.01} if "rk4" in alg.name else {})).u
    (u[0] + 3 * u[1]).sum().backward()
    end = u[1].item()
    assert torch.allclose(ts.grad, torch.tensor([-0.5 * 0.8, -1.5 * 3 * end]))
    assert torch.allclose(t0.grad, 0.5 * (0.8 + 3 * u[1].detach().sum()))
    assert torch.allclose(u0.grad, 1 + 3 * u[1].detach() / 0.8)


@both
def test_states_and_parameters_are_pytrees(sensealg):
    u0 = {"x": torch.tensor([[1.0, 2.0]]), "rest": (torch.tensor(0.5), torch.ones(2, 1, 2))}
    k = torch.tensor([0.5, 1.0], requires_grad=True)

    def f(t, u):
        x, (a, b) = u["x"], u["rest"]
        return {"rest": [-a * k[1], -b], "x": -k[0] * x * (1 + a)}

    tolerances = {"x": 1e-12, "rest": (torch.tensor(1e-9), 1e-11)}
    sol = ps.solve(ps.ODEProblem(f, u0, (0.0, 1.0)), ps.DP5(), saveat=[0.5, 1.0], sensealg=sensealg, reltol=1e-10,
                   abstol=tolerances)  # fmt: skip
    assert sol.u["x"].shape == (2, 1, 2)
    assert sol.u["rest"][0].shape == (2,)
    assert sol.u["rest"][1].shape == (2, 2, 1, 2)
    assert torch.allclose(sol.u["rest"][0], 0.5 * torch.exp(-k[1] * sol.t), rtol=1e-8)
    assert torch.allclose(sol.u["rest"][1][1], torch.exp(torch.tensor(-1.0)).expand(2, 1, 2), rtol=1e-8)
    (slope,) = torch.autograd.grad(sol.u["rest"][0][1], k)
    assert torch.allclose(slope, torch.tensor([0.0, -0.5]) * torch.exp(torch.tensor(-1.0)), rtol=1e-7)


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept_even_of_a_single_number(sensealg, dtype):
    u0 = torch.tensor(1.0, dtype=dtype, requires_grad=True)
    prob = ps.ODEProblem(lambda t, u: -u * t, u0, (0.0, 1.0))
    for alg, options in ((ps.DP5(), {}), (ps.TorchDiffEq("rk4"), {"dt": 0.1})):
        seen = ps.solve(prob, alg, saveat=[0.4, 1.0], sensealg=sensealg, **options).u
        assert (seen.dtype, seen.shape) == (dtype, (2,))
        (slope,) = torch.autograd.grad(seen.sum(), u0)
        assert slope.dtype == dtype
        assert abs(slope.item() - seen.sum().item()) < 1e-3


# What f captures ------------------------------------------------------------------------------------------------------


class Square(torch.autograd.Function):
    """Torch calls inside and around a custom Function are not seen by torch's function modes."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return 2 * g * ctx.saved_tensors[0]


def holders(k: torch.Tensor):
    module = torch.nn.Module()
    module.k = torch.nn.Parameter(k.detach())
    by_method = type("Rate", (), {"__init__": lambda s: setattr(s, "k", k), "f": lambda s, t, u: -s.k * u})()
    hidden, u0 = {"deep": [k]}, torch.ones(1)
    return {
        "closure": lambda t, u: -k * u,
        "attribute of a bound method": by_method.f,
        "container": lambda t, u: -hidden["deep"][0] * u,
        "custom Function": lambda t, u: -Square.apply(k) * u,
        "result of a custom Function": (lambda kk: lambda t, u: -kk * u)(Square.apply(k)),
        "TorchScript": (lambda g: lambda t, u: g(u, k))(torch.jit.trace(lambda u, k: -k * u, (u0, k.detach()))),
        "in a linear layer": lambda t, u: torch.nn.functional.linear(u, -k.reshape(1, 1)),
    }


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@both
def test_captured_tensors_never_lose_their_gradient(sensealg):
    k = torch.tensor(0.6, requires_grad=True)
    for name, f in holders(k).items():
        rate, slope = (0.36, 1.2) if "Function" in name else (0.6, 1.0)
        u = ps.solve(ps.ODEProblem(f, torch.ones(1), (0.0, 2.0)), ps.DP5(), sensealg=sensealg, **TIGHT).u
        (grad,) = torch.autograd.grad(u[-1].sum(), k)
        assert abs(grad.item() + 2 * slope * torch.exp(torch.tensor(-2 * rate)).item()) < 1e-8, name


def test_a_module_s_unused_parameters_get_zeros_from_the_adjoint():
    class Spare(torch.nn.Linear):
        def forward(self, t, u):
            return u @ self.weight

    model = Spare(2, 2)
    prob = ps.ODEProblem(model, torch.ones(2), (0.0, 1.0))
    ps.solve(prob, ps.DP5(), sensealg=ps.BacksolveAdjoint()).u.sum().backward()
    assert model.weight.grad.abs().max() > 0
    assert torch.equal(model.bias.grad, torch.zeros(2))


def test_a_tensor_taken_up_late_is_refused_by_the_adjoint_and_right_without():
    k = torch.tensor(0.6, requires_grad=True)
    prob = ps.ODEProblem(lambda t, u: -k * u if t.item() > 0.5 else -u, torch.ones(1, requires_grad=True), (0.0, 1.0))
    u = ps.solve(prob, ps.DP5(), sensealg=ps.BacksolveAdjoint()).u
    with pytest.raises(ps.UnsupportedError, match="did not at the start"):
        u.sum().backward()
    u = ps.solve(prob, ps.DP5(), reltol=1e-8, abstol=1e-8).u
    (grad,) = torch.autograd.grad(u[-1].sum(), k)
    assert abs(grad.item() + 0.5 * u[-1].item()) < 1e-5


@both
def test_leaves_made_inside_f_are_no_parameters(sensealg):
    """As in a Hamiltonian network, whose f differentiates an energy."""
    w = torch.tensor([1.0, 2.0], requires_grad=True)

    def f(t, u):
        with torch.enable_grad():
            q = u if u.requires_grad else u.detach().requires_grad_()
            energy = (w * q**2).sum() / 2
            (g,) = torch.autograd.grad(energy, q, create_graph=True)
        return torch.stack([g[1], -g[0]])

    u0 = torch.tensor([1.0, 0.0], requires_grad=True)
    u = ps.solve(ps.ODEProblem(f, u0, (0.0, 1.0)), ps.DP5(), sensealg=sensealg, **TIGHT).u[-1]
    omega = torch.sqrt(w[0] * w[1])
    expected = torch.autograd.grad(torch.cos(omega), w)[0]
    assert torch.allclose(torch.autograd.grad(u[0], w)[0], expected, rtol=1e-7)


# Second derivatives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", [ps.DP5(), ps.Tsit5()], ids=lambda a: a.name)
def test_second_derivatives_of_direct_are_right(alg):
    k, u0 = torch.tensor(0.7, requires_grad=True), torch.tensor([0.4], requires_grad=True)
    t1 = torch.tensor(1.5, requires_grad=True)

    def slopes(k, u0, t1):
        prob = ps.ODEProblem(lambda t, u: k * u * (1 - u), u0, (0.0, t1))
        u = ps.solve(prob, alg, **TIGHT).u[-1]
        return torch.cat([g.reshape(1) for g in torch.autograd.grad(u.sum(), (k, u0, t1), create_graph=True)])

    got = torch.autograd.functional.jacobian(slopes, (k, u0, t1))
    formula = lambda k, u, t: 1 / (1 + (1 / u.sum() - 1) * torch.exp(-k * t))  # noqa: E731
    exact = torch.autograd.functional.hessian(formula, (k, u0, t1))
    for i in range(3):
        for j in range(3):
            assert torch.allclose(got[j].reshape(3)[i], exact[i][j].reshape(()), rtol=1e-5), (i, j)


def decay() -> tuple[torch.Tensor, torch.Tensor]:
    k = torch.tensor(0.7, requires_grad=True)
    prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(1), (0.0, 1.0))
    return k, ps.solve(prob, ps.DP5(), sensealg=ps.BacksolveAdjoint()).u


@pytest.mark.parametrize("curved", [False, True], ids=["sum", "square"])
def test_second_derivatives_of_the_adjoint_are_refused_whatever_the_loss(curved):
    k, u = decay()
    loss = (u**2).sum() if curved else u.sum()
    (slope,) = torch.autograd.grad(loss, k, create_graph=True)
    assert slope.requires_grad
    assert slope.item() < 0
    with pytest.raises(ps.UnsupportedError, match=r"second derivatives through BacksolveAdjoint(.|\n)*DirectAdjoint"):
        (slope**2 + k).backward()
    with pytest.raises(ps.UnsupportedError, match="second derivatives"):
        torch.autograd.grad(slope, k, allow_unused=True)


def test_backward_can_run_twice():
    k, u = decay()
    first = torch.autograd.grad(u.sum(), k, retain_graph=True)
    assert first == torch.autograd.grad(u.sum(), k)


# Tolerances, counts and callbacks -------------------------------------------------------------------------------------


def test_the_backward_solve_has_its_own_tolerances_algorithm_and_counts():
    choices = {"same": {}, "loose": {"reltol": 1e-3, "abstol": 1e-3}, "other": {"alg": ps.BS3()}}
    work = {}
    for name, choice in choices.items():
        u0, sensealg = torch.tensor([1.0, -0.5], requires_grad=True), ps.BacksolveAdjoint(**choice)
        sol = ps.solve(ps.ODEProblem(lambda t, u: -u * t, u0, (0.0, 1.0)), ps.DP5(), sensealg=sensealg, reltol=1e-8,
                       abstol=1e-8)  # fmt: skip
        assert sol.stats.backward is None
        sol.u.sum().backward()
        work[name] = sol.stats.backward
        assert sol.stats.backward.nf > 0
        assert sol.stats.backward.naccept > 0
    assert work["loose"].nf < work["same"].nf < work["other"].nf


@both
def test_callbacks_on_f_are_called_with_the_user_s_state(sensealg):
    class Told(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, t, u):
            return {"x": -u["x"]}

        def callback_step(self, t, u, dt):
            self.seen.append((t.item(), u["x"].shape))

        def callback_step_adjoint(self, t, u, dt):
            self.seen.append("adjoint")

    f = Told()
    u0 = {"x": torch.ones(2, 3, requires_grad=True)}
    sol = ps.solve(ps.ODEProblem(f, u0, (0.0, 1.0)), ps.DP5(), sensealg=sensealg)
    assert len(f.seen) == sol.stats.naccept + sol.stats.nreject
    assert f.seen[0] == (0.0, (2, 3))
    sol.u["x"].sum().backward()
    assert ("adjoint" in f.seen) == isinstance(sensealg, ps.BacksolveAdjoint)


def test_dense_output_is_the_same_solution():
    sol = ps.solve(ps.ODEProblem(lambda t, u: -u, torch.ones(1), (0.0, 1.0)), ps.DP5(), saveat=[0.25, 1.0], **TIGHT)
    assert torch.equal(sol(0.25), sol.u[0])
    assert torch.allclose(sol(torch.tensor([0.9, 0.0])), torch.exp(-torch.tensor([[0.9], [0.0]])), rtol=1e-8)


# Failures -------------------------------------------------------------------------------------------------------------


def blow_up(t, u):
    return u**2  # u = 1 / (1 - t)


@both
def test_a_singularity_says_where(sensealg):
    with pytest.raises(ps.SolveError, match="forward solve by DP5 stopped at t = ") as info:
        ps.solve(ps.ODEProblem(blow_up, torch.ones(1), (0.0, 2.0)), ps.DP5(), sensealg=sensealg)
    assert abs(info.value.t - 1.0) < 0.01
    assert info.value.retcode in (ps.ReturnCode.DtLessThanMin, ps.ReturnCode.Unstable)
    assert info.value.stats.nf > 0


@pytest.mark.parametrize(("alg", "options"), [(ps.DP5(), {}), (ps.Euler(), {"dt": 0.01})], ids=["DP5", "Euler"])
def test_nan_is_unstable_and_says_where(alg, options):
    prob = ps.ODEProblem(lambda t, u: torch.sqrt(0.5 - t) * u, torch.ones(1), (0.0, 1.0))
    with pytest.raises(ps.SolveError, match="Unstable") as info:
        ps.solve(prob, alg, saveat=0.1, **options)
    assert 0.2 <= info.value.t <= 0.7


@both
def test_maxiters_counts_the_whole_solve(sensealg):
    prob = ps.ODEProblem(lambda t, u: -u, torch.ones(1), (0.0, 10.0))
    with pytest.raises(ps.SolveError, match="MaxIters") as info:
        ps.solve(prob, ps.DP5(), saveat=0.5, dtmax=0.1, maxiters=50, sensealg=sensealg)
    assert 0 < info.value.t <= 5.0


def test_a_failing_backward_solve_is_told_apart():
    # Forwards it decays to rest; backwards the state, and with it the error, grows like exp(200 t).
    u0 = torch.ones(1, requires_grad=True)
    prob = ps.ODEProblem(lambda t, u: -200 * u, u0, (0.0, 2.0))
    u = ps.solve(prob, ps.DP5(), sensealg=ps.BacksolveAdjoint(), maxiters=400).u
    with pytest.raises(ps.SolveError, match="the backward solve by DP5 stopped at t = ") as info:
        u.sum().backward()
    assert info.value.direction == "backward"
    assert 0.0 <= info.value.t <= 2.0


@both
@pytest.mark.parametrize("error", [KeyError("rate"), AssertionError("underflow in dt 0.0"), KeyboardInterrupt()],
                         ids=lambda e: type(e).__name__)  # fmt: skip
def test_exceptions_of_f_arrive_unchanged(sensealg, error):
    def f(t, u):
        if t.item() > 0.5:
            raise error
        return -u

    with pytest.raises(type(error)) as info:
        ps.solve(ps.ODEProblem(f, torch.ones(1), (0.0, 1.0)), ps.DP5(), sensealg=sensealg)
    assert info.value is error


def in_place(t, u):
    u += 1
    return u


WRONG = {
    "structure": (lambda t, u: (u,), "same structure"),
    "shape": (lambda t, u: u.reshape(1, 2), "state's shape"),
    "dtype": (lambda t, u: u.float(), "state's dtype"),
    "in place": (in_place, "in place"),
}


@pytest.mark.parametrize(("f", "text"), WRONG.values(), ids=WRONG)
def test_what_f_may_not_do(f, text):
    with pytest.raises(ps.InvalidInputError, match=text):
        ps.solve(ps.ODEProblem(f, torch.ones(2), (0.0, 1.0)), ps.DP5())


@both
def test_memory_is_given_back(sensealg):
    k = torch.tensor(0.7, requires_grad=True)

    def once():
        u = ps.solve(ps.ODEProblem(lambda t, u: -k * u, torch.ones(3), (0.0, 1.0)), ps.DP5(), sensealg=sensealg).u
        torch.autograd.grad(u.sum(), k)

    def tensors():
        gc.collect()
        return sum(issubclass(type(x), torch.Tensor) for x in gc.get_objects())

    once()
    before = tensors()
    for _ in range(20):
        once()
    assert tensors() <= before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@both
def test_everything_stays_on_the_gpu(sensealg):
    u0, k = torch.ones(2, device="cuda"), torch.tensor(0.7, device="cuda", requires_grad=True)
    t1, ts = torch.tensor(1.0, requires_grad=True), torch.tensor([0.5, 1.0], requires_grad=True)
    for alg, options in ((ps.DP5(), TIGHT), (ps.TorchDiffEq("dopri8"), TIGHT), (RK4, {"dt": 0.01})):
        prob = ps.ODEProblem(lambda t, u: {"a": -k * u["a"], "b": -u["b"]}, {"a": u0, "b": u0[0]}, (0.0, t1))
        u = ps.solve(prob, alg, saveat=ts, sensealg=sensealg, **options).u["a"]
        assert u.is_cuda
        (grad, dts) = torch.autograd.grad(u[-1].sum(), (k, ts))
        assert torch.allclose(grad, -2 * torch.exp(-k), rtol=1e-6)
        assert torch.allclose(dts, torch.tensor([0.0, -1.4 * torch.exp(-k).item()]), rtol=1e-6)
