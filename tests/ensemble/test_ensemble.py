"""Ensembles: many trajectories as one call. Julia's threads and executors have tests of their own."""

from __future__ import annotations

import pytest
import torch

import pysciml as ps

D = torch.float64


def decay(t, u, p):
    return -p * u


def problem():
    return ps.ODEProblem(decay, torch.ones(2, dtype=D), (0.0, 1.0), torch.tensor([1.0, 2.0], dtype=D))


def test_states_and_parameters_that_differ_together():
    u0, p = torch.rand(3, 2, dtype=D) + 1, torch.rand(3, 2, dtype=D)
    sol = ps.solve_ensemble(ps.EnsembleProblem(problem(), u0, p), saveat=[0.5, 1.0], reltol=1e-10, abstol=1e-10)
    assert sol.u.shape == (3, 2, 2)
    assert sol.retcodes == [ps.ReturnCode.Success] * 3
    torch.testing.assert_close(sol.u, u0[:, None] * torch.exp(-p[:, None] * sol.t[:, None]), rtol=1e-7, atol=1e-9)


def test_gradients_of_what_differs_and_of_what_is_shared():
    p = torch.tensor([1.0, 2.0], dtype=D, requires_grad=True)
    u0 = (torch.rand(4, 2, dtype=D) + 1).requires_grad_()
    prob = ps.ODEProblem(decay, torch.ones(2, dtype=D), (0.0, 1.0), p)
    ps.solve_ensemble(ps.EnsembleProblem(prob, u0), saveat=[1.0], reltol=1e-10, abstol=1e-10).u.sum().backward()
    torch.testing.assert_close(u0.grad, torch.exp(-p.detach()).expand(4, 2), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(p.grad, -(u0 * torch.exp(-p)).sum(0).detach(), rtol=1e-6, atol=1e-9)


def test_a_failed_trajectory_is_told_and_leaves_the_others():
    prob = ps.ODEProblem(lambda t, u: u * u, torch.ones(1, dtype=D), (0.0, 1.0))
    u0 = torch.tensor([[0.5], [2.0], [0.25]], dtype=D, requires_grad=True)
    with pytest.warns(ps.PySciMLWarning, match="1 of 3 trajectories failed; number 1 stopped at t = 0"):
        sol = ps.solve_ensemble(ps.EnsembleProblem(prob, u0), saveat=[1.0])
    assert sol.failed == [1]
    assert sol.u[1].isnan().all()
    assert sol.stopped[1] == pytest.approx(0.5, abs=1e-3)
    sol.u[sol.successful].sum().backward()
    torch.testing.assert_close(u0.grad.ravel(), torch.tensor([4.0, 0.0, 16 / 9], dtype=D), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("options", "message"), [
    ({}, "what its members differ in"),
    ({"u0": torch.ones(3, dtype=D)}, "one more dimension in front"),
    ({"u0": torch.ones(3, 2)}, "dtype and device"),
    ({"u0": torch.ones(3, 2, dtype=D), "p": torch.ones(2, 2, dtype=D)}, "one number of members"),
    ({"u0": torch.ones(0, 2, dtype=D)}, "one number of members"),
])  # fmt: skip
def test_what_is_no_ensemble_is_refused(options, message):
    with pytest.raises(ps.InvalidInputError, match=message):
        ps.EnsembleProblem(problem(), **options)


def test_parameters_that_the_problem_has_not_are_refused():
    prob = ps.ODEProblem(lambda t, u: -u, torch.ones(2, dtype=D), (0.0, 1.0))
    with pytest.raises(ps.InvalidInputError, match="no p that could differ"):
        ps.EnsembleProblem(prob, p=torch.ones(3, 2, dtype=D))


def test_executors():
    many = ps.EnsembleProblem(problem(), torch.ones(3, 2, dtype=D))
    with pytest.raises(ps.InvalidInputError, match="no executor 'gpu'"):
        ps.solve_ensemble(many, executor="gpu")
    with pytest.raises(ps.UnsupportedError, match="threads solve right-hand sides that Julia has compiled"):
        ps.solve_ensemble(many, executor="threads", engine="embedded")
    with pytest.raises(ps.InvalidInputError, match="solve_ensemble needs an ensemble"):
        ps.solve_ensemble(problem())


def test_how_an_ensemble_reads():
    many = ps.EnsembleProblem(problem(), torch.ones(3, 2, dtype=D))
    assert repr(many).startswith("EnsembleProblem(3 x ODEProblem(decay")
    assert "differing in u0" in repr(many)
    assert "3 trajectories, 0 failed" in repr(ps.solve_ensemble(many, saveat=[1.0]))
