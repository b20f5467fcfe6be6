"""The command line: what each command prints, what it writes, and its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import pytest

from pysciml import __main__ as cli
from pysciml._version import __version__
from pysciml.config import Config
from pysciml.config import config as options
from pysciml.errors import PySciMLError


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch, tmp_path):
    """A machine whose user has set nothing, with an empty PATH."""
    for name in [n for n in os.environ if n.startswith(("PYSCIML_", "PYTHON_JULIACALL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setenv("PYTHON_JULIAPKG_PROJECT", str(tmp_path / "juliapkg"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    options.reload()
    yield
    options.reload()


@pytest.fixture
def julia(tmp_path):
    """Something that can be executed, and a project beside it."""
    exe = tmp_path / "bin" / "julia"
    exe.parent.mkdir()
    exe.write_text("#!/bin/sh\nexit 1\n")
    exe.chmod(0o755)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "Project.toml").write_text("")
    return exe, tmp_path / "project"


def run(*arguments: str) -> int:
    return cli.main(list(arguments))


def test_it_runs_as_a_module_and_prints_versions():
    done = subprocess.run([sys.executable, "-m", "pysciml", "versions"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["pysciml"] == __version__
    assert lines["python"] == sys.version.split()[0]
    assert lines["julia"] == "not found"
    assert set(cli.PACKAGES) < set(lines)


def test_versions_says_which_julia_and_what_is_not_installed(capsys, monkeypatch, julia):
    monkeypatch.setattr(cli, "PACKAGES", ("no-such-package",))
    assert run("versions") == 0
    out = capsys.readouterr().out
    assert f"{julia[0]} (on PATH, not configured)" in out
    assert "not installed" in out


@pytest.mark.parametrize(
    "arguments", [(), ("nonsense",), ("julia",), ("julia", "use", "--exe", "x"), ("demo", "--epochs", "0")]
)
def test_a_wrong_command_line_prints_the_usage_and_returns_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 2
    assert "usage: pysciml" in capsys.readouterr().err


def test_version_and_help(capsys):
    for flag, text in (("--version", f"pysciml {__version__}"), ("--help", "doctor")):
        with pytest.raises(SystemExit) as caught:
            run(flag)
        assert caught.value.code == 0
        assert text in capsys.readouterr().out


def test_doctor_solves_a_problem_and_is_truthful_about_julia(capsys):
    assert run("doctor") == 0
    out = capsys.readouterr().out
    assert "ok    embedded engine: solved a test problem with CVODE_BDF" in out
    assert "--    julia: not set up for pysciml; the embedded engine solves" in out
    assert "fix: python -m pysciml julia install" in out
    assert "FAIL" not in out
    assert "pysciml works on this machine." in out


def test_doctor_finds_what_is_wrong_and_says_what_to_type(capsys, monkeypatch):
    monkeypatch.setenv("PYSCIML_ENGIN", "embedded")
    monkeypatch.setenv("PYSCIML_PROGRESS", "of")
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", "gone/julia")
    monkeypatch.setenv("PYTHON_JULIACALL_PROJECT", "gone/project")
    assert run("doctor") == 1
    out = capsys.readouterr().out
    assert "FAIL  environment: pysciml does not read PYSCIML_ENGIN\n      fix: did you mean PYSCIML_ENGINE?" in out
    assert "fix: export PYSCIML_PROGRESS=off" in out
    assert "FAIL  julia exe: gone/julia is not there (from env PYTHON_JULIACALL_EXE)" in out
    assert "FAIL  julia project: gone/project is not there" in out
    assert "see the lines marked FAIL" in out


def test_doctor_reports_any_failure_of_the_engine_and_goes_on(capsys, monkeypatch):
    def broken():
        yield cli.Finding("first", True, "fine")
        raise OSError("libcasadi.so: cannot open shared object file")

    monkeypatch.setattr(cli, "_check_embedded", broken)
    assert run("doctor") == 1
    out = capsys.readouterr().out
    assert "OSError: libcasadi.so: cannot open shared object file" in out
    assert "julia: not set up for pysciml" in out


def test_doctor_names_the_extra_that_is_missing(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    findings = list(cli._check_packages())
    assert [f.fine for f in findings] == [None, None]
    assert findings[0].fix == 'pip install "pysciml[plot]"'


def test_julia_use_writes_what_the_next_process_reads(capsys, julia):
    exe, project = julia
    assert run("julia", "use", "--exe", str(exe), "--project", str(project)) == 0
    assert Config().julia_environment() == options.julia_environment() == (str(exe), str(project))
    assert str(options.path) in capsys.readouterr().out
    assert run("versions") == 0
    assert f"{exe} (project {project}, from file {options.path})" in capsys.readouterr().out


def test_julia_use_finds_a_bare_name_on_path_and_makes_paths_absolute(julia, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run("julia", "use", "--exe", "julia", "--project", "project") == 0
    assert options.julia_environment() == (str(julia[0]), str(julia[1]))


def test_julia_use_refuses_what_cannot_work_and_writes_nothing(capsys, julia, tmp_path):
    exe, project = julia
    text = tmp_path / "notes.txt"
    text.write_text("not a program")
    for arguments, message in (
        ((tmp_path / "nowhere", project), "which is not there"),
        ((text, project), "which is not an executable file"),
        ((exe, tmp_path), "has no Project.toml"),
    ):
        assert run("julia", "use", "--exe", str(arguments[0]), "--project", str(arguments[1])) == 1
        err = capsys.readouterr().err
        assert message in err
        assert err.startswith("InvalidInputError: ")
    assert not options.path.exists()


@pytest.fixture
def demo(monkeypatch):
    """In place of the demo: something that notes how it was called, and raises what it is told to."""
    calls, module = [], types.ModuleType("pysciml.demo")
    module.error = None

    def main(**given):
        calls.append(given)
        if module.error is not None:
            raise module.error

    module.main, module.calls = main, calls
    monkeypatch.setitem(sys.modules, "pysciml.demo", module)
    return module


def test_demo_passes_on_what_was_given_and_no_more(demo):
    assert run("demo") == 0
    assert run("demo", "--output", "a.png", "--epochs", "3", "--quiet") == 0
    assert demo.calls == [{}, {"output": "a.png", "epochs": 3, "quiet": True}]


def test_errors_are_printed_as_their_text_without_a_traceback(demo, capsys):
    demo.error = PySciMLError("It does not fit.", fix="make it smaller")
    assert run("demo") == 1
    assert capsys.readouterr().err == "PySciMLError: It does not fit.\nFix: make it smaller\n"
    demo.error = KeyboardInterrupt()
    assert run("demo") == 130
    assert capsys.readouterr().err == "interrupted\n"
    demo.error = ZeroDivisionError()  # a bug of ours keeps its traceback
    with pytest.raises(ZeroDivisionError):
        run("demo")


@pytest.mark.skipif(os.name == "nt", reason="pipes break otherwise there")
def test_a_reader_that_stops_early_is_no_error_of_ours():
    command = [sys.executable, "-u", "-m", "pysciml", "versions"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait(timeout=120) == 1
