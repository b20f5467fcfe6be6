"""What all tests share: one thread, fixed seeds, no reading of the user's own settings, and the Julia tier's rules."""

from __future__ import annotations

import json
import os
import random
import subprocess
import tempfile
from typing import Any

# Before anything imports matplotlib, in this process or in one it starts.
os.environ["MPLBACKEND"] = "Agg"

import hypothesis
import numpy as np
import pytest
import torch

from pysciml.config import OPTIONS, config
from pysciml.engines import select
from pysciml.engines.julia import environment
from pysciml.errors import PySciMLError
from pysciml.rhs import replay

# Examples are the same in every run, so that a red suite stays red; `--hypothesis-profile=explore` draws new ones.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("repeatable")

JULIA_KEY = pytest.StashKey["str | None"]()


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)  # the workers share the cores among themselves
    config.stash[JULIA_KEY] = julia_missing()
    leave_user_settings()


def julia_missing() -> str | None:
    """Why the Julia tier cannot run, or None when it can."""
    try:
        found = environment.find()
    except PySciMLError as error:
        return error.what
    return None if found else "no Julia environment is set up (python -m pysciml julia install, or julia use)"


def leave_user_settings() -> None:
    """Takes the user's settings out of the tests' way, but for those that say where Julia is."""
    for setting in config.table():
        if setting.option.name.startswith("julia_") and setting.value is not None:
            value = setting.value
            os.environ[setting.option.env] = ("yes" if value else "no") if isinstance(value, bool) else str(value)
    for name in ("progress", "memory_limit"):
        os.environ.pop(OPTIONS[name].env, None)
    # With Julia or without: a test that names no engine means this one. In the environment, so that subprocesses and
    # fixtures of every scope have it too.
    os.environ[OPTIONS["engine"].env] = "embedded"
    os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="pysciml-tests-")
    config.reload()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Compiles Julia's packages before workers, whose tests have a time limit, wait for each other to do it."""
    config = session.config
    spreads = getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput")
    if not spreads or config.stash[JULIA_KEY] or "not julia" in config.option.markexpr:
        return
    found, folder = environment.required(), str(environment.package_folder())
    code = f"push!(LOAD_PATH, {json.dumps(folder)}); using PySciML, DelayDiffEq, SciMLSensitivity"
    subprocess.run([found.exe, f"--project={found.project}", "--startup-file=no", "-e", code], check=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    missing = item.config.stash[JULIA_KEY]
    if missing and item.get_closest_marker("julia"):
        (pytest.fail if config.require_julia else pytest.skip)(f"needs Julia: {missing}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    missing = config.stash[JULIA_KEY]
    if missing:
        kind = "FAILED (PYSCIML_REQUIRE_JULIA is set)" if julia_required() else "SKIPPED"
        terminalreporter.write_sep("!", f"JULIA TIER {kind}: {missing}", bold=True, yellow=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.stash[JULIA_KEY] and julia_required() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def julia_required() -> bool:
    return config.require_julia


@pytest.fixture(autouse=True)
def seeds() -> None:
    """The same random numbers in every test, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - some libraries draw from the global state
    torch.manual_seed(0)


@pytest.fixture
def no_julia(monkeypatch):
    """A machine where no Julia is set up for pysciml, and none runs in this process."""
    select._julia.cache_clear()  # an engine found by an earlier test
    monkeypatch.setenv("PYTHON_JULIAPKG_PROJECT", "/nowhere")
    with config.override(julia_exe=None, julia_project=None):
        yield


@pytest.fixture
def float64():
    """Double precision as torch's default, for tests against finite differences."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch.float64
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def what_reads_tell_is_true(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever f is told by what it reads, it is run as well: no test may find it another program."""
    told = replay.reads_the_same

    def checked(f: Any, recording: replay.Recording) -> bool:
        same = told(f, recording)
        assert not same or replay.runs_the_same(recording.program.of(f), recording), "f does something else, unseen"
        return same

    monkeypatch.setattr(replay, "reads_the_same", checked)
