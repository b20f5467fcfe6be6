"""What fit finds: known parameters, wherever they hide, from whatever form of data."""

import warnings

import numpy as np
import pytest
import torch
from fit_cases import F64, decay, decay_data, lotka_volterra_data, lotka_volterra_problem, number

import pysciml as ps
from pysciml.fit import Stage, fit

QUICK = {"stages": ("lbfgs", 20), "progress": "off"}


@pytest.mark.slow
def test_defaults_recover_lotka_volterra_to_three_digits():
    data, t = lotka_volterra_data()
    p = number([1.2, 0.8, 0.8, 2.5])
    result = fit(lotka_volterra_problem(p), data, t, progress="off")
    assert torch.allclose(p, number([1.5, 1.0, 1.0, 3.0]), rtol=1e-3, atol=0)
    assert set(result.history.stage) == {"Adam", "LBFGS"}
    assert result.loss < 1e-7
    assert torch.allclose(result.solution.u, data, atol=1e-3)


def test_finds_parameters_wherever_they_are():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.k = torch.nn.Parameter(number([0.3]))
            self.frozen = torch.nn.Parameter(number([1.0]), requires_grad=False)

        def forward(self, t, u, p):
            return -self.k * u + p["b"] * self.frozen * 0 + shift * (1 - u)

    shift = number(0.1)
    prob = ps.ODEProblem(Model(), number([0.8]), (0.0, 2.0), {"b": number([0.2])})
    data, t = decay_data()
    result = fit(prob, data, t, stages=("adam", 1), progress="off")
    assert list(result.parameters) == ["p['b']", "u0", "k", "captured[0]"]
    plain = ps.ODEProblem(lambda t, u: -0.8 * u + shift * (1 - u), number([0.8], grad=False), (0.0, 2.0))
    assert list(fit(plain, data, t, stages=("adam", 1), progress="off").parameters) == ["shift"]


def test_fits_initial_state_and_parameter_of_a_dict_state():
    k, x0 = number(0.3), number([0.5])
    prob = ps.ODEProblem(
        lambda t, u: {"x": -k * u["x"], "y": u["x"]}, {"x": x0, "y": number([0.0], grad=False)}, (0.0, 2.0)
    )
    x, t = decay_data()
    fit(prob, {"x": x, "y": 1 - x}, t, **QUICK)
    assert k.item() == pytest.approx(1, abs=1e-4)
    assert x0.item() == pytest.approx(1, abs=1e-4)


def test_only_listed_parameters_move_and_others_keep_their_grad():
    a, b = number(0.3), number(0.0)
    prob = ps.ODEProblem(lambda t, u: -(a + b) * u, torch.ones(1, dtype=F64), (0.0, 2.0))
    result = fit(prob, *decay_data(), params={"a": a}, **QUICK)
    assert list(result.parameters) == ["a"]
    assert a.item() == pytest.approx(1, abs=1e-4)
    assert b.item() == 0
    assert b.grad is None
    assert a.grad is None


@pytest.mark.parametrize(
    "listed", [lambda m: m, lambda m: m.parameters(), lambda m: m.named_parameters(), lambda m: m.k]
)
def test_params_in_every_form(listed):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.k = torch.nn.Parameter(number([0.3]))

        def forward(self, t, u):
            return -self.k * u

    model = Model()
    result = fit(
        ps.ODEProblem(model, torch.ones(1, dtype=F64), (0.0, 2.0)), *decay_data(), params=listed(model), **QUICK
    )
    assert model.k.item() == pytest.approx(1, abs=1e-4)
    assert len(result.parameters) == 1


def test_missing_observations_are_left_out():
    data, t = decay_data()
    data = data.clone()
    data[2], data[5] = float("nan"), float("nan")
    result = fit(decay(k := number(0.3)), data, t, **QUICK)
    assert k.item() == pytest.approx(1, abs=1e-4)
    assert torch.isnan(result.data[0]).sum() == 2


def test_weights_decide_between_data_that_disagree():
    data, t = decay_data()
    both = torch.cat([data, data**2], dim=1)  # the second column says k = 2
    prob = lambda k: ps.ODEProblem(lambda t, u: -k * u, torch.ones(2, dtype=F64), (0.0, 2.0))  # noqa: E731
    fit(prob(first := number(0.3)), both, t, weights=torch.tensor([1.0, 0.0]), **QUICK)
    fit(prob(second := number(0.3)), both, t, weights=torch.tensor([0.0, 1.0]), **QUICK)
    assert (first.item(), second.item()) == pytest.approx((1, 2), abs=1e-4)


def test_data_as_array_list_and_table_of_integers():
    data, t = decay_data()
    for form in (data.numpy(), data.tolist(), data.float()):
        fit(decay(k := number(0.3)), form, t.tolist(), **QUICK)
        assert k.item() == pytest.approx(1, abs=1e-4)
    whole = fit(decay(number(0.3)), np.ones((3, 1), dtype=int), [0.5, 1, 2], stages=("adam", 1), progress="off")
    assert whole.data[0].dtype == F64


def test_observing_less_than_the_state_with_a_scale_of_its_own():
    scale = torch.nn.Linear(1, 1, bias=False).double()
    k = number(0.5)
    prob = ps.ODEProblem(lambda t, u: torch.stack([-k * u[0], u[0]]), number([1.0, 0.0], grad=False), (0.0, 2.0))
    data, t = decay_data()
    result = fit(prob, 3 * data, t, observe=lambda u: scale(u[:, :1]), **QUICK)
    assert (k.item(), scale.weight.item()) == pytest.approx((1, 3), abs=1e-3)
    assert set(result.parameters) == {"k", "scale.weight"}


def test_losses_of_ones_own():
    data, t = decay_data()
    fit(decay(k := number(0.3)), data, t, loss=torch.nn.functional.smooth_l1_loss, **QUICK)
    assert k.item() == pytest.approx(1, abs=1e-4)
    fit(decay(k := number(0.3)), t=t, loss=lambda sol: (sol.u - data).square().sum(), **QUICK)
    assert k.item() == pytest.approx(1, abs=1e-4)
    k = number(0.3)
    result = fit(loss=lambda solve: (solve(decay(k), saveat=t).u - data).square().mean(), **QUICK)
    assert k.item() == pytest.approx(1, abs=1e-4)
    assert result.history.steps[0] > 0
    with pytest.raises(ps.UnsupportedError, match="no problem to solve"):
        _ = result.solution


def test_several_problems_with_times_of_their_own_and_batches():
    k = number(0.3)
    problems = [ps.ODEProblem(lambda t, u: -k * u, number([x], grad=False), (0.0, 2.0)) for x in (0.5, 2.0, 1.0)]
    times = [torch.linspace(0.2, 2, n, dtype=F64) for n in (3, 5, 4)]
    datas = [p.u0 * torch.exp(-t)[:, None] for p, t in zip(problems, times, strict=True)]
    result = fit(
        problems,
        datas,
        times,
        stages=(Stage("adam", 40, lr=0.1), "lbfgs"),
        epochs=(40, 10),
        batch_size=2,
        progress="off",
    )
    assert k.item() == pytest.approx(1, abs=1e-4)
    assert [len(sol) for sol in result.solution] == [3, 5, 4]
    assert len(result.t) == 3


def test_regularization_adds_to_the_loss_and_pulls():
    data, t = decay_data()
    free = fit(decay(k := number(0.3)), data, t, **QUICK)
    held = fit(
        decay(h := number(0.3)), data, t, regularization=lambda p: sum(x.square().sum() for x in p.values()), **QUICK
    )
    assert h.item() < k.item() - 0.1
    assert held.loss > free.loss
    assert held.history.loss[0] == pytest.approx(free.history.loss[0] + 0.09)


def test_an_eager_right_hand_side_is_fitted_too():
    result = fit(decay(k := number(0.3)), *decay_data(5), alg=ps.DP5(), stages=("lbfgs", 10), progress="off")
    assert k.item() == pytest.approx(1, abs=1e-3)
    assert result.history.nf[0] > 0


def test_float32_parameters_stay_float32():
    k = torch.tensor(0.3, requires_grad=True)
    prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(1), (0.0, 2.0))
    fit(prob, *decay_data(), **QUICK)
    assert k.dtype == torch.float32
    assert k.item() == pytest.approx(1, abs=1e-2)


def test_a_tiny_loss_is_fitted_as_well_as_a_large_one():
    scale = 1e-5  # so that the loss is 1e-10, where torch's own L-BFGS sees no curvature
    for factor in (scale, 1 / scale):
        k = number(0.3)
        prob = ps.ODEProblem(lambda t, u, k=k: -k * u, number([factor], grad=False), (0.0, 2.0))
        data, t = decay_data()
        fit(prob, factor * data, t, abstol=1e-10 * factor, **QUICK)
        assert k.item() == pytest.approx(1, abs=1e-4)


def test_unused_parameters_are_named():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.k = torch.nn.Parameter(number([0.3]))
            self.idle = torch.nn.Linear(1, 1).double()

        def forward(self, t, u):
            return -self.k * u + self.idle(u).detach() * 0

    model = Model()
    prob = ps.ODEProblem(model, torch.ones(1, dtype=F64), (0.0, 2.0))
    with pytest.warns(ps.PySciMLWarning, match=r"does not depend on them: idle\.weight, idle\.bias"):
        result = fit(prob, *decay_data(), stages=("adam", 1), progress="off")
    assert list(result.parameters) == ["k"]
    with pytest.raises(ps.InvalidInputError, match=r"does not depend on `idle\.weight`, `idle\.bias`"):
        fit(prob, *decay_data(), params=model, progress="off")


def test_the_result_says_how_it_went():
    result = fit(decay(number(0.3)), *decay_data(), val=0.25, **QUICK)
    assert "val_loss" in repr(result)
    assert "k = " in repr(result)
    assert result._repr_html_().startswith("<table>")
    assert result.held_out.tolist() == [False] * 7 + [True] * 2
    assert len(result.history) == result.epochs + 1
    assert {len(v) for v in result.history.as_dict().values()} == {len(result.history)}
    assert "loss" in repr(result.history)


def test_the_solution_is_that_of_the_best_values_whatever_became_of_the_tensors():
    data, t = decay_data()
    result = fit(decay(k := number(0.3)), data, t, val=0.25, **QUICK)
    with torch.no_grad():
        k.fill_(5.0)
    assert torch.allclose(result.solution.u, data, atol=1e-4)
    assert result.solution.u.shape == data.shape  # held-out times too
    assert k.item() == 5.0


def test_plot_goes_to_the_plot_module(monkeypatch):
    import sys
    import types

    drawn = types.ModuleType("pysciml.plot")
    drawn.plot_fit = lambda result, **options: (result, options)
    monkeypatch.setitem(sys.modules, "pysciml.plot", drawn)
    result = fit(decay(number(0.3)), *decay_data(), stages=("adam", 1), progress="off")
    assert result.plot(title="x") == (result, {"title": "x"})


def test_no_warning_and_no_output_on_the_way(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(decay(number(0.3)), *decay_data(), epochs=3)
    assert capsys.readouterr() == ("", "")
