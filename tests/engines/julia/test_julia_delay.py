"""Problems with delays by Julia: solutions and gradients against closed forms and finite differences."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from finite_differences import gradient, relative_error
from problems import vector

import pysciml as ps

pytestmark = pytest.mark.julia
F64 = torch.float64
TIGHT = {"reltol": 1e-10, "abstol": 1e-10, "engine": "julia"}
TIMES = [0.7, 1.5, 2.2, 3.3]
WEIGHTS = vector(1.0, -0.5, 0.3, 0.8)
NONSTIFF = [ps.Tsit5(), ps.Vern7(), ps.Vern9(), ps.BS3(), ps.DP5(), ps.OwrenZen5()]
STIFF = [ps.Rosenbrock23(), ps.Rodas5P(), ps.Rodas4(), ps.KenCarp4(), ps.KenCarp47()]


def delayed_decay(t: torch.Tensor, u0, lag, past, terms: int = 6) -> torch.Tensor:
    """u at times (k,), for u' = -u(t - lag) with u = past before 0, in closed form."""

    def powers(t, more):
        """The sum of (-1)^k (t - k lag)^(k + more) / (k + more)! over all k with t > k lag."""
        return sum((-1) ** k * torch.where(t > k * lag, t - k * lag, 0.0 * t) ** (k + more) / math.factorial(k + more)
                   * (t >= k * lag) for k in range(terms))  # fmt: skip

    return u0 * powers(t, 0) - past * (powers(t, 1) - powers(t - lag, 1))


def decay(u0, lag, past, alg=None, **options) -> torch.Tensor:
    prob = ps.DDEProblem(lambda t, u, h: -h(t - lag), u0.reshape(1), lambda s: past.reshape(1), (0.0, 3.3))
    return ps.solve(prob, alg, saveat=TIMES, **{**TIGHT, **options}).u[:, 0]


def leaves(*values: float) -> list[torch.Tensor]:
    return [torch.tensor(x, dtype=F64, requires_grad=True) for x in values]


def errors(alg=None, start=(1.0, 0.9, 1.0), **options) -> tuple[float, float]:
    """Of the values, and the worst of the gradients in u0, lag and history."""
    truth, found = leaves(*start), leaves(*start)
    exact, u = delayed_decay(vector(*TIMES), *truth), decay(*found, alg, **options)
    (WEIGHTS * exact).sum().backward()
    (WEIGHTS * u).sum().backward()
    worst = max(abs((x.grad - y.grad) / y.grad).item() for x, y in zip(found, truth, strict=True))
    return (u - exact).abs().max().item(), worst


@pytest.mark.parametrize("route", ["compiled", "callback"])
@pytest.mark.parametrize("start", [(1.0, 0.9, 1.0), (1.3, 0.9, 0.8)], ids=["continuous", "jump at t0"])
@pytest.mark.parametrize("alg", [None, ps.Tsit5(), ps.Rodas5P()], ids=lambda a: a.name if a else "default")
def test_values_and_gradients_have_the_closed_form(alg, start, route):
    value, worst = errors(alg, start, route=route)
    assert value < 1e-8
    assert worst < 1e-7


@pytest.mark.exhaustive
@pytest.mark.parametrize("alg", NONSTIFF + STIFF, ids=lambda a: a.name)
def test_every_family(alg):
    value, worst = errors(alg, **({"reltol": 1e-8, "abstol": 1e-8} if alg.order < 4 else {}))
    assert value < 1e-6
    assert worst < 1e-5


def test_finer_tolerances_give_finer_gradients():
    """On a problem whose solution is no polynomial."""
    each = [_mackey_glass_error(ps.Tsit5(), tol) for tol in (1e-4, 1e-6, 1e-8)]
    assert each[0] > 10 * each[1] > 100 * each[2]
    assert each[2] < 1e-6


def mackey_glass(p, alg=None, **options) -> torch.Tensor:
    def f(t, u, h, p):
        past = h(t - p[3])
        return p[0] * past / (1 + past ** p[2]) - p[1] * u

    prob = ps.DDEProblem(f, p[5:], lambda s, p: (p[5] + p[4] * s).reshape(1), (0.0, 12.0), p)
    return ps.solve(prob, alg, saveat=[3.0, 7.0, 12.0], **{**TIGHT, **options}).u[:, 0]


PARAMETERS = vector(2.0, 1.0, 9.65, 2.0, 0.05, 0.5)


@cache
def _mackey_glass_truth() -> torch.Tensor:
    finest = {"reltol": 1e-12, "abstol": 1e-12}
    return gradient(lambda p: (mackey_glass(p, ps.Vern9(), **finest) ** 2).sum().item(), PARAMETERS)


def _mackey_glass_error(alg, tol: float) -> float:
    p = PARAMETERS.clone().requires_grad_()
    (mackey_glass(p, alg, reltol=tol, abstol=tol) ** 2).sum().backward()
    return relative_error(p.grad, _mackey_glass_truth())


@pytest.mark.parametrize("alg", [None, ps.Tsit5(), ps.Vern7(), ps.Rodas5P()], ids=lambda a: a.name if a else "default")
def test_mackey_glass(alg):
    assert _mackey_glass_error(alg, 1e-10) < 1e-6


def test_mackey_glass_takes_the_published_values():
    """Solved by SciPy in pieces of the lag, from one polynomial solution to the next: see `by_pieces`."""
    torch.testing.assert_close(mackey_glass(PARAMETERS), by_pieces(), rtol=1e-8, atol=1e-8)


def by_pieces() -> torch.Tensor:
    from scipy.integrate import solve_ivp

    b, g, n, lag, slope, start = PARAMETERS.tolist()
    past, pieces, u, t = (lambda s: start + slope * s), [], start, 0.0
    while t < 12.0:

        def f(s, y, past=past):
            v = past(s - lag)
            return [b * v / (1 + v**n) - g * y[0]]

        done = solve_ivp(f, (t, t + lag), [u], "DOP853", rtol=1e-12, atol=1e-13, dense_output=True)
        past, u, t = (lambda s, d=done.sol: d(s)[0]), done.y[0, -1], t + lag
        pieces.append((t, past))
    return vector(*(next(sol for end, sol in pieces if s <= end)(s) for s in (3.0, 7.0, 12.0)))


def turning(p, u0, alg=None, **options) -> torch.Tensor:
    """A lag that depends on the state, and a history with parameters."""

    def f(t, u, h, p):
        return -p[2] * h(t - p[0] * torch.exp(-p[1] * u)) + 0.3 * torch.sin(t)

    prob = ps.DDEProblem(f, u0, lambda s, p: torch.cos(p[3] * s).reshape(1), (0.0, 4.0), p)
    return ps.solve(prob, alg, saveat=[1.3, 2.7, 4.0], **{**TIGHT, **options}).u


@pytest.mark.parametrize("start", [1.0, 1.4], ids=["continuous", "jump at t0"])
@pytest.mark.parametrize("alg", [ps.Tsit5(), ps.Rodas5P()], ids=lambda a: a.name)
def test_a_lag_that_depends_on_the_state(alg, start):
    p, u0 = vector(0.8, 0.5, 1.2, 0.7).requires_grad_(), vector(start).requires_grad_()
    loss = lambda p, u0, alg=alg, **o: (turning(p, u0, alg, **o) ** 2).sum()  # noqa: E731
    loss(p, u0).backward()
    finest = {"reltol": 1e-12, "abstol": 1e-12}
    by_p = gradient(lambda x: loss(x, u0, ps.Vern7(), **finest).item(), p)
    by_u0 = gradient(lambda x: loss(p, x, ps.Vern7(), **finest).item(), u0)
    assert relative_error(p.grad, by_p) < 1e-6
    assert relative_error(u0.grad, by_u0) < 1e-6


def jumpy(lag, past, at, **options) -> torch.Tensor:
    """u' = -u(t - lag) u(t / 2 - lag), and before the start u jumps at a time, from past to 1."""

    def f(t, u, h):
        return -h(t - lag) * h(t / 2 - lag)

    def before(s):
        return torch.where(s < at, past * torch.cos(s), torch.ones_like(past)).reshape(1)

    prob = ps.DDEProblem(f, vector(1.0), before, (0.0, 3.3))
    return ps.solve(prob, ps.Vern7(), saveat=TIMES, **{**TIGHT, **options}).u[:, 0]


@pytest.mark.parametrize("route", ["compiled", "callback"])
@pytest.mark.parametrize("at", [-0.33, -0.0017, 0.0], ids=["before", "shortly before", "at the start"])
def test_a_past_that_jumps(at, route):
    lag, past = leaves(0.9, 0.6)
    (WEIGHTS * jumpy(lag, past, at, route=route)).sum().backward()
    finest = {"reltol": 1e-12, "abstol": 1e-12}
    both = torch.stack([lag, past]).detach()
    by_differences = gradient(lambda x: (WEIGHTS * jumpy(x[0], x[1], at, **finest)).sum().item(), both)
    assert relative_error(torch.stack([lag.grad, past.grad]), by_differences) < 1e-6


def stiff(p, alg, **options) -> torch.Tensor:
    """Rates 1 and 10,000; the fast state follows the slow one's past."""

    def f(t, u, h, p):
        past = h(t - p[1])
        return torch.stack([-p[0] * u[1] + 0.1 * past[1], 1e4 * (torch.sin(past[0]) - u[1])])

    prob = ps.DDEProblem(f, vector(1.0, 0.2), lambda s, p: torch.stack([1.0 + 0.3 * s, 0.2 + 0.0 * s]), (0.0, 3.0), p)
    return ps.solve(prob, alg, saveat=[0.8, 1.7, 3.0], **{**TIGHT, **options}).u


@pytest.mark.parametrize("alg", [ps.Rodas5P(), ps.KenCarp4(), None], ids=lambda a: a.name if a else "-")
def test_stiff(alg):
    p = vector(1.2, 0.9).requires_grad_()
    tolerances = {"reltol": 1e-8, "abstol": 1e-8}
    sol = stiff(p, alg, **tolerances)
    (sol**2).sum().backward()
    by_differences = gradient(lambda x: (stiff(x, ps.Rodas5P()) ** 2).sum().item(), p)
    assert relative_error(p.grad, by_differences) < 1e-5


def test_several_lags_one_of_them_shorter_than_the_steps():
    def solve(p, **options):
        def f(t, u, h, p):
            return torch.stack([-u[0] + p[2] * h(t - p[0])[1], -h(t - p[1])[0] * p[3]])

        prob = ps.DDEProblem(f, vector(1.0, 0.2), lambda s, p: torch.stack([torch.exp(p[4] * s), torch.sin(s)]),
                             (0.0, 2.0), p)  # fmt: skip
        return (ps.solve(prob, ps.Tsit5(), saveat=[0.4, 1.1, 2.0], **{**TIGHT, **options}).u ** 2).sum()

    p = vector(0.03, 0.5, 0.7, 1.1, 0.3).requires_grad_()
    solve(p).backward()
    by_differences = gradient(lambda x: solve(x, reltol=1e-12, abstol=1e-12).item(), p)
    assert relative_error(p.grad, by_differences) < 1e-6


def test_gradients_in_times():
    def loss(t0, ts):
        past = lambda s: (0.8 + 0.1 * s).reshape(1)  # noqa: E731
        prob = ps.DDEProblem(lambda t, u, h: -h(t - 0.9) * torch.cos(t), vector(1.3), past, (t0, 3.0))
        return (ps.solve(prob, ps.Tsit5(), saveat=ts, **TIGHT).u ** 2).sum()

    t0, ts = torch.tensor(0.1, dtype=F64, requires_grad=True), vector(0.7, 2.9).requires_grad_()
    loss(t0, ts).backward()
    assert relative_error(t0.grad, gradient(lambda x: loss(x, ts.detach()).item(), t0)) < 1e-6
    assert relative_error(ts.grad, gradient(lambda x: loss(t0.detach(), x).item(), ts)) < 1e-6


def test_backwards_in_time():
    """With the future for the past, and time turned round, it is the same problem."""
    lag, u0 = leaves(0.9, 1.0)
    prob = ps.DDEProblem(lambda t, u, h: h(t + lag), u0.reshape(1), 1.0, (0.0, -3.3))
    u = ps.solve(prob, ps.Tsit5(), saveat=[-t for t in TIMES], **TIGHT).u[:, 0]
    (WEIGHTS * u).sum().backward()
    other, start = leaves(0.9, 1.0)
    exact = delayed_decay(vector(*TIMES), start, other, torch.tensor(1.0, dtype=F64))
    (WEIGHTS * exact).sum().backward()
    torch.testing.assert_close(u, exact, rtol=1e-8, atol=1e-8)
    assert abs(lag.grad - other.grad) < 1e-7
    assert abs(u0.grad - start.grad) < 1e-7


def test_dense_output_has_gradients_too():
    lag, u0, past = leaves(0.9, 1.0, 1.0)
    prob = ps.DDEProblem(lambda t, u, h: -h(t - lag), u0.reshape(1), lambda s: past.reshape(1), (0.0, 3.3))
    sol = ps.solve(prob, ps.Tsit5(), **TIGHT)
    t = vector(2.2, 0.7).requires_grad_()
    u = sol(t)
    assert u.shape == (2, 1)
    u.sum().backward()
    truth, times = leaves(1.0, 0.9, 1.0), vector(2.2, 0.7).requires_grad_()
    delayed_decay(times, *truth).sum().backward()
    for x, y in zip((u0, lag, past, t), (*truth, times), strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-7, atol=1e-8)


def test_a_lag_is_learned_from_data():
    data = delayed_decay(torch.linspace(0.1, 3.3, 20, dtype=F64), *(vector(1.0, 0.8, 1.0)))
    raw = torch.tensor(0.2, dtype=F64, requires_grad=True)
    past = torch.nn.Linear(1, 1).double()
    optimizer = torch.optim.Adam([raw, *past.parameters()], lr=0.05)
    for _ in range(150):
        lag = torch.nn.functional.softplus(raw)
        prob = ps.DDEProblem(
            lambda t, u, h, lag=lag: -h(t - lag), vector(1.0), lambda s: past(s.reshape(1)), (0.0, 3.3)
        )
        u = ps.solve(prob, ps.Tsit5(), saveat=torch.linspace(0.1, 3.3, 20, dtype=F64), engine="julia").u[:, 0]
        loss = ((u - data) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1e-4
    assert abs(torch.nn.functional.softplus(raw).item() - 0.8) < 0.05


def test_float32_keeps_its_dtype():
    lag, u0 = (torch.tensor(x, requires_grad=True) for x in (0.9, 1.0))
    prob = ps.DDEProblem(lambda t, u, h: -h(t - lag), u0.reshape(1), 1.0, (0.0, 3.3))
    u = ps.solve(prob, saveat=TIMES, engine="julia").u
    assert u.dtype is torch.float32
    (WEIGHTS.float() * u[:, 0]).sum().backward()
    truth = leaves(1.0, 0.9, 1.0)
    exact = delayed_decay(vector(*TIMES), *truth)
    (WEIGHTS * exact).sum().backward()
    torch.testing.assert_close(u[:, 0].double(), exact, rtol=1e-4, atol=1e-4)
    assert lag.grad.dtype is torch.float32
    assert abs(lag.grad - truth[1].grad) < 1e-3 * abs(truth[1].grad)


def test_states_in_a_dict():
    def f(t, u, h):
        past = h(t - 0.5)
        return {"b": -past["a"].sum() * u["b"], "a": -past["a"]}

    u0 = {"a": vector(1.0, 2.0), "b": torch.ones(2, 2, dtype=F64)}
    u = ps.solve(ps.DDEProblem(f, u0, u0, (0.0, 1.0)), saveat=[0.5], **TIGHT).u
    torch.testing.assert_close(u["a"][0], vector(0.5, 1.0))
    assert u["b"].shape == (1, 2, 2)


def test_second_derivatives_are_refused():
    lag, u0, past = leaves(0.9, 1.0, 1.0)
    u = decay(u0, lag, past)
    with pytest.raises(ps.UnsupportedError, match="second derivatives of a problem with delays"):
        torch.autograd.grad(u.sum(), lag, create_graph=True)


def test_the_future_is_refused():
    prob = ps.DDEProblem(lambda t, u, h: -h(t + 0.5), vector(1.0), 1.0, (0.0, 1.0))
    with pytest.raises(ps.InvalidInputError, match="a state that is not there yet") as caught:
        ps.solve(prob, ps.Tsit5(), engine="julia")
    assert "softplus" in caught.value.fix


def test_a_solution_that_grows_beyond_all_bounds_stops():
    prob = ps.DDEProblem(lambda t, u, h: u**2 + 0 * h(t - 0.5), vector(1.0), 1.0, (0.0, 2.0))
    with pytest.raises(ps.SolveError) as caught:
        ps.solve(prob, ps.Tsit5(), engine="julia")
    assert caught.value.direction == "forward"


def test_parameters_that_are_not_finite_are_named():
    rate = torch.tensor(float("nan"), dtype=F64)
    prob = ps.DDEProblem(lambda t, u, h: -rate * h(t - 0.5), vector(1.0), 1.0, (0.0, 2.0))
    with pytest.raises(ps.InvalidInputError, match="`rate` must be finite"):
        ps.solve(prob, ps.Tsit5(), engine="julia")


def test_f_that_cannot_be_compiled_is_called_back_with_a_warning():
    def f(t, u, h):
        past = h(t - 0.9)
        return -past if u.item() > -10 else past

    prob = ps.DDEProblem(f, vector(1.0), 1.0, (0.0, 3.3))
    with pytest.warns(ps.PySciMLWarning, match="called back from Julia"):
        u = ps.solve(prob, ps.Tsit5(), saveat=TIMES, **TIGHT).u[:, 0]
    torch.testing.assert_close(u, delayed_decay(vector(*TIMES), *vector(1.0, 0.9, 1.0)), rtol=1e-8, atol=1e-8)
