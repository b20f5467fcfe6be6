"""Python processes of their own: Julia starts once in a process, some tests end theirs, others measure it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parent.parent


def environment(**variables: str | None) -> dict[str, str]:
    """This process's environment with the checkout and the tests on the path; None takes a variable out."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    changed = {**os.environ, "PYTHONPATH": path, **variables}
    return {name: value for name, value in changed.items() if value is not None}


def process(code: str, timeout: float = 240, **variables: str | None) -> subprocess.CompletedProcess[str]:
    """What a script printed and how it ended."""
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment(**variables))


def output(code: str, timeout: float = 240, **variables: str | None) -> str:
    """What a script printed, which must end well and complain of nothing."""
    done = process(code, timeout, **variables)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert not done.stderr.strip(), done.stderr
    return done.stdout
