"""Stages, early stopping, clipping, callbacks, the best kept."""

import math

import pytest
import torch
from fit_cases import decay, decay_data, number

import pysciml as ps
from pysciml.fit import Stage, fit


def noisy_data():
    data, t = decay_data(17)
    return data + 0.1 * torch.sin(40 * t)[:, None], t


def test_early_stopping_ends_the_stage_and_keeps_the_best():
    k = number(2.0)
    result = fit(decay(k), *noisy_data(), val=0.3, stages=Stage("sgd", 500, lr=2.0), patience=5, progress="off")
    assert result.stopped == "early stopping"
    assert result.epochs < 500
    assert result.epochs - result.epoch == 5
    assert result.val_loss == min(result.history.val_loss)
    assert k.item() == result.values[0].item()


def test_early_stopping_without_validation_watches_the_loss():
    data, t = decay_data()
    result = fit(
        decay(number(0.3)), data, t, stages=Stage("sgd", 500, lr=0.5), patience=3, min_delta=1e-3, progress="off"
    )
    assert result.stopped == "early stopping"
    assert max(a - b for a, b in zip(result.history.loss[-5:], result.history.loss[-4:], strict=False)) < 1e-3


def test_the_next_stage_follows_an_early_stop_from_the_best():
    stages = (Stage("adam", 300, lr=0.5), Stage("sgd", 4, lr=1e-3))
    result = fit(decay(number(2.0)), *noisy_data(), stages=stages, patience=4, progress="off")
    first = [x for x, name in zip(result.history.loss, result.history.stage, strict=True) if name == "Adam"]
    assert len(first) < 300
    assert result.history.stage[-4:] == ["SGD"] * 4
    assert result.history.loss[-4] == pytest.approx(min(first), rel=1e-3)  # not from where Adam ended


def test_validation_splits():
    data, t = decay_data()
    whole = {"stages": ("adam", 1), "progress": "off"}
    fraction = fit(decay(number(0.3)), data, t, val=0.25, **whole)
    index = fit(decay(number(0.3)), data, t, val=[7, 8], **whole)
    mask = fit(decay(number(0.3)), data, t, val=torch.arange(9) > 6, **whole)
    last = fit(decay(number(0.3)), data, t, val=[-1, -2], **whole)
    k = number(0.3)
    own = fit(decay(k), data[:7], t[:7], val=(decay(k), data[7:], t[7:]), **whole)
    function = fit(decay(number(0.3)), data[:7], t[:7], val=lambda sol: (sol(t[7:8] * 0) - 1).square().mean(), **whole)
    values = [r.val_loss for r in (index, mask, last, own)]
    assert values == pytest.approx([fraction.val_loss] * 4, rel=1e-4)
    assert function.val_loss == pytest.approx(0, abs=1e-12)
    by_hand = (torch.exp(-0.3 * t[7:])[:, None] - data[7:]).square().mean().item()
    assert fraction.history.val_loss[0] == pytest.approx(by_hand, rel=1e-3)


def test_held_out_times_in_the_middle():
    result = fit(decay(k := number(0.3)), *decay_data(), val=[3, 4], stages=("lbfgs", 20), progress="off")
    assert k.item() == pytest.approx(1, abs=1e-4)
    assert result.held_out.nonzero().flatten().tolist() == [3, 4]


def test_clipping_bounds_the_step_and_history_keeps_the_true_norm():
    k = number(0.3)
    data, t = decay_data()
    result = fit(decay(k), 100 * data, t, clip=0.01, stages=Stage("sgd", 1, lr=1.0), progress="off")
    assert result.history.grad_norm[0] > 10
    assert abs(result.values[0].item() - 0.3) == pytest.approx(0.01)


def test_history_counts_the_solver():
    history = fit(decay(number(0.3)), *decay_data(), stages=("adam", 3), progress="off").history
    assert all(n > 0 for n in history.steps + history.nf)
    assert all(n >= 0 for n in history.rejected)
    assert all(x > 0 for x in history.time)
    assert history.lr == [0.0, 0.01, 0.01, 0.01]
    assert all(math.isnan(x) for x in history.val_loss)


@pytest.mark.parametrize("optimizer", [
    "AdamW", "rmsprop", torch.optim.NAdam, lambda tensors: torch.optim.SGD(tensors, lr=0.5, momentum=0.9),
])  # fmt: skip
def test_any_optimizer_of_torch(optimizer):
    options = {} if callable(optimizer) and not isinstance(optimizer, type) else {"lr": 0.05}
    result = fit(decay(k := number(0.3)), *decay_data(), stages=Stage(optimizer, 80, **options), progress="off")
    assert k.item() == pytest.approx(1, abs=0.05)
    assert result.stopped == "epochs"


def test_an_optimizer_already_made():
    k = number(0.3)
    fit(decay(k), *decay_data(), stages=Stage(torch.optim.Adam([k], lr=0.05), 80), progress="off")
    assert k.item() == pytest.approx(1, abs=0.05)


def test_schedulers_step_each_epoch():
    decaying = Stage("sgd", 3, lr=1.0, scheduler=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5))
    assert fit(decay(number(0.3)), *decay_data(), stages=decaying, progress="off").history.lr == [0, 1.0, 0.5, 0.25]
    plateau = Stage("sgd", 6, lr=1e-5, scheduler=lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=1))
    assert fit(decay(number(0.3)), *decay_data(), stages=plateau, progress="off").history.lr[-1] < 1e-5


def test_lbfgs_ends_when_it_has_converged():
    result = fit(decay(number(0.3)), *decay_data(), stages=("lbfgs", 500), progress="off")
    assert result.stopped == "converged"
    assert result.epochs < 60


def test_a_callback_sees_every_epoch_and_can_end_the_fit():
    seen = []
    result = fit(decay(number(0.3)), *decay_data(), stages=("adam", 50), progress="off",
                 callback=lambda history: seen.append(len(history)) or len(history) == 4)  # fmt: skip
    assert (seen, result.stopped, result.epochs) == ([2, 3, 4], "callback", 3)


def test_no_epochs_give_the_start():
    result = fit(decay(k := number(0.3)), *decay_data(), epochs=0, progress="off")
    assert (result.epochs, result.epoch, result.stopped, k.item()) == (0, 0, "epochs", 0.3)
    assert result.loss > 0


def test_fits_in_a_row_are_the_same_to_the_bit():
    runs = [fit(decay(number(0.3)), *decay_data(), epochs=(5, 5), progress="off").history for _ in range(2)]
    assert runs[0].loss == runs[1].loss


def test_stage_says_what_it_is():
    assert repr(Stage("adam", 5, lr=0.1)) == "Stage('Adam', 5, lr=0.1)"
    assert repr(Stage("l-bfgs", 5, shooting=False)) == "Stage('LBFGS', 5, shooting=False)"


def test_fit_is_in_no_hurry_to_import():
    import subprocess
    import sys

    code = (
        "import sys, torch; before = set(sys.modules)\n"  # torch brings tqdm itself where it is installed
        "import pysciml.fit; print({m.split('.')[0] for m in set(sys.modules) - before} & set(sys.argv[1:]))"
    )
    heavy = ["tqdm", "matplotlib", "casadi", "pandas", "torchdiffeq", "IPython"]
    out = subprocess.run([sys.executable, "-c", code, *heavy], check=True, capture_output=True, text=True).stdout
    assert out == "set()\n"


def test_ps_errors_are_the_public_ones():
    from pysciml.fit import FitError

    assert issubclass(FitError, ps.PySciMLError)
