"""A contestant in a process of its own: what it says, line by line, until it ends or a limit of time or memory ends it.

There its start, what it compiles and the most memory it held are its own, and one that fails takes no other with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

SECONDS, GIBIBYTES = 120.0, 12.0
_MARK = "\x1e"  # libraries print too


@dataclass
class Said:
    """What a process said.

    Attributes:
        lines: in order, the facts of each call of `say`. failed: why it did not come to its end, or nothing.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    failed: str = ""


def say(**facts: Any) -> None:
    """To be called in the process: tells the one that started it."""
    print(_MARK + json.dumps(facts), flush=True)


def apart(
    module: str, *args: str, seconds: float = SECONDS, gibibytes: float = GIBIBYTES,
    env: Mapping[str, str] | None = None,
) -> Said:  # fmt: skip
    """Calls `alone(*args)` of a module in a new process.

    Args:
        seconds: from one line to the next, else the process is ended. gibibytes: of memory that it may hold, where the
            system tells (Linux). env: environment variables of it alone.
    """
    said, heard = Said(), threading.Event()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen([sys.executable, "-m", "benchmarks.apart", module, *args], stdout=subprocess.PIPE,
                                   stderr=errors, text=True, env=os.environ | dict(env or {}))  # fmt: skip
        listener = threading.Thread(target=_listen, args=(process, said, heard))
        listener.start()
        ended = _watch(process, heard, seconds, gibibytes)
        listener.join()
        told = said.lines.pop()["failed"] if said.lines and "failed" in said.lines[-1] else ""
        errors.seek(0)
        last = (errors.read().strip().splitlines() or ["ended without a word"])[-1]
    said.failed = ended or told or (f"{last:.120}" if process.returncode else "")
    return said


def _listen(process: subprocess.Popen, said: Said, heard: threading.Event) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(_MARK):
            said.lines.append(json.loads(line[1:]))
            heard.set()


def _watch(process: subprocess.Popen, heard: threading.Event, seconds: float, gibibytes: float) -> str:
    """Waits for the end; says which limit made it come early."""
    last = time.perf_counter()
    while process.poll() is None:
        if heard.is_set():
            heard.clear()
            last = time.perf_counter()
        over = ""
        if time.perf_counter() - last > seconds:
            over = f"over {seconds:g} s"
        elif _held(process.pid) > gibibytes * 2**30:
            over = f"over {gibibytes:g} GiB"
        if over:
            process.kill()
            process.wait()
            return over
        time.sleep(0.02)
    return ""


def _held(pid: int) -> int:
    """Bytes of memory that a process holds now."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def peak() -> int:
    """The most bytes that this process has held, or has since `forget_peak`."""
    try:
        # Not getrusage's: that one begins, in Linux, at what the process that started this one held.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def forget_peak() -> int:
    """The bytes held now, from which `peak` begins again, where the system can do that (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak()
    return _held(os.getpid())


def _run(module: str, *args: str) -> None:
    try:
        import_module(module).alone(*args)
    except Exception as error:  # told of, and not left out
        say(failed=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:120])
        raise


if __name__ == "__main__":
    import benchmarks.apart

    benchmarks.apart._run(*sys.argv[1:])
