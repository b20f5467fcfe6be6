"""What is right and wrong with Julia on this machine, found out without touching this process."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

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
    """One line of the doctor's: fine, not fine, or for information (None), and where it helps the line to type."""

    name: str
    fine: bool | None
    text: str
    fix: str = ""


def checks() -> Iterator[Finding]:
    """All findings about Julia, those that need a start last. An exception is a finding of the caller's."""
    found = environment.find()
    if found is None:
        text = "not set up for pysciml; the embedded engine solves" + _on_path()
        yield Finding("julia", None, text, f"{environment.INSTALL}   (or, with your own: {environment.USE})")
        return
    early = [*_places(found)]
    yield from early
    if all(f.fine for f in early):
        packages = [_bridge(found), *_packages(found)]
        yield from packages
        if all(f.fine is not False for f in packages):
            yield from _starts()


def _on_path() -> str:
    exe = shutil.which("julia")
    return f" (there is a Julia on PATH: {exe})" if exe else ""


def _places(found: Environment) -> Iterator[Finding]:
    exe, project = shutil.which(found.exe), os.path.isdir(found.project)
    fix = f"{environment.USE}   (or: {environment.INSTALL})"
    if exe is None:
        yield Finding("julia exe", False, f"{found.exe} is not there (from {found.source})", fix)
    else:
        yield _version(exe, found.source, fix)
    text = f"{found.project} {'' if project else 'is not there '}(from {found.source})"
    yield Finding("julia project", project, text, "" if project else fix)


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
    there, here = environment.manifest(found.project).get("PythonCall"), metadata.version("juliacall")
    if there in (None, here):
        return Finding("bridge", True, f"juliacall {here}" + (f", PythonCall {there}" if there else ""))
    text = f"juliacall {here} and PythonCall {there} do not fit: they must be of one version"
    other = environment.add_line(found, {"PythonCall": here})
    return Finding("bridge", False, text, f'pip install "juliacall=={there}"   (or: {other})')


def _packages(found: Environment) -> Iterator[Finding]:
    there = environment.manifest(found.project)
    lacking = environment.missing(found)
    if lacking:
        versions = {name: metadata.version("juliacall") if name == "PythonCall" else "" for name in lacking}
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


def _starts() -> Iterator[Finding]:
    """torch and Julia bring libraries of the same names; which comes first has mattered."""
    for name, first in _ORDERS.items():
        yield _start(f"import order {name}", first)


def _start(name: str, first: str) -> Finding:
    variables = juliacall_variables()
    command = [sys.executable, "-W", "ignore", "-c", first + _PROBE]
    try:
        done = subprocess.run(  # noqa: S603 - this Python, and a script from this file
            command, capture_output=True, text=True, timeout=1800, check=False, env={**os.environ, **variables}
        )
    except subprocess.TimeoutExpired:
        return Finding(name, False, "did not end in half an hour", "python -m pysciml doctor   (again)")
    if done.returncode:
        return Finding(name, False, f"ended with status {done.returncode}: {_last_words(done.stderr)}")
    version, threads, seconds = json.loads(done.stdout.strip().splitlines()[-1])
    text = (
        f"Julia {version} with {threads} thread{'s' if threads > 1 else ''} and its adjoints loaded in {seconds:.1f} s"
    )
    return Finding(name, True, text)


def _last_words(text: str) -> str:
    """The error's own text at the end of a traceback."""
    lines = text.strip().splitlines()
    start = next((i for i in range(len(lines) - 1, -1, -1) if re.match(r"[\w.]+(Error|Exception)\b", lines[i])), -8)
    return "\n      ".join(lines[start:][:12])
