"""Multiple shooting: what it finds that one long solve does not, and what its segments start from."""

import pytest
import torch
from fit_cases import F64, decay, decay_data, lotka_volterra_data, lotka_volterra_problem, number

import pysciml as ps
from pysciml.fit import MultipleShooting, Stage, fit
from pysciml.fit.shooting import cut
from pysciml.fit.trajectory import trajectories


def spring(w2: torch.Tensor) -> ps.ODEProblem:
    """x'' = -w2 x from (1, 0): 6 periods at w2 = 1.6**2."""
    return ps.ODEProblem(lambda t, u: torch.stack([u[1], -w2 * u[0]]), number([1.0, 0.0], grad=False), (0.0, 24.0))


def spring_data(count: int = 61) -> tuple[torch.Tensor, torch.Tensor]:
    t = torch.linspace(0, 24, count, dtype=F64)
    return torch.stack([torch.cos(1.6 * t), -1.6 * torch.sin(1.6 * t)], dim=1), t


def test_recovers_where_one_long_solve_ends_in_a_local_minimum():
    data, t = spring_data()
    stages = ("lbfgs", 40)
    fit(spring(long := number(1.0)), data, t, stages=stages, progress="off")
    assert abs(long.item() - 2.56) > 0.5
    short = number(1.0)
    result = fit(spring(short), data, t, stages=(stages, Stage("lbfgs", 20, shooting=False)),
                 shooting=MultipleShooting(segments=12), progress="off")  # fmt: skip
    assert short.item() == pytest.approx(2.56, abs=1e-3)
    assert torch.allclose(result.solution.u, data, atol=1e-2)
    assert list(result.parameters) == ["w2"]  # the segments' states are a means only


@pytest.mark.slow
def test_the_default_stages_end_straight_through():
    data, t = lotka_volterra_data()
    p = number([0.8, 0.5, 0.5, 1.5])
    result = fit(lotka_volterra_problem(p), data, t, shooting=MultipleShooting(8), epochs=(100, 60, 30), progress="off")
    assert torch.allclose(p, number([1.5, 1.0, 1.0, 3.0]), rtol=1e-3, atol=0)
    straight = (result.solution.u - data).square().mean().item()
    assert result.loss == pytest.approx(straight, rel=1e-6)  # no penalty left in it


def test_survives_a_start_that_cannot_be_solved_straight_through():
    t = torch.linspace(0.1, 1, 10, dtype=F64)
    data = (1 / (1 - 0.5 * t))[:, None]
    prob = lambda a: ps.ODEProblem(lambda t, u: a * u**2, torch.ones(1, dtype=F64), (0.0, 1.0))  # noqa: E731
    a = number(1.2)  # blows up at t = 0.83
    fit(prob(a), data, t, shooting=MultipleShooting(4), stages=("lbfgs", 40), progress="off")
    assert a.item() == pytest.approx(0.5, abs=1e-3)


def test_segments_share_times_and_start_from_the_data_with_gaps_filled():
    data, t = spring_data(13)
    data = data.clone()
    data[3], data[:, 1] = float("nan"), float("nan")
    (trajectory,) = trajectories(spring(number(1.0)), data, t, None, observed=False)
    segments = cut(trajectory, MultipleShooting(4), observed=False)
    assert [len(ts) for ts in segments.times] == [4, 3, 3, 3]  # the first has t0 too
    starts = torch.stack([state[0].detach() for state in segments.states])
    assert starts[0, 0].item() == pytest.approx((data[2, 0] + data[4, 0]).item() / 2)
    assert starts[1, 0].item() == data[6, 0].item()
    assert (starts[:, 1] == 0).all()  # never observed: as in u0


def test_initial_states_of_ones_own():
    data, t = spring_data(13)
    own = torch.arange(6, dtype=F64).reshape(3, 2)
    (trajectory,) = trajectories(spring(number(1.0)), data, t, None, observed=False)
    segments = cut(trajectory, MultipleShooting(4, initial=own), observed=False)
    assert [state[0].tolist() for state in segments.states] == own.tolist()
    with pytest.raises(
        ps.InvalidInputError, match=r"one row for each segment[\s\S]*Got \[\[2, 2\]\][\s\S]*\[\[3, 2\]\]"
    ):
        cut(trajectory, MultipleShooting(4, initial=own[:2]), observed=False)


def test_several_problems_dict_states_and_batches():
    k = number(0.4)
    f = lambda t, u: {"x": -k * u["x"]}  # noqa: E731
    problems = [ps.ODEProblem(f, {"x": number([x], grad=False)}, (0.0, 2.0)) for x in (1.0, 2.0)]
    data, t = decay_data()
    result = fit(problems, [{"x": data}, {"x": 2 * data}], t, shooting=MultipleShooting(3), batch_size=1,
                 stages=(Stage("adam", 10, lr=0.05), ("lbfgs", 30)), progress="off")  # fmt: skip
    assert k.item() == pytest.approx(1, abs=1e-3)
    assert len(result.solution) == 2


def test_validation_is_straight_through():
    data, t = decay_data()
    result = fit(decay(number(0.5)), data, t, shooting=MultipleShooting(3), val=0.3, stages=("adam", 1), progress="off")
    by_hand = (torch.exp(-0.5 * t[6:])[:, None] - data[6:]).square().mean().item()
    assert result.history.val_loss[0] == pytest.approx(by_hand, rel=1e-3)


def test_backwards_in_time():
    t = torch.linspace(2, 0, 9, dtype=F64)
    k = number(0.5)
    prob = ps.ODEProblem(lambda t, u: -k * u, torch.exp(number([-2.0], grad=False)), (2.0, 0.0))
    fit(prob, torch.exp(-t)[:, None], t, shooting=MultipleShooting(3), stages=("lbfgs", 30), progress="off")
    assert k.item() == pytest.approx(1, abs=1e-3)


def test_a_stage_that_cannot_begin_ends_the_fit_with_a_warning():
    data, t = spring_data(13)
    prob = lambda a: ps.ODEProblem(lambda t, u: a * u**2, torch.ones(1, dtype=F64), (0.0, 24.0))  # noqa: E731
    a = number(0.1)  # a good fit within segments only: straight through it blows up at t = 10
    with pytest.warns(ps.PySciMLWarning, match=r"stops before Stage\('LBFGS', 5, shooting=False\)"):
        result = fit(prob(a), 1 + data[:, :1].abs(), t, shooting=MultipleShooting(6, continuity=1e-6),
                     stages=(Stage("sgd", 1, lr=1e-9), Stage("lbfgs", 5, shooting=False)), progress="off")  # fmt: skip
    assert result.stopped == "solve failed"
    assert result.epochs == 1


@pytest.mark.parametrize(("options", "message"), [
    ({"segments": 1}, "two segments or more"),
    ({"segments": 2.0}, "two segments or more"),
    ({"continuity": 0.0}, "continuity must be positive"),
    ({"continuity": float("nan")}, "continuity must be positive"),
])  # fmt: skip
def test_bad_options(options, message):
    with pytest.raises(ps.InvalidInputError, match=message):
        MultipleShooting(**options)


def test_more_segments_than_times():
    with pytest.raises(ps.InvalidInputError, match=r"9 segments, 8 times[\s\S]*segments=3"):
        fit(decay(number(0.3)), *decay_data(), shooting=MultipleShooting(9), progress="off")
