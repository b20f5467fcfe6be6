"""What is right and wrong with Julia on this machine, found out without touching this process."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

from pysciml.config import config
from pysciml.engines.julia import environment
from pysciml.engines.julia.environment import Environment
from pysciml.engines.julia.runtime import juliacall_variables

OLDEST = (1, 10)
_PROBE = """
import json, time
start = time.perf_counter()
from pysciml.engines.julia.runtime import call, julia
call("load_adjoints")
seconds = time.perf_counter() - start
import juliacall
main = juliacall.Main
print("\\n" + json.dumps([str(main.VERSION), int(main.Threads.nthreads()), seconds]))
"""
_ORDERS = {"torch, then Julia": "import torch", "Julia, then torch": "import juliacall, torch"}


class Finding(NamedTuple):
    """One line of the doctor's: fine, not fine, or for information (None), and where it helps the line to type.

    Of several lines in `fix` any one does.
    """

    name: str
    fine: bool | None
    text: str
    fix: str = ""


def checks() -> Iterator[Finding]:
    """All findings about Julia, those that need a start last. An exception is a finding of the caller's."""
    found = environment.find()
    if found is None:
        text = "not set up for pysciml; the embedded engine solves" + _on_path()
        yield Finding("julia", None, text, f"{environment.INSTALL}\n{environment.USE}")
        return
    early = [*_places(found), *_options()]
    yield from early
    if all(f.fine for f in early):
        packages = [_bridge(found), *_packages(found)]
        yield from packages
        if all(f.fine is not False for f in packages):
            yield from _starts(found)


def _on_path() -> str:
    exe = shutil.which("julia")
    return f" (there is a Julia on PATH: {exe})" if exe else ""


def _places(found: Environment) -> Iterator[Finding]:
    exe, project = shutil.which(found.exe), os.path.isdir(found.project)
    fix = environment.choose_lines(found.source)
    if exe is None:
        yield Finding("julia exe", False, f"{found.exe} is not there (from {found.source})", fix)
    else:
        yield _version(exe, found.source, fix)
    text = f"{found.project} {'' if project else 'is not there '}(from {found.source})"
    yield Finding("julia project", project, text, "" if project else fix)


def _options() -> Iterator[Finding]:
    """What juliacall reads by itself and pysciml cannot work with."""
    if os.environ.get("PYTHON_JULIACALL_INIT", "yes") != "yes":
        text = f"PYTHON_JULIACALL_INIT={os.environ['PYTHON_JULIACALL_INIT']} keeps Julia from starting"
        yield Finding("julia options", False, text, "unset PYTHON_JULIACALL_INIT")
    image = config.setting("julia_sysimage")
    if image.value and not os.path.isfile(image.value):
        text = f"the system image {image.value} is not there (from {image.source})"
        yield Finding("julia options", False, text, f"unset {image.option.env}" if "env" in image.source else "")


def _version(exe: str, source: str, fix: str) -> Finding:
    """Asks the program itself."""
    try:
        done = subprocess.run([exe, "--version"], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
        said = (done.stdout + done.stderr).strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    number = re.match(r"julia version (\d+)\.(\d+)\S*", said)
    if number is None:
        return Finding("julia exe", False, f"{exe} is no Julia (from {source}): it says {said[:80]!r}", fix)
    if (int(number[1]), int(number[2])) < OLDEST:
        return Finding("julia exe", False, f"{exe} is {said}; the engine needs 1.10 or newer", fix)
    return Finding("julia exe", True, f"{exe}, {said} (from {source})")


def _bridge(found: Environment) -> Finding:
    there, here = environment.manifest(found.project).get("PythonCall"), environment.bridge_version()
    if here is None:
        return Finding("bridge", False, "juliacall is not installed", environment.bridge_line(there))
    if there in (None, here):
        return Finding("bridge", True, f"juliacall {here}" + (f", PythonCall {there}" if there else ""))
    text = f"juliacall {here} and PythonCall {there} do not fit: they must be of one version"
    other = environment.add_line(found, {"PythonCall": here})
    return Finding("bridge", False, text, f"{environment.bridge_line(there)}\n{other}")


def _packages(found: Environment) -> Iterator[Finding]:
    there = environment.manifest(found.project)
    lacking = environment.missing(found)
    if lacking:
        versions = {name: environment.bridge_version() or "" if name == "PythonCall" else "" for name in lacking}
        text = (
            f"the project lacks {', '.join(lacking)}" if there else "the project has no Manifest.toml: nothing is in it"
        )
        yield Finding("julia packages", False, text, environment.add_line(found, versions))
        return
    shown = ("OrdinaryDiffEq", "SciMLSensitivity", "SciMLBase", "Sundials", "DifferentialEquations")
    yield Finding("julia packages", True, ", ".join(f"{name} {there[name]}" for name in shown if name in there))
    others = [name for name in environment.wanted() if name not in there]
    if others:
        fix = environment.add_line(found, dict.fromkeys(others, ""))
        yield Finding("julia packages", None, f"not there, and needed by some solvers alone: {', '.join(others)}", fix)


def _starts(found: Environment) -> Iterator[Finding]:
    """torch and Julia bring libraries of the same names; which comes first has mattered."""
    for name, first in _ORDERS.items():
        yield _start(f"import order {name}", first, found)


def _start(name: str, first: str, found: Environment) -> Finding:
    variables = juliacall_variables()
    command = [sys.executable, "-W", "ignore", "-c", first + _PROBE]
    try:
        done = subprocess.run(  # noqa: S603 - this Python, and a script from this file
            command, capture_output=True, text=True, timeout=1800, check=False, env={**os.environ, **variables}
        )
    except subprocess.TimeoutExpired:
        return Finding(name, False, "did not end in half an hour", "python -m pysciml doctor")
    if done.returncode:
        return Finding(name, False, f"ended with {_status(done.returncode)}: {_last_words(done.stderr)}",
                       _start_fix(done.returncode, first, found))  # fmt: skip
    version, threads, seconds = json.loads(done.stdout.strip().splitlines()[-1])
    text = (
        f"Julia {version} with {threads} thread{'s' if threads > 1 else ''} and its adjoints loaded in {seconds:.1f} s"
    )
    return Finding(name, True, text)


def _status(code: int) -> str:
    return f"status {code}" if code > 0 else f"a crash ({signal.strsignal(-code)})"


def _start_fix(code: int, first: str, found: Environment) -> str:
    """A crash comes of the libraries loaded first; an error in words is Julia's, as it shows when run alone."""
    if code < 0:
        other = "import juliacall" if first == "import torch" else "import torch"
        return f"{other}   # as the first line of the program"
    project = shlex.quote(found.project)
    return f"{shlex.quote(found.exe)} --project={project} -e 'using PythonCall, SciMLSensitivity'"


def _last_words(text: str) -> str:
    """The error's own text at the end of a traceback."""
    lines = text.strip().splitlines()
    start = next((i for i in range(len(lines) - 1, -1, -1) if re.match(r"[\w.]+(Error|Exception)\b", lines[i])), -8)
    words = [line for line in lines[start:] if not line.startswith(("Fix: python -m pysciml doctor", "(then start"))]
    return "\n      ".join(words[:12])
