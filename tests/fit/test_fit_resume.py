"""Killed by the system, interrupted by Ctrl-C, resumed: to the same trajectory, bit for bit."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from fit_cases import CASES, decay, decay_data, histories_agree, number, resumable

import pysciml as ps
from pysciml.fit import Stage, fit

HERE = Path(__file__).parent


def child(code: str, *arguments: object, **options) -> subprocess.Popen:
    script = "import os, sys; sys.path.insert(0, sys.argv[1])\n" + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", script, str(HERE), *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, **options)  # fmt: skip


KILLED = """
    import signal
    from fit_cases import resumable

    def kill(history):
        if len(history) == 11:  # epoch 10: two after the last checkpoint
            os.kill(os.getpid(), signal.SIGKILL)

    for case in sys.argv[3:]:
        if os.fork() == 0:  # one import of torch for all of them; each is killed in its own process
            resumable(case, checkpoint=f"{sys.argv[2]}/{case}.pt", callback=kill)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A folder with the checkpoints of one killed fit a case."""
    folder = tmp_path_factory.mktemp("killed")
    process = child(KILLED, folder, *CASES)
    out, error = process.communicate(timeout=120)
    assert out.split() == [str(-signal.SIGKILL)] * len(CASES), error
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("case", CASES)
def test_resumes_to_the_same_trajectory_after_a_kill(case, killed):
    whole, p = resumable(case)
    assert whole.epochs == 15
    saved = torch.load(killed / f"{case}.pt", weights_only=True)
    assert len(saved["history"]["loss"]) == 9  # 8 epochs, and in lbfgs's case in its second stage
    resumed, q = resumable(case, checkpoint=killed / f"{case}.pt", resume=True)
    assert histories_agree(whole.history, resumed.history)
    assert torch.equal(p, q)
    assert (whole.loss, whole.epoch, whole.failures) == (resumed.loss, resumed.epoch, resumed.failures)


def test_a_finished_fit_resumes_to_itself_and_to_more_epochs(tmp_path):
    data, t = decay_data()
    options = {"checkpoint": tmp_path / "fit.pt", "progress": "off"}
    whole = fit(decay(number(0.3)), data, t, stages=("adam", 9), progress="off")
    fit(decay(number(0.3)), data, t, stages=("adam", 5), **options)
    again = fit(decay(k := number(0.3)), data, t, stages=("adam", 5), resume=True, **options)
    assert again.epochs == 5
    assert k.item() == again.values[0].item() != 0.3
    more = fit(decay(number(0.3)), data, t, stages=("adam", 9), resume=True, **options)
    assert histories_agree(whole.history, more.history)


def test_resumes_between_stages_and_after_a_failed_attempt(tmp_path):
    data, t = decay_data()
    stages = (Stage("adam", 4, lr=0.1), Stage("lbfgs", 6))

    def stop(history):
        return len(history) == 5  # the first stage's last epoch

    whole = fit(decay(number(0.3)), data, t, stages=stages, progress="off")
    fit(decay(number(0.3)), data, t, stages=stages, progress="off", checkpoint=tmp_path / "fit.pt", callback=stop)
    resumed = fit(
        decay(number(0.3)), data, t, stages=stages, progress="off", checkpoint=tmp_path / "fit.pt", resume=True
    )
    assert histories_agree(whole.history, resumed.history)


def test_an_error_leaves_a_checkpoint_to_go_on_from(tmp_path):
    data, t = decay_data()
    broken = [True]

    def loss(predicted, observed):
        if broken and not broken[0]:
            raise ZeroDivisionError
        return (predicted - observed).square().mean()

    def callback(history):
        broken[:] = [len(history) != 4] if broken else []

    options = {"loss": loss, "stages": ("adam", 8), "checkpoint": tmp_path / "fit.pt", "progress": "off"}
    with pytest.raises(ZeroDivisionError):
        fit(decay(number(0.3)), data, t, callback=callback, **options)
    broken.clear()
    resumed = fit(decay(number(0.3)), data, t, resume=True, **options)
    whole = fit(decay(number(0.3)), data, t, **options | {"checkpoint": None})
    assert histories_agree(whole.history, resumed.history)


INTERRUPTED = """
    import signal
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without it
    from fit_cases import lotka_volterra_data, lotka_volterra_problem, number
    from pysciml.fit import fit

    data, t = lotka_volterra_data()
    for round in range(3):
        p = number([1.2, 0.8, 0.8, 2.5])
        result = fit(lotka_volterra_problem(p), data, t, stages=("adam", 100_000), progress="off",
                     callback=lambda history: print("running", flush=True) if len(history) == 4 else None)
        best = min(result.history.loss)
        print(result.stopped, result.loss == best, p.tolist() == result.values[0].tolist(), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_ends_the_fit_with_the_best_so_far():
    process = child(INTERRUPTED)
    try:
        for _ in range(3):
            assert process.stdout.readline() == "running\n", process.stderr.read()
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted True True\n", process.stderr.read()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


def test_an_existing_file_is_not_overwritten_unasked(tmp_path):
    data, t = decay_data()
    options = {"stages": ("adam", 2), "checkpoint": tmp_path / "fit.pt", "progress": "off"}
    fit(decay(number(0.3)), data, t, **options)
    before = (tmp_path / "fit.pt").read_bytes()
    with pytest.raises(ps.InvalidInputError, match=r"exists already[\s\S]*resume=True[\s\S]*resume=False"):
        fit(decay(number(0.3)), data, t, **options)
    assert (tmp_path / "fit.pt").read_bytes() == before
    assert fit(decay(number(0.3)), data, t, resume=False, **options).epochs == 2
    assert [f.name for f in tmp_path.iterdir()] == ["fit.pt"]


@pytest.mark.parametrize(("change", "what"), [
    ({"stages": ("sgd", 3)}, "the stages differs"),
    ({"stages": Stage("adam", 3, lr=0.5)}, "the stages differs"),
    ({"clip": 1.0}, "the settings differs"),
    ({"reltol": 1e-9}, "the solver differs"),
    ({"val": 0.5}, "the data differs"),
])  # fmt: skip
def test_another_fits_checkpoint_is_refused(change, what, tmp_path):
    data, t = decay_data()
    options = {"stages": ("adam", 3), "checkpoint": tmp_path / "fit.pt", "progress": "off"}
    fit(decay(number(0.3)), data, t, **options)
    with pytest.raises(ps.InvalidInputError, match=what):
        fit(decay(number(0.3)), data, t, resume=True, **options | change)
    with pytest.raises(ps.InvalidInputError, match="the data differs"):
        fit(decay(number(0.3)), data + 1, t, resume=True, **options)


def test_a_broken_file_is_refused(tmp_path):
    data, t = decay_data()
    for content in (b"", b"not a checkpoint", None):
        if content is None:
            torch.save([1, 2], tmp_path / "fit.pt")
        else:
            (tmp_path / "fit.pt").write_bytes(content)
        with pytest.raises(
            ps.InvalidInputError, match=r"(cannot be read|not one that this version)[\s\S]*resume=False"
        ):
            fit(decay(number(0.3)), data, t, checkpoint=tmp_path / "fit.pt", resume=True, progress="off")
    assert (tmp_path / "fit.pt").exists()
