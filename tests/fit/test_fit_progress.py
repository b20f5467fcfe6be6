"""What is seen on the way: bars in terminals, lines in files, nothing by default elsewhere."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fit_cases import decay, decay_data, number

import pysciml as ps
from pysciml.fit import fit
from pysciml.fit.history import History
from pysciml.fit.progress import Bar, Lines, Silence, describe, progress

CODE = """
import sys; sys.path.insert(0, sys.argv[1])
from fit_cases import decay, decay_data, number
from pysciml.fit import fit
fit(decay(number(0.3)), *decay_data(), val=0.2, epochs=(20, 3))
"""


def test_lines_when_there_is_no_terminal(capsys):
    fit(decay(number(0.3)), *decay_data(), val=0.2, epochs=(4, 3), progress="on")
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"fit: Adam 0/7 loss \S+e[-+]\d+ val \S+ steps \d+ rejected \d+ failed 0", lines[0])
    assert lines[1].startswith("fit: LBFGS 5/7")
    assert lines[-1].startswith("fit: LBFGS 7/7")


def test_the_option_decides_unless_the_call_does(capsys):
    with ps.config.override(progress="on"):
        fit(decay(number(0.3)), *decay_data(), epochs=1)
        assert "failed 0" in capsys.readouterr().err
        fit(decay(number(0.3)), *decay_data(), epochs=1, progress=False)
    fit(decay(number(0.3)), *decay_data(), epochs=1)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [160, 0])  # some containers' terminals have no size
def test_a_bar_in_a_terminal(columns):
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", columns // 4, columns, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", CODE, str(Path(__file__).parent)], stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait() == 0
    text = shown.decode()
    last = re.split(r"[\r\n]+", text.strip())[-1]
    assert re.search(r"LBFGS 23/23 .*loss \S+ val \S+ steps \d+ rejected \d+ failed 0", last), text


def test_notebooks_get_a_bar(monkeypatch):
    import types

    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert type(progress("auto")) is Bar


def test_ways(monkeypatch):
    assert [type(progress(way)) for way in ("auto", "on", True, "off", False)] == [
        Silence,
        Lines,
        Lines,
        Silence,
        Silence,
    ]
    monkeypatch.setattr(sys, "stderr", types_tty := io.StringIO())
    types_tty.isatty = lambda: True
    assert [type(progress(way)) for way in ("auto", "on", "off")] == [Bar, Bar, Silence]


def test_a_solver_that_counts_no_steps_shows_calls_of_f():
    history = History()
    nan = float("nan")
    history.append(
        stage="Adam",
        loss=1.0,
        val_loss=nan,
        lr=0.1,
        grad_norm=1.0,
        steps=nan,
        rejected=nan,
        nf=42.0,
        failures=2,
        time=0.1,
    )
    assert describe(history, 2) == "loss 1.00e+00 f calls 42 failed 2"


def test_a_way_that_is_none():
    with pytest.raises(ps.InvalidInputError, match="progress must be auto, on or off"):
        fit(decay(number(0.3)), *decay_data(), progress="loud")
