"""Ensembles by Tsit5, whose trajectories go side by side in the lanes of vectors: each is what it is alone."""

from __future__ import annotations

import pytest
import torch
from finite_differences import relative_error

import pysciml as ps

pytestmark = pytest.mark.julia
D = torch.float64
TIMES = [0.0, 0.3, 1.0, 2.0]
OPTIONS = {"saveat": TIMES, "engine": "julia", "reltol": 1e-7, "abstol": 1e-9}


class Net(torch.nn.Module):
    """A network, what depends on time, and functions that branch."""

    def __init__(self, width: int):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Tanh(), torch.nn.Linear(width, 3)).double()

    def forward(self, t, u, p):
        return self.net(u) * torch.cos(3 * t) + torch.sin(p * u.flip(0)) - u


def lorenz(t, u, p):
    x, y, z = u
    return torch.stack([10 * (y - x), x * (28 + p[0] - z) - y, x * y - 8 / 3 * z])


def chain(t, u, p):
    """A sum that runs, a reduction and a branch, on more states than are written out one by one."""
    forced = torch.where(u > 0.5, torch.exp(-u), 0.6 * u)
    return torch.cumsum(forced * p.sum(), 0) / 7 - u * torch.softmax(u, 0) + torch.sin(5 * t)


CASES = {
    "lorenz": (lorenz, 3, 1), "network": (Net(16), 3, 3), "wide network": (Net(40), 3, 3), "chain": (chain, 7, 2),
}  # fmt: skip


def ensemble(case: str, members: int) -> ps.EnsembleProblem:
    f, n, m = CASES[case]
    noise = torch.Generator().manual_seed(1)
    u0 = torch.rand(members, n, dtype=D, generator=noise).requires_grad_()
    p = torch.rand(members, m, dtype=D, generator=noise).requires_grad_()
    return ps.EnsembleProblem(ps.ODEProblem(f, u0[0].detach(), (0.0, 2.0), p[0].detach()), u0, p)


def weights(u: torch.Tensor) -> torch.Tensor:
    return torch.randn(u.shape, dtype=D, generator=torch.Generator().manual_seed(2))


def compiled_abreast() -> int:
    """How many functions have been compiled for all lanes so far."""
    from pysciml.engines.julia.runtime import julia

    return int(julia().seval("count(form -> form[1] <: PySciML.Abreast, keys(PySciML.COMPILED))"))


def test_they_go_side_by_side_where_states_are_short():
    u0, p, counts = torch.rand(5, 2, dtype=D), torch.rand(5, 1, dtype=D), [compiled_abreast()]
    for f, start in ((lambda t, u, p: -p * u**3, u0), (lambda t, u, p: -p * u**5, torch.rand(5, 20, dtype=D))):
        many = ps.EnsembleProblem(ps.ODEProblem(f, start[0], (0.0, 2.0), p[0]), start, p.clone().requires_grad_())
        sol = ps.solve_ensemble(many, ps.Tsit5(), executor="threads", sensealg=ps.DirectAdjoint(), **OPTIONS)
        sol.u.sum().backward()
        counts.append(compiled_abreast())
    assert counts[1] == counts[0] + 2  # f and its products
    assert counts[2] == counts[1]


def test_compiling_has_nothing_to_say(capfd):
    """LLVM complains about loops that it was told to make vectors of and cannot."""

    def mixed(t, u):
        return torch.sin(u) * torch.exp(-u) + torch.tanh(u.flip(0))

    for n in (3, 40):
        u0 = torch.rand(5, n, dtype=D)
        many = ps.EnsembleProblem(ps.ODEProblem(mixed, u0[0], (0.0, 1.0)), u0)
        ps.solve_ensemble(many, ps.Tsit5(), executor="threads", **(OPTIONS | {"saveat": [1.0]}))
    assert "remark" not in capfd.readouterr().err


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("members", [1, 8, 19])
def test_states_and_gradients_are_those_of_each_alone(case, members):
    many = ensemble(case, members)
    options = OPTIONS | {"sensealg": ps.DirectAdjoint()}
    sol = ps.solve_ensemble(many, ps.Tsit5(), executor="threads", **options)
    held = list(getattr(many.prob.f, "parameters", list)())
    found = torch.autograd.grad((sol.u * weights(sol.u)).sum(), [many.u0, many.p, *held])
    alone = [ps.solve(many.member(i), ps.Tsit5(), **options) for i in range(members)]
    u = torch.stack([x.u for x in alone])
    expected = torch.autograd.grad((u * weights(u)).sum(), [many.u0, many.p, *held])
    assert relative_error(sol.u, u) < 1e-12
    assert sol.stats.naccept == sum(x.stats.naccept for x in alone)
    assert sol.stats.nf == sum(x.stats.nf for x in alone)
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_error(ours, theirs) < 1e-10


def test_of_few_states_they_are_the_same_to_the_last_digit():
    many = ensemble("lorenz", 30)
    with torch.no_grad():
        sol = ps.solve_ensemble(many, ps.Tsit5(), executor="threads", **OPTIONS)
        alone = torch.stack([ps.solve(many.member(i), ps.Tsit5(), **OPTIONS).u for i in range(30)])
    assert torch.equal(sol.u, alone)


@pytest.mark.parametrize("options", [
    {"dtmax": 0.01}, {"abstol": torch.tensor([1e-6, 1e-9, 1e-3], dtype=D)}, {"reltol": 1e-3}, {"maxiters": 2000},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("span", [(0.0, 2.0), (2.0, 0.0)])
def test_options_and_spans_that_go_back(options, span):
    u0, p = torch.rand(9, 3, dtype=D), torch.rand(9, 1, dtype=D)
    prob = ps.ODEProblem(lambda t, u, p: torch.sin(u.roll(1)) - p * u + t, u0[0], span, p[0])
    many, options = ps.EnsembleProblem(prob, u0, p), OPTIONS | {"saveat": [span[0], 0.7, span[1]]} | options
    sol = ps.solve_ensemble(many, ps.Tsit5(), executor="threads", **options)
    alone = [ps.solve(many.member(i), ps.Tsit5(), **options) for i in range(9)]
    assert relative_error(sol.u, torch.stack([x.u for x in alone])) < 1e-13
    assert sol.stats.nf == sum(x.stats.nf for x in alone)


@pytest.mark.parametrize("n", [2, 20])
def test_times_a_rounding_error_outside_of_the_span(n):
    u0 = (torch.rand(9, n, dtype=D) + 1).requires_grad_()
    prob = ps.ODEProblem(lambda t, u: -u, u0[0].detach(), (0.0, 1.0))
    options = OPTIONS | {"saveat": [-5e-13, 0.5, 1 + 5e-13], "sensealg": ps.DirectAdjoint()}
    sol = ps.solve_ensemble(ps.EnsembleProblem(prob, u0), ps.Tsit5(), executor="threads", **options)
    expected = u0.detach()[:, None] * torch.exp(-sol.t)[:, None]
    torch.testing.assert_close(sol.u.detach(), expected, rtol=1e-6, atol=0)
    (gradient,) = torch.autograd.grad(sol.u.sum(), u0)
    torch.testing.assert_close(gradient, torch.exp(-sol.t).sum().expand(9, n), rtol=1e-6, atol=0)


def test_those_that_cannot_go_on_fail_as_each_does_alone_and_leave_the_others():
    """One that blows up, one whose f is NaN at the start, one that takes too many steps, among some that are well."""
    u0 = torch.tensor([[0.5], [2.0], [0.25], [-1.0], [0.125], [0.75], [0.1], [0.2], [0.3], [3.0]], dtype=D)
    prob = ps.ODEProblem(lambda t, u: torch.sqrt(u) * u**1.5, u0[0], (0.0, 1.0))
    options = OPTIONS | {"saveat": [0.5, 1.0], "maxiters": 300}
    start = u0.clone().requires_grad_()
    with pytest.warns(ps.PySciMLWarning, match="3 of 10 trajectories failed"):
        sol = ps.solve_ensemble(ps.EnsembleProblem(prob, start), ps.Tsit5(), executor="threads",
                                sensealg=ps.DirectAdjoint(), **options)  # fmt: skip
    assert sol.failed == [1, 3, 9]
    with pytest.warns(ps.PySciMLWarning, match="3 of 10 trajectories failed"):
        serial = ps.solve_ensemble(ps.EnsembleProblem(prob, u0), ps.Tsit5(), executor="serial", **options)
    assert sol.failures == serial.failures
    assert torch.equal(sol.u[sol.successful].detach(), serial.u[serial.successful])
    sol.u[sol.successful, -1].sum().backward()
    good = sol.successful
    torch.testing.assert_close(start.grad[good], (1 - u0[good]) ** -2, rtol=1e-5, atol=0)
    assert torch.equal(start.grad[sol.failed], torch.zeros(3, 1, dtype=D))


def test_what_does_not_go_side_by_side_is_solved_one_after_another():
    """float32, a network whose weights fill the cache, another algorithm and a first step of one's own."""

    def growing(t, u, p):
        return p * u

    for dtype, alg, options in [
        (torch.float32, ps.Tsit5(), {"reltol": 1e-5, "abstol": 1e-6}),
        (D, ps.Vern7(), {}), (D, ps.Tsit5(), {"dt": 1e-3}),
    ]:  # fmt: skip
        u0, p = torch.ones(9, 2, dtype=dtype), torch.linspace(-1, 1, 18, dtype=dtype).reshape(9, 2)
        many = ps.EnsembleProblem(ps.ODEProblem(growing, u0[0], (0.0, 1.0), p[0]), u0, p)
        sol = ps.solve_ensemble(many, alg, executor="threads", **(OPTIONS | {"saveat": [1.0]} | options))
        torch.testing.assert_close(sol.u[:, -1], torch.exp(p), rtol=1e-4, atol=1e-5)
    f = Net(1000)
    u0, p = torch.rand(3, 3, dtype=D), torch.rand(3, 3, dtype=D)
    many = ps.EnsembleProblem(ps.ODEProblem(f, u0[0], (0.0, 1.0), p[0]), u0, p)
    with torch.no_grad():
        sol = ps.solve_ensemble(many, ps.Tsit5(), executor="threads", **(OPTIONS | {"saveat": [1.0]}))
        alone = torch.stack([ps.solve(many.member(i), ps.Tsit5(), **(OPTIONS | {"saveat": [1.0]})).u for i in range(3)])
    assert torch.equal(sol.u, alone)
