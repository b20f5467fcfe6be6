"""The doctor on machines that are broken in the ways users break them: what it says, and the line it gives."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from processes import environment

from pysciml.config import config

pytestmark = [pytest.mark.julia, pytest.mark.skipif(sys.platform == "win32", reason="lines are for a POSIX shell")]

EXE, PROJECT = "PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT"


@pytest.fixture
def nothing_set(tmp_path):
    return {EXE: None, PROJECT: None, "XDG_CONFIG_HOME": str(tmp_path), "PYTHON_JULIAPKG_PROJECT": str(tmp_path)}


def doctor(*, before: str = "", **variables: str | None) -> tuple[int, str]:
    """Its exit status and words; `before` is a line that was typed in the same shell."""
    run = f"{before}\n{sys.executable} -m pysciml doctor"
    done = subprocess.run(
        ["/bin/sh", "-c", run], capture_output=True, text=True, timeout=280, env=environment(**variables)
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def fixes(said: str) -> list[str]:
    return re.findall(r"^      (?:fix|or): (.+)$", said, re.MULTILINE)


def project_without(folder: Path, *names: str) -> Path:
    """The configured project with some packages taken out."""
    _, source = config.julia_environment()
    folder.mkdir()
    text = (Path(source) / "Project.toml").read_text("utf-8")
    (folder / "Project.toml").write_text("\n".join(x for x in text.splitlines() if x.split(" ")[0] not in names))
    manifest = (Path(source) / "Manifest.toml").read_text("utf-8")
    for name in names:
        manifest = re.sub(rf"\[\[deps\.{name}\]\].*?(?=\n\[\[deps|\Z)", "", manifest, flags=re.DOTALL)
    (folder / "Manifest.toml").write_text(manifest)
    return folder


@pytest.mark.parametrize("name", ["SciMLSensitivity", "OrdinaryDiffEqTsit5", "PythonCall"])
def test_a_project_that_lacks_a_package(tmp_path, name):
    status, said = doctor(**{PROJECT: str(project_without(tmp_path / "my project", name))})
    assert status == 1
    assert f"FAIL  julia packages: the project lacks {name}" in said
    (line,) = fixes(said)
    assert f'Pkg.add([Pkg.PackageSpec(; x...) for x in [(name="{name}",' in line
    offline = environment(JULIA_PKG_SERVER="http://localhost:1", JULIA_PKG_OFFLINE="true")
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, timeout=240, env=offline)
    assert done.returncode == 0 or "ERROR: " in done.stderr
    assert "syntax" not in done.stderr.lower()


def test_half_a_pair_in_the_environment(nothing_set):
    exe, _ = config.julia_environment()
    halved = {**nothing_set, EXE: exe}
    status, said = doctor(**halved)
    assert status == 1
    assert "`julia_exe` and `julia_project` go together" in said
    assert fixes(said) == [f"unset {EXE}"]
    status, said = doctor(before=fixes(said)[0], **halved)
    assert status == 0, said


def test_a_pair_that_is_gone_from_the_environment_and_from_the_config_file(nothing_set, tmp_path):
    gone = {**nothing_set, EXE: str(tmp_path / "julia"), PROJECT: str(tmp_path / "none")}
    status, said = doctor(**gone)
    assert status == 1
    assert "FAIL  julia exe" in said
    assert "FAIL  julia project" in said
    assert fixes(said)[:2] == [f"export {EXE}=/path/to/bin/julia {PROJECT}=/path/to/project", f"unset {EXE} {PROJECT}"]
    assert doctor(before=fixes(said)[1], **gone)[0] == 0  # the embedded engine is there
    exe, project = config.julia_environment()
    right = fixes(said)[0].replace("/path/to/bin/julia", exe).replace("/path/to/project", project)
    assert doctor(before=right, **gone)[0] == 0

    (tmp_path / "pysciml").mkdir()
    file = tmp_path / "pysciml" / "config.toml"
    file.write_text(f'julia_exe = "{tmp_path}/julia"\njulia_project = "{tmp_path}/none"\n')
    status, said = doctor(**nothing_set)
    assert status == 1
    assert f"(from file {file})" in said
    line = fixes(said)[0].replace("/path/to/bin/julia", exe).replace("/path/to/project", project)
    status, said = doctor(before=line.replace("python", sys.executable, 1), **nothing_set)
    assert status == 0, said


def test_a_config_file_that_is_no_toml(nothing_set, tmp_path):
    (tmp_path / "pysciml").mkdir()
    (tmp_path / "pysciml" / "config.toml").write_text("julia_exe = [broken")
    status, said = doctor(**nothing_set)
    assert status == 1
    assert "is not TOML" in said
    assert "line 1" in said
    assert "correct that line, or delete the file" in said


def test_a_manifest_that_cannot_be_read(tmp_path):
    project = project_without(tmp_path / "project")
    (project / "Manifest.toml").write_text("[[deps")
    status, said = doctor(**{PROJECT: str(project)})
    assert status == 1
    assert "Julia's manifest cannot be read" in said
    (line,) = fixes(said)
    done = subprocess.run(["/bin/sh", "-c", line.partition(" && ")[0]], timeout=60)
    assert done.returncode == 0
    assert (project / "Manifest.toml.broken").is_file()


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [("INIT", "no", "keeps Julia from starting"), ("SYSIMAGE", "/nowhere/image.so", "is not there"),
     ("HANDLE_SIGNALS", "maybe", "is not a value of the option")],
)  # fmt: skip
def test_options_of_juliacall_that_contradict(variable, value, words):
    name = f"PYTHON_JULIACALL_{variable}"
    status, said = doctor(**{name: value})
    assert status == 1
    assert words in said
    assert fixes(said)[0] in (f"unset {name}", f"export {name}=yes")


def test_a_julia_that_is_too_old(tmp_path):
    old = tmp_path / "julia"
    old.write_text("#!/bin/sh\necho julia version 1.6.7\n")
    old.chmod(0o755)
    status, said = doctor(**{EXE: str(old)})
    assert status == 1
    assert "is julia version 1.6.7; the engine needs 1.10 or newer" in said


WITHOUT_JULIACALL = """
import sys
from importlib import metadata
import pysciml.engines.julia.environment as environment

found = metadata.version
def version(name):
    if name == "juliacall":
        raise metadata.PackageNotFoundError(name)
    return found(name)
metadata.version = version
sys.modules["juliacall"] = None
from pysciml.__main__ import main
sys.exit(main(["doctor"]))
"""

CRASH = """
import sys
from pysciml.engines.julia import doctor
doctor._PROBE = "\\nimport os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
from pysciml.__main__ import main
sys.exit(main(["doctor"]))
"""


def test_juliacall_that_is_not_installed():
    command = [sys.executable, "-c", WITHOUT_JULIACALL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment())
    assert done.returncode == 1
    assert "FAIL  bridge: juliacall is not installed" in done.stdout
    assert fixes(done.stdout)[0].startswith('pip install "juliacall==')


def test_a_crash_by_import_order_names_the_other_order():
    command = [sys.executable, "-c", CRASH]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment())
    assert done.returncode == 1
    assert "FAIL  import order torch, then Julia: ended with a crash (Segmentation fault)" in done.stdout
    assert [line.partition("   #")[0] for line in fixes(done.stdout)] == ["import juliacall", "import torch"]
