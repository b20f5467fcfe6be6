from __future__ import annotations

import math
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

import pysciml as ps
from pysciml import plot
from pysciml.fit import History, fit


@pytest.fixture(autouse=True)
def figures():
    plt.close("all")  # what others left in this process
    before = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == before


def oscillator(u0=None):
    u0 = torch.tensor([1.0, 0.0], dtype=torch.float64) if u0 is None else u0
    return ps.solve(ps.ODEProblem(lambda t, u: torch.stack([u[1], -u[0]]), u0, (0.0, 3.0)), saveat=0.5)


@pytest.fixture(scope="module")
def fitted():
    k = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(1, dtype=torch.float64), (0.0, 2.0))
    t = torch.linspace(0, 2, 11, dtype=torch.float64)
    return fit(prob, torch.exp(-t)[:, None], t, epochs=(20, 5), val=0.3, progress="off")


def visible(ax):
    return [line for line in ax.lines if not line.get_label().startswith("_")]


def test_a_solution_is_a_line_and_dots_for_each_component():
    sol = oscillator()
    ax = sol.plot(names=("place", "speed"), xlabel="t (s)", points=100)
    assert len(ax.lines) == 4
    assert [line.get_label() for line in visible(ax)] == ["place", "speed"]
    x, y = ax.lines[0].get_data()
    assert len(x) == 100
    assert torch.allclose(torch.as_tensor(y), torch.cos(torch.as_tensor(x)), atol=1e-4)
    assert list(ax.lines[1].get_xdata()) == pytest.approx(sol.t.tolist())
    assert ax.get_xlabel() == "t (s)"
    assert len(plt.get_fignums()) == 1


def test_axes_that_are_given_are_drawn_on_and_nothing_else():
    ax = mpl.figure.Figure().subplots()
    assert plot.plot_solution(oscillator(), ax, components=(1,), markers=False) is ax
    assert len(ax.lines) == 1
    assert ax.lines[0].get_label() == "u[1]"
    assert plt.get_fignums() == []


def test_states_of_any_structure_and_gradients_are_drawn():
    u0 = {"x": torch.ones(2, dtype=torch.float64, requires_grad=True), "z": torch.ones((), dtype=torch.float64)}
    prob = ps.ODEProblem(lambda t, u: {"x": -u["x"], "z": -u["z"]}, u0, (0.0, 1.0))
    ax = plot.plot_solution(ps.solve(prob, saveat=0.5))
    assert [line.get_label() for line in visible(ax)] == ["u['x'][0]", "u['x'][1]", "u['z']"]


def test_a_large_state_shows_its_first_components_and_says_so():
    prob = ps.ODEProblem(lambda t, u: -u, torch.ones(4, 5, dtype=torch.float64), (0.0, 1.0))
    ax = plot.plot_solution(ps.solve(prob))
    assert len(visible(ax)) == 12
    assert "first 12 of 20" in ax.get_title()
    assert visible(ax)[-1].get_label() == "u[2, 1]"


def test_a_phase_portrait_is_a_curve_and_its_start():
    ax = plot.plot_phase(oscillator(), names=("place", "speed"))
    x, y = (torch.as_tensor(v) for v in ax.lines[0].get_data())
    assert torch.allclose(x**2 + y**2, torch.ones_like(x), atol=1e-4)
    assert (ax.lines[1].get_xdata()[0], ax.lines[1].get_ydata()[0]) == (1.0, 0.0)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("place", "speed")


def test_a_fit_shows_its_history_and_its_data(fitted):
    fig = fitted.plot(names=("u",), ylabel="grams")
    history, data = fig.axes
    assert history.get_yscale() == "log"
    assert [line.get_label() for line in visible(history)] == ["training", "validation"]
    assert len(history.lines[0].get_xdata()) == len(fitted.history)
    stages = [line for line in history.lines if line.get_label() == "_stage"]
    assert [line.get_xdata()[0] for line in stages] == [20.5]
    assert {text.get_text() for text in history.texts} == {"Adam", "LBFGS"}
    lines = {line.get_label(): line for line in data.lines}
    assert set(lines) == {"u", "_data", "_held out"}
    assert (len(lines["_data"].get_xdata()), len(lines["_held out"].get_xdata())) == (8, 3)
    assert data.get_ylabel() == "grams"


def test_a_fit_of_several_problems_names_each_component_once():
    k = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    t = torch.linspace(0, 2, 5, dtype=torch.float64)
    starts = [torch.full((1,), s, dtype=torch.float64) for s in (1.0, 2.0)]
    probs = [ps.ODEProblem(lambda t, u: -k * u, u0, (0.0, 2.0)) for u0 in starts]
    result = fit(probs, [u0 * torch.exp(-t)[:, None] for u0 in starts], t, epochs=(3, 2), progress="off")
    data = result.plot().axes[1]
    assert len(data.lines) == 4
    assert [line.get_label() for line in visible(data)] == ["u[0]"]


def test_a_fit_of_what_was_observed_shows_its_history_alone():
    k = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    t = torch.linspace(0, 2, 5, dtype=torch.float64)
    prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(2, dtype=torch.float64), (0.0, 2.0))
    result = fit(prob, 2 * torch.exp(-t), t, observe=lambda u: u.sum(1), epochs=(2, 1), progress="off")
    assert len(result.plot().axes) == 1


def test_a_law_is_one_row_a_term_with_its_interval_and_inclusion():
    t = torch.linspace(0, 9, 100, dtype=torch.float64)
    x = torch.stack([2 + torch.sin(t), 2 + torch.cos(1.7 * t)], dim=1)
    law = ps.discover(x, 0.5 * x.prod(1), names=("x", "y"), targets=("a",), bootstraps=10)
    ax = plot.plot_law(law)
    assert [text.get_text() for text in ax.get_yticklabels()] == [f"a:  {term}" for term in law.terms]
    values = [line.get_xdata()[0] for line in ax.lines if line.get_label() == "_value"]
    assert values == pytest.approx([0, 0, 0, 0, 0.5, 0], abs=1e-9)
    assert [text.get_text() for text in ax.texts if "%" in text.get_text()] == ["0%"] * 4 + ["100%", "0%"]
    scaled = plot.plot_law(law, states=x)
    size = float(x.prod(1).square().mean().sqrt())
    assert [line.get_xdata()[0] for line in scaled.lines if line.get_label() == "_value"][4] == pytest.approx(
        0.5 * size
    )


def test_a_symbolic_law_is_its_formulas_by_loss_and_complexity():
    from pysciml.discovery.symbolic_law import SymbolicLaw, front_of

    states = torch.rand(20, 1, dtype=torch.float64)
    rows = [{"complexity": 1, "loss": 0.5, "score": 0.0, "equation": "x0"},
            {"complexity": 3, "loss": 0.0, "score": 9.0, "equation": "x0 * 2.0"}]  # fmt: skip
    front = front_of(rows, ("x0",), {}, states, 2 * states[:, 0])
    ax = plot.plot_law(SymbolicLaw(("x",), ("dx",), (front,), (1,)))
    dots = next(line for line in ax.lines if line.get_label() == "_formulas")
    assert dots.get_xdata().tolist() == [1, 3]
    assert dots.get_ydata().tolist() == pytest.approx([0.5, 0.05])  # a loss of nothing has a place too
    chosen = next(line for line in ax.lines if line.get_label() == "dx = x * 2")
    assert chosen.get_xdata() == [3]
    assert ax.get_yscale() == "log"


@pytest.mark.parametrize("options", [{"components": (2,)}, {"names": ("one",)}, {"names": "xy"}])
def test_wrong_components_and_names_are_refused(options):
    with pytest.raises(ps.InvalidInputError):
        plot.plot_solution(oscillator(), **options)


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ps.MissingExtraError, match=r"pysciml\[plot\]"):
        oscillator().plot()


def test_a_loss_that_is_not_positive_is_drawn_on_a_plain_scale():
    history = History(stage=["", "Adam"], loss=[1.0, -1.0], val_loss=[math.nan] * 2)
    assert plot.plot_history(history).get_yscale() == "linear"


def many(val=None):
    t = torch.linspace(0, 2, 11, dtype=torch.float64)

    def make(seed):
        k = (0.5 + torch.rand((), dtype=torch.float64)).requires_grad_()
        prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(2, dtype=torch.float64), (0.0, 2.0))
        return {"prob": prob, "data": torch.exp(-t)[:, None].repeat(1, 2), "t": t, "val": val}

    return ps.fit_many(make, 4, epochs=(0, 1), progress="off")


def test_a_fan_has_bands_the_best_fit_and_the_data_with_what_was_held_out_shaded():
    fits = many(val=0.3)
    ax = plot.plot_fan(fits, components=(1,), names=("second",), points=50)
    assert len([x for x in ax.collections if x.get_label() == "_band"]) == 2
    (line,) = visible(ax)
    assert line.get_label() == "second"
    best = fits.predict(torch.linspace(0, 2, 50, dtype=torch.float64))[0, :, 1]
    assert line.get_ydata() == pytest.approx(best.numpy())
    dots = {line.get_label(): len(line.get_xdata()) for line in ax.lines if line.get_marker() == "o"}
    assert dots == {"_data": 8, "_held out": 3}
    assert [text.get_text() for text in ax.texts] == ["held out"]
    assert len(plot.plot_fan(many()).texts) == 0


def test_the_steps_are_those_of_the_solver():
    prob = ps.ODEProblem(lambda t, u: -u, torch.ones(1, dtype=torch.float64), (0.0, 3.0))
    sol = ps.solve(prob, ps.DP5(), save_everystep=True)
    ax = plot.plot_steps(sol)
    assert ax.lines[1].get_ydata() == pytest.approx(sol.t.diff().numpy())
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "log")
    with pytest.raises(ps.InvalidInputError, match="save_everystep=True"):
        plot.plot_steps(ps.solve(prob))


def test_a_term_is_dashed_where_no_state_was_visited():
    states = torch.stack([torch.linspace(1, 3, 20), torch.linspace(5, 6, 20)], dim=1).double()
    ax = plot.plot_term(lambda u: u[:, :1] * u[:, 1:], states, names=("x",), truth=lambda u: u[:, 0], ylabel="rate")
    (line,) = (x for x in ax.lines if x.get_label() == "learned")
    x, y = map(torch.as_tensor, line.get_data())
    assert 1 <= float(x.min()) < 1.02
    assert 2.98 < float(x.max()) <= 3
    torch.testing.assert_close(y, x * states[:, 1].median())
    assert len([x for x in ax.lines if x.get_label() == "_beyond"]) == 2
    assert len(next(x for x in ax.lines if x.get_label() == "_visited").get_xdata()) == 20
    colours = plot.plot_term(lambda u: u[:, 0], states, inputs=(0, 1))
    assert (colours.get_xlabel(), colours.get_ylabel()) == ("u[0]", "u[1]")
    assert len(colours.figure.axes) == 2
    for wrong in ((0, 1, 2), (2,)):
        with pytest.raises(ps.InvalidInputError, match="one state or two"):
            plot.plot_term(lambda u: u[:, 0], states, inputs=wrong)


def test_a_profile_shows_its_interval_and_limit():
    import numpy as np

    values = np.linspace(-2, 2, 9)
    profile = ps.Profile("k", 0.0, values, values**2 * 4, 0.95, -0.98, math.inf)
    ax = plot.plot_profile(profile)
    (limit,) = (x for x in ax.lines if x.get_label() == "_limit")
    assert limit.get_ydata()[0] == pytest.approx(3.8415, abs=1e-4)
    (interval,) = (x for x in ax.patches if x.get_label() == "_interval")
    assert interval.get_x() == pytest.approx(-0.98)
    assert interval.get_x() + interval.get_width() == pytest.approx(2.0)  # open: up to the last value
    assert ax.get_xlabel() == "k"
