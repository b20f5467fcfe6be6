"""Where Julia and its packages are, found out from files alone: nothing is started and nothing is fetched."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pysciml.config import config
from pysciml.errors import EngineMissingError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

INSTALL = "python -m pysciml julia install"
USE = "python -m pysciml julia use --exe /path/to/bin/julia --project /path/to/project"


_PAIR = ("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT")
SET = f"export {_PAIR[0]}=/path/to/bin/julia {_PAIR[1]}=/path/to/project"
UNSET = f"unset {' '.join(_PAIR)}"


def choose_lines(source: str) -> str:
    """The lines to type for another Julia, one or the other. What the environment says wins over `julia use`."""
    return "\n".join((SET, UNSET) if source.startswith("env") else (USE, INSTALL))


@dataclass(frozen=True)
class Environment:
    """A Julia executable with the project that has the packages, and who named them."""

    exe: str
    project: str
    source: str


def find() -> Environment | None:
    """The environment the julia engine would take: the configured one, else what `julia install` made, else None."""
    pair = config.julia_environment()
    return Environment(*pair, config.setting("julia_exe").source) if pair else installed()


def available() -> bool:
    """Whether `engine="auto"` takes the julia engine. Reads files alone; well under a millisecond."""
    return find() is not None


def required() -> Environment:
    """The environment, looked at as far as that is possible without starting it.

    Raises:
        EngineMissingError: there is none, it is not where it says, or Python's and Julia's halves of the bridge differ.
    """
    found = find()
    if found is None:
        raise EngineMissingError(
            "The julia engine needs Julia with its packages, and this machine has none set up for pysciml.",
            expected=f"what `{INSTALL}` downloads once, in minutes; or, without a network, your own: {USE}",
            fix=f'{INSTALL}\n(or, with the solvers that are here already: engine="embedded")',
        )
    _check_places(found)
    _check_bridge(found)
    return found


def _check_places(found: Environment) -> None:
    exe, project = shutil.which(found.exe), os.path.isdir(found.project)
    if exe is None or not project:
        what = "Julia executable" if exe is None else "Julia project"
        raise EngineMissingError(
            f"The {what} is not there.", got=f"{found.project if exe else found.exe} (from {found.source})",
            expected="a program that can be run" if exe is None else "a folder with a Project.toml",
            fix=choose_lines(found.source).replace("\n", "\n(or: ") + ")",
        )  # fmt: skip


def _check_bridge(found: Environment) -> None:
    """juliacall is one half and PythonCall.jl the other; different versions end in an error that explains nothing."""
    there, here = manifest(found.project).get("PythonCall"), bridge_version()
    if here is None:
        raise EngineMissingError("Python's half of the bridge to Julia is not installed.", got="no package juliacall",
                                 fix=bridge_line(there))  # fmt: skip
    if there not in (None, here):
        raise EngineMissingError(
            "Python's juliacall and Julia's PythonCall are two halves of one program, of different versions here.",
            got=f"juliacall {here}, PythonCall {there} in {found.project}", expected="the same version of both",
            fix=f'{bridge_line(there)}\n(or: {add_line(found, {"PythonCall": here})})',
        )  # fmt: skip


def bridge_version() -> str | None:
    """The version of juliacall, None where it is not installed."""
    try:
        return metadata.version("juliacall")
    except metadata.PackageNotFoundError:
        return None


def bridge_line(version: str | None) -> str:
    """The line to type that installs juliacall: of the version that fits a project, where that is known."""
    return f'pip install "juliacall=={version}"' if version else "pip install juliacall"


def add_line(found: Environment, packages: dict[str, str]) -> str:
    """The line to type that adds packages to a project; an empty version leaves it to Julia."""
    specs = [f'(name="{name}", version="{v}")' if v else f'(name="{name}",)' for name, v in packages.items()]
    script = f"using Pkg; Pkg.add([Pkg.PackageSpec(; x...) for x in [{', '.join(specs)}]])"
    return f"{shlex.quote(found.exe)} --project={shlex.quote(found.project)} -e '{script}'"


# What is in a project.


def manifest(project: str) -> dict[str, str]:
    """The versions of all packages of a project: those its manifest pins. Empty where there is no manifest.

    Example:
        >>> manifest("/nowhere")
        {}
    """
    folder = Path(project)
    files = sorted(folder.glob("Manifest-v*.toml")) + [folder / "JuliaManifest.toml", folder / "Manifest.toml"]
    file = next((f for f in files if f.is_file()), None)
    return _versions(file, file.stat().st_mtime_ns) if file else {}


@cache
def _versions(file: Path, changed: int) -> dict[str, str]:
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EngineMissingError(
            "Julia's manifest cannot be read.", got=f"{file}: {error}", expected="a file as Julia writes it",
            fix=f"mv {shlex.quote(str(file))} {shlex.quote(str(file))}.broken && "
            f"julia --project={shlex.quote(str(file.parent))} -e 'using Pkg; Pkg.instantiate()'",
        ) from None  # fmt: skip
    deps: dict[str, Any] = table.get("deps", table)  # manifests of Julia before 1.6.2 have no [deps]
    return {name: entries[0].get("version", "") for name, entries in deps.items() if isinstance(entries, list)}


@cache
def wanted() -> dict[str, dict[str, str]]:
    """The registered packages the engine may use, by name: their UUIDs and the versions that will do."""
    file = Path(__file__).parents[2] / "juliapkg.json"
    return json.loads(file.read_text("utf-8"))["packages"]


def package_folder() -> Path:
    """The Julia package PySciML: inside the Python package in a wheel, beside it in a checkout and an sdist."""
    inside = Path(__file__).parents[2] / "julia" / "PySciML"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "julia" / "PySciML"


def compiled_since(caches: Path, folder: Path) -> bool:
    """Whether Julia has compiled the package in `folder`, to one of the files in `caches`, since it last changed."""
    changed = max(file.stat().st_mtime for file in (folder / "src").rglob("*.jl"))
    return any(file.stat().st_mtime > changed for file in caches.glob("*.ji"))


@cache
def needed() -> tuple[str, ...]:
    """The packages without which nothing works: those PySciML is made of, and PythonCall. Others hold more solvers."""
    project = tomllib.loads((package_folder() / "Project.toml").read_text("utf-8"))
    names = {**project["deps"], **project.get("weakdeps", {})}
    return (*(name for name in names if name in wanted()), "PythonCall")


def missing(found: Environment) -> list[str]:
    """The needed packages that a project lacks."""
    there = manifest(found.project)
    return [name for name in needed() if name not in there]


# What juliapkg has installed. Its own code would start Julia and ask the network to find out.


def installed() -> Environment | None:
    """What juliapkg has installed for this Python, if that has the engine's packages in it."""
    project = juliapkg_project()
    exe = _executable(project / "pyjuliapkg" / "meta.json")
    found = Environment(exe, str(project), "julia install") if exe else None
    return found if found and not missing(found) else None


def _executable(meta: Path) -> str | None:
    try:
        return _parsed(meta, meta.stat().st_mtime_ns).get("executable")
    except FileNotFoundError:  # nothing was installed
        return None


@cache
def _parsed(file: Path, changed: int) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8"))


def juliapkg_project() -> Path:
    """The folder juliapkg installs to: the one it is told, else in the virtual environment, else in Julia's depot."""
    told = sys._xoptions.get("juliapkg-project") or os.environ.get("PYTHON_JULIAPKG_PROJECT")
    if isinstance(told, str):
        return Path(told)
    prefix = sys.prefix if sys.prefix != sys.base_prefix else os.environ.get("CONDA_PREFIX")
    if prefix:
        return Path(prefix).absolute() / "julia_env"
    depots = os.environ.get("JULIA_DEPOT_PATH", "").split(os.pathsep)
    return Path(depots[0] or Path.home() / ".julia").absolute() / "environments" / "pyjuliapkg"
