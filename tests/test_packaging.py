"""What is shipped and what importing it costs: all measured from outside, in processes of their own."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import pysciml
from pysciml._version import __version__

ROOT = Path(__file__).parent.parent
PROBE = """
import json, sys, threading, warnings
import torch
warnings.simplefilter("error")
before, threads = set(sys.modules), threading.active_count()
import pysciml
print(json.dumps({
    "loaded": sorted({name.split(".")[0] for name in set(sys.modules) - before}),
    "threads": threading.active_count() - threads,
    "output": pysciml.__version__,
}))
"""


def python(*arguments: str, **options) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=240, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_importing_starts_nothing_and_loads_nothing_but_itself():
    # Over torch and the standard library. How long it takes is measured by `make bench ARGS=cold_start`.
    seen = json.loads(python("-c", PROBE))
    assert set(seen["loaded"]) - sys.stdlib_module_names == {"pysciml"}
    assert seen["threads"] == 0
    assert seen["output"] == __version__


def test_the_version_stands_in_one_place():
    assert pysciml.__version__ == __version__
    assert metadata.version("pysciml") == __version__, "reinstall: `make test` does so when the version changes"
    stated = [
        path.name
        for path in (ROOT / "pysciml").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__version__" for t in node.targets)
    ]
    assert stated == ["_version.py"]
    assert f'"{__version__}"' not in (ROOT / "pyproject.toml").read_text("utf-8")


def test_every_pinned_version_is_the_installed_one():
    """Otherwise `make test` here and on a fresh clone test different things."""
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert {"torch", "casadi", "juliacall", "torchdiffeq", "numpy", "pytest", "ruff", "mypy"} <= {p.name for p in pins}
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    installed = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in metadata.distributions()}
    assert not [str(p) for p in pins if p.name in installed and not p.specifier.contains(installed[p.name])]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> tuple[Path, Path]:
    """The sdist, and the wheel built from it: what works from the checkout alone is found out here."""
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT))
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(distributions):
    names = set(zipfile.ZipFile(distributions[1]).namelist())
    sources = {str(p.relative_to(ROOT).as_posix()) for p in (ROOT / "pysciml").rglob("*.py")}
    data = {str(p.relative_to(ROOT).as_posix()) for p in (ROOT / "pysciml" / "datasets").glob("*.csv")}
    julia = {
        f"pysciml/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "julia" / "PySciML").rglob("*") if p.is_file()
    }
    assert sources | data | julia | {"pysciml/juliapkg.json"} <= names
    assert data
    assert "pysciml/julia/PySciML/src/PySciML.jl" in julia
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {"pysciml", f"pysciml-{__version__}.dist-info"}


@pytest.mark.slow
def test_the_sdist_can_be_tested(distributions):
    with tarfile.open(distributions[0]) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"Makefile", "constraints.txt", "LICENSE", "README.md", "tests/conftest.py"} <= names
    assert {"julia/PySciML/Project.toml", "julia/PySciML/src/PySciML.jl", "pysciml/juliapkg.json"} <= names


@pytest.mark.slow
def test_the_installed_wheel_works_away_from_the_checkout(distributions, tmp_path):
    python("-m", "zipfile", "-e", str(distributions[1]), str(tmp_path / "site"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    code = "import pysciml, pathlib; print(pathlib.Path(pysciml.__file__).parent.parent)"
    assert python("-c", code, cwd=tmp_path, env=environment).strip() == str(tmp_path / "site")
    assert __version__ in python("-m", "pysciml", "versions", cwd=tmp_path, env=environment)
    code = "from pysciml.engines.julia import environment as e; print(e.package_folder(), len(e.wanted()) > 20)"
    found, wanted = python("-c", code, cwd=tmp_path, env=environment).split()
    assert Path(found) == tmp_path / "site" / "pysciml" / "julia" / "PySciML"
    assert (Path(found) / "Project.toml").is_file()
    assert wanted == "True"


@pytest.mark.slow
@pytest.mark.parametrize(("required", "status", "word"), [("0", 0, "SKIPPED"), ("1", 1, "FAILED")])
def test_a_missing_julia_is_loud_and_a_failure_where_it_is_required(required, status, word, tmp_path):
    environment = {n: v for n, v in os.environ.items() if not n.startswith("PYTHON_JULIACALL_")}
    environment |= {"PYSCIML_REQUIRE_JULIA": required, "XDG_CONFIG_HOME": str(tmp_path)}
    test = "tests/test_config.py::test_an_empty_environment_variable_counts_as_unset"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", test]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == status, done.stdout + done.stderr
    assert f"JULIA TIER {word}" in done.stdout
    assert "1 passed" in done.stdout.splitlines()[-1]
