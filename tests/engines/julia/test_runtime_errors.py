"""What Julia and a Python right-hand side raise, and what is said where Julia is missing or broken."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import juliapkg.compat
import juliapkg.deps
import pytest
from processes import environment, output

from pysciml.algorithms import REGISTRY
from pysciml.config import config
from pysciml.engines.julia import environment as julia_environment

SOLVE = """
import torch, problems
import pysciml as ps
p = problems.vector(1.5, 1.0, 1.0, 3.0).requires_grad_()
prob = ps.ODEProblem(problems.lotka_volterra, problems.vector(1.0, 1.0), (0.0, 1.0), p)
try:
    sol = ps.solve(prob, ps.Tsit5(), engine="julia")
    sol.u.sum().backward()
    print("solved", p.grad.isfinite().all().item())
except ps.PySciMLError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.julia
def test_errors_of_julia_and_of_python_arrive():
    printed = output("""
import traceback
import torch, problems
import pysciml as ps
from pysciml.engines.julia.errors import JuliaError
from pysciml.engines.julia.runtime import call

u0 = problems.vector(1.0)
def caught(function):
    try:
        function()
    except BaseException as error:
        return error

def solve(f, **options):
    p = problems.vector(1.0).requires_grad_()
    return ps.solve(ps.ODEProblem(f, u0, (0.0, 1.0), p), ps.Tsit5(), engine="julia", **options).u

error = caught(lambda: call("algorithm", "NoSuchPackage", "Tsit5", False, {}))
print(isinstance(error, ps.PySciMLError), "NoSuchPackage" in str(error))
fails = ps.JuliaFunction('(du, u, p, t) -> error("this is mine")')
error = caught(lambda: solve(fails))
print(isinstance(error, ps.PySciMLError), "this is mine" in str(error))

class Mine(Exception):
    pass
thrown = Mine("unchanged")
def forward(t, u, p):
    if t > 0.5:
        raise thrown
    return -p * u
error = caught(lambda: solve(forward, route="callback"))
print(error is thrown, "in forward" in "".join(traceback.format_tb(error.__traceback__)), error.__context__)

class Bad(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return -x
    @staticmethod
    def backward(ctx, g):
        raise thrown
thrown = Mine("backward too")
u = solve(lambda t, u, p: Bad.apply(p * u), route="callback")
error = caught(u.sum().backward)
print(error is thrown, "in backward" in "".join(traceback.format_tb(error.__traceback__)))
print(round(solve(lambda t, u, p: -p * u)[-1].item(), 3))
""")
    assert printed.splitlines() == ["True True", "True True", "True True None", "True True", "0.368"]


def test_a_machine_without_julia_says_how_to_get_it_offline_too(tmp_path):
    said = output(SOLVE, PYTHON_JULIACALL_EXE=None, PYTHON_JULIACALL_PROJECT=None,
                  PYTHON_JULIAPKG_PROJECT=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path))  # fmt: skip
    assert said.startswith("EngineMissingError")
    for part in ("python -m pysciml julia install", "without a network", "julia use --exe", 'engine="embedded"'):
        assert part in said


@pytest.mark.julia
def test_a_julia_that_is_gone_or_does_not_fit(tmp_path):
    _, project = config.julia_environment()
    gone = output(SOLVE, PYTHON_JULIACALL_EXE=str(tmp_path / "julia"))
    assert gone.startswith("EngineMissingError The Julia executable is not there")
    broken = other_bridge(tmp_path, project)
    odd = output(SOLVE, PYTHON_JULIACALL_PROJECT=broken)
    assert odd.startswith("EngineMissingError")
    assert "0.9.1" in odd
    assert "juliacall==0.9.1" in odd or "PythonCall" in odd
    status, text = doctor(PYTHON_JULIACALL_PROJECT=broken)
    assert status == 1
    assert "FAIL  bridge" in text
    assert 'pip install "juliacall==0.9.1"' in text
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "Project.toml").write_text("")
    status, text = doctor(PYTHON_JULIACALL_PROJECT=str(tmp_path / "empty"))
    assert status == 1
    assert "has no Manifest.toml" in text
    status, text = doctor(PYTHON_JULIACALL_EXE=sys.executable)
    assert status == 1
    assert "is no Julia" in text


def other_bridge(folder: Path, project: str) -> str:
    """A project whose PythonCall is of another version than juliacall."""
    new = folder / "other"
    new.mkdir()
    (new / "Project.toml").write_text((Path(project) / "Project.toml").read_text("utf-8"))
    there = julia_environment.manifest(project)["PythonCall"]
    text = (Path(project) / "Manifest.toml").read_text("utf-8")
    head, _, tail = text.partition("[[deps.PythonCall]]")
    (new / "Manifest.toml").write_text(f"{head}[[deps.PythonCall]]{tail.replace(there, '0.9.1', 1)}")
    return str(new)


def doctor(**variables: str | None) -> tuple[int, str]:
    command = [sys.executable, "-m", "pysciml", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment(**variables))
    assert not done.stderr.strip(), done.stderr
    return done.returncode, done.stdout


@pytest.mark.julia
def test_doctor_starts_a_working_julia_in_both_import_orders():
    status, text = doctor()
    assert status == 0, text
    for line in ("ok    julia exe", "ok    julia project", "ok    bridge", "ok    julia packages",
                 "ok    import order torch, then Julia", "ok    import order Julia, then torch"):  # fmt: skip
        assert line in text


@pytest.mark.julia
def test_julia_use_is_remembered_by_a_fresh_process(tmp_path):
    exe, project = config.julia_environment()
    fresh = {"PYTHON_JULIACALL_EXE": None, "PYTHON_JULIACALL_PROJECT": None, "XDG_CONFIG_HOME": str(tmp_path)}
    for arguments in (["julia", "use", "--exe", exe, "--project", project], ["versions"]):
        command = [sys.executable, "-m", "pysciml", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment(**fresh))
        assert done.returncode == 0, done.stderr
    assert f"{exe} (project {project}, from file {tmp_path}" in done.stdout
    assert "SciMLSensitivity" in done.stdout
    assert output(SOLVE, **fresh).strip() == "solved True"


@pytest.mark.julia
def test_de_is_julias_own_namespace():
    printed = output("""
from pysciml import de
prob = de.ODEProblem(lambda u, p, t: -u, 0.5, (0.0, 1.0))
sol = de.solve(prob, de.Tsit5(), abstol=1e-10, reltol=1e-10)
print(len(sol.t) == len(sol.u), round(sol.u[-1], 6), round(sol(0.5), 6))
""")
    assert printed.split() == ["True", "0.18394", "0.303265"]


def test_juliapkg_reads_what_pysciml_asks_of_it(monkeypatch):
    file = Path(julia_environment.__file__).parents[2] / "juliapkg.json"
    monkeypatch.setattr(juliapkg.deps, "deps_files", lambda: [str(file)])
    compat, packages = juliapkg.deps.find_requirements()
    asked = json.loads(file.read_text("utf-8"))["packages"]
    assert compat
    assert {p.name: p.uuid for p in packages} == {name: entry["uuid"] for name, entry in asked.items()}
    assert all(juliapkg.compat.Compat.parse(p.version) for p in packages)


def test_juliapkg_is_asked_for_every_package_that_is_loaded_by_name():
    """Julia finds by name what its project has itself, and not what the packages of it depend on."""
    asked = json.loads((Path(julia_environment.__file__).parents[2] / "juliapkg.json").read_text("utf-8"))["packages"]
    sources = (julia_environment.package_folder() / "src").rglob("*.jl")
    by_name = {name for path in sources for name in re.findall(r'\bpackage\("(\w+)"\)', path.read_text("utf-8"))}
    of_algorithms = {alg.package for alg in REGISTRY.values()} - {"", "Julia"}
    assert by_name
    assert by_name | of_algorithms <= asked.keys()
