"""The likelihood of paths, against its definition and against derivatives of means in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jump_cases import BIRTH, DEATH, END, drawn, immigration, immigration_by_mass_action, mean, number

import pysciml as ps
from pysciml.engines.jumps import Events
from pysciml.jumps.likelihood import log_likelihood


def events_of(prob: ps.JumpProblem, count: int) -> Events:
    found = [drawn(prob, seed) for seed in range(count)]
    times, channels = (np.concatenate(x) for x in zip(*found, strict=True))
    return Events(np.array([t.size for t, _ in found]), times, channels)


def by_definition(prob: ps.JumpProblem, times: np.ndarray, channels: np.ndarray, p: torch.Tensor) -> torch.Tensor:
    """Event by event, of immigration: log rates at the events, less the time that passed times all rates."""
    total, u, t = number(0.0), prob.u0[0], prob.span[0]
    for s, j in zip([*times, prob.span[1]], [*channels, None], strict=True):
        rates = torch.stack([p[0], p[1] * u])
        total = total - rates.sum() * (s - t)
        if j is not None:
            total, u = total + torch.log(rates[j]), u + prob.changes[j, 0]
        t = s
    return total


def test_it_is_its_definition_with_its_gradient():
    p = number([BIRTH, DEATH]).requires_grad_()
    prob = immigration(p=p)
    events = events_of(prob, 3)
    found = log_likelihood(prob, prob.u0[None], p, False, events)
    expected = torch.stack([by_definition(prob, *drawn(prob, seed), p) for seed in range(3)])
    assert torch.allclose(found, expected, rtol=1e-12)
    weights = number([1.0, -2.0, 0.5])
    ours, truth = (torch.autograd.grad((weights * x).sum(), p)[0] for x in (found, expected))
    assert torch.allclose(ours, truth, rtol=1e-12)


def test_it_is_differentiable_again():
    p = number([BIRTH, DEATH]).requires_grad_()
    prob = immigration(p=p)
    times, channels = drawn(prob, 5)
    events = Events(np.array([times.size]), times, channels)
    hessian = torch.autograd.functional.hessian(
        lambda q: log_likelihood(prob, prob.u0[None], q, False, events).sum(), p
    )
    births = int((channels == 0).sum())
    assert hessian[0, 0].item() == pytest.approx(-births / BIRTH**2)
    assert hessian[0, 1].item() == 0


def test_parameters_may_differ_among_paths():
    prob = immigration()
    events = events_of(prob, 2)
    p = number([[BIRTH, DEATH], [5.0, 1.1]])
    found = log_likelihood(prob, prob.u0[None], p, True, events)
    expected = [by_definition(prob, *drawn(prob, seed), p[seed]).item() for seed in range(2)]
    assert found.tolist() == pytest.approx(expected)


def test_rates_that_branch_on_values_are_taken_one_by_one():
    p = number([BIRTH, DEATH]).requires_grad_()
    prob = immigration(p=p)
    events = events_of(prob, 2)
    branching = prob.remake(rates=lambda t, u, p: torch.stack([p[0], p[1] * u[0] if u[0].item() > 0 else 0 * p[1]]))
    found = log_likelihood(branching, prob.u0[None], p, False, events)
    assert torch.allclose(found, log_likelihood(prob, prob.u0[None], p, False, events))


def test_captured_parameters_and_modules_get_their_scores():
    class Deaths(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rate = torch.nn.Parameter(number(DEATH))

        def forward(self, t, u):
            return torch.stack([number(BIRTH), self.rate * u[0]])

    model = Deaths()
    prob = ps.JumpProblem(model, [[1], [-1]], number([3.0]), (0.0, END))
    events = events_of(prob, 2)
    log_likelihood(prob, prob.u0[None], None, False, events).sum().backward()
    p = number([BIRTH, DEATH]).requires_grad_()
    log_likelihood(immigration(p=p), prob.u0[None], p, False, events).sum().backward()
    assert model.rate.grad.item() == pytest.approx(p.grad[1].item())


def test_gradients_in_u0_are_refused():
    u0 = number([3.0]).requires_grad_()
    prob = immigration(u0=u0)
    found = log_likelihood(prob, u0[None], prob.p, False, events_of(prob, 1))
    with pytest.raises(ps.UnsupportedError, match="states move with u0") as caught:
        found.sum().backward()
    assert "detach" in caught.value.fix


@pytest.mark.slow
def test_the_score_function_gives_the_derivative_of_the_mean():
    p = number([BIRTH, DEATH]).requires_grad_()
    prob = immigration(p=p)
    events = events_of(prob, 2000)
    ends = prob.u0[0].item() + np.array([prob.changes[c, 0].sum().item()
                                         for c in np.split(events.channel, np.cumsum(events.counts)[:-1])])  # fmt: skip
    h = torch.from_numpy(ends)
    likelihood = log_likelihood(prob, prob.u0[None], p, False, events)
    per_path = torch.stack([torch.autograd.grad(likelihood[i], p, retain_graph=True)[0] for i in range(50)])
    assert torch.isfinite(per_path).all()
    ours = torch.autograd.grad(((h - h.mean()) * likelihood).mean(), p)[0]
    truth = torch.autograd.grad(mean(p, END), p)[0]
    assert torch.allclose(ours, truth, atol=0.35), (ours, truth)


@pytest.mark.julia
@pytest.mark.parametrize("make", [immigration, immigration_by_mass_action])
def test_the_score_function_of_an_ensemble_gives_the_derivative_of_the_mean(make):
    """Within four standard errors, which 20,000 paths make 2 % of the first and 4 % of the second derivative."""
    p = number([BIRTH, DEATH]).requires_grad_()
    sol = ps.solve_ensemble(ps.EnsembleProblem(make(p=p), trajectories=20_000), seed=11, engine="julia")
    h = sol.u[:, -1, 0].detach()
    likelihood = sol.log_likelihood()
    assert likelihood.shape == (20_000,)
    ours = torch.autograd.grad(((h - h.mean()) * likelihood).mean(), p)[0]
    truth = torch.autograd.grad(mean(p, END), p)[0]
    assert torch.allclose(ours, truth, atol=0.1), (ours, truth)


@pytest.mark.julia
def test_the_likelihood_of_a_path_of_julia_is_its_definition():
    p = number([BIRTH, DEATH]).requires_grad_()
    prob = immigration(p=p)
    sol = ps.solve(prob, seed=2, engine="julia")
    expected = by_definition(prob, sol.jumps.t.numpy(), sol.jumps.channel.numpy(), p)
    found = sol.log_likelihood()
    assert found.shape == ()
    assert torch.allclose(found, expected, rtol=1e-12)
    ours, truth = (torch.autograd.grad(x, p)[0] for x in (found, expected))
    assert torch.allclose(ours, truth, rtol=1e-10)


@pytest.mark.julia
def test_without_events_there_is_no_likelihood():
    sol = ps.solve(immigration(), ps.SimpleTauLeaping(), dt=0.1, seed=1, engine="julia")
    with pytest.raises(ps.UnsupportedError, match="all of its events"):
        sol.log_likelihood()
    many = ps.solve_ensemble(ps.EnsembleProblem(immigration(), trajectories=2), seed=1, engine="julia")
    with pytest.raises(ps.UnsupportedError, match="nothing required grad"):
        many.log_likelihood()
