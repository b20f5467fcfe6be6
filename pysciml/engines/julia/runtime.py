"""Julia in this process: started once, on first use, and called from any thread through one gate.

Three rules keep Julia's garbage collector and Python's threads apart; without them a collection hangs or crashes.

1. A thread that is back in Python counts as paused for Julia. Julia does so itself for every thread but the one that
   started it, so that one says it once (`jl_gc_safe_enter`).
2. A thread is inside Julia only while it holds Python's lock, so that no two are. During a solve `interrupt.jl` lets
   other threads run, paused for Julia in the meantime.
3. Threads that end are never known to Julia: it keeps memory for each for ever, and one that ends while another
   collects crashes. The main thread calls Julia itself; calls from all others run on one thread that never ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shlex
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import get_ident
from typing import Any

from pysciml.config import config
from pysciml.engines.julia import environment
from pysciml.engines.julia.environment import available as available
from pysciml.engines.julia.errors import JuliaError
from pysciml.engines.julia.service import Service
from pysciml.errors import EngineMissingError, PySciMLError, UnsupportedError

# Options that juliacall reads from the environment alone.
_OPTIONS = ("julia_exe", "julia_project", "julia_threads", "julia_handle_signals", "julia_heap_size_hint",
            "julia_sysimage")  # fmt: skip
# Where Julia keeps what it has compiled of the package; and, which takes it a second to say, whether that fits.
_CACHES = 'joinpath(first(DEPOT_PATH), "compiled", "v$(VERSION.major).$(VERSION.minor)", "PySciML")'
_IS_COMPILED = 'isdefined(Base, :isprecompiled) && Base.isprecompiled(Base.identify_package("PySciML"))'
# What `interrupt.jl` needs of Python to run signal handlers and other threads in the middle of a solve.
_PYTHON_C = ("PyGILState_Check", "PyEval_SaveThread", "PyEval_RestoreThread", "PyErr_CheckSignals")


# The C functions of `memory.jl` in the order of their addresses: of how many integers, and whether they return one.
_ENTRIES = {"solve_at": (3, True), "adjoint_at": (4, True), "solve_delay_at": (7, True), "adjoint_delay_at": (5, True),
            "solve_paths_at": (6, True), "adjoint_paths_at": (5, True), "let_go": (1, False)}  # fmt: skip

_log = logging.getLogger("pysciml")


class _State:
    """What this process knows of Julia."""

    module: Any = None  # the Julia module PySciML
    values: type = type(None)  # what juliacall makes of Julia's values that are none of Python's
    error: Any = PySciMLError  # juliacall's exception
    failed: EngineMissingError | None = None  # why it did not start; it cannot be tried twice in one process
    forked = False  # this process is a copy of one that ran Julia
    functions: dict[str, Any] = {}  # noqa: RUF012 - one state, one process
    entries: dict[str, Any] = {}  # noqa: RUF012 - its C functions


_LOCK = threading.RLock()
_service = Service("pysciml-julia")
_discarded: deque[int] = deque()  # numbers of Julia's values that nobody holds any more; the next call lets them go


class Held:
    """A value that stays in Julia, known here by its number there. It may be dropped on any thread."""

    __slots__ = ("__weakref__", "number")

    def __init__(self, number: int):
        self.number = number

    def __del__(self, discard=_discarded.append):
        discard(self.number)

    @property
    def value(self) -> Any:
        """What juliacall makes of it. To be used on a thread that Julia knows, and not to be kept."""
        return _function("kept")(self.number)


def call(name: str, *args: Any) -> Any:
    """`PySciML.name(args...)`, from any thread; Julia is started if it was not.

    Numbers, strings, `None` and numpy arrays (as views of the same memory) cross as themselves, and so do results that
    are numbers or strings; other results stay in Julia as a `Held`, which is an argument for later calls.

    Raises:
        JuliaError: what Julia threw, as text. An exception of Python's that passed through Julia arrives unchanged.
        EngineMissingError: Julia is not here or does not start.
        UnsupportedError: this process was forked from one that runs Julia.
    """
    return on_julia_thread(_invoke, name, args)


def enter(name: str, *integers: int) -> int:
    """A C function of `memory.jl`, from any thread: a call without what makes `call` general.

    Raises:
        JuliaError: as of `call`.
    """
    return on_julia_thread(_enter, name, integers)


def on_julia_thread(function: Callable, *args: Any) -> Any:
    """`function(*args)` on a thread that Julia knows: this one if it is the main thread, else the one kept for it."""
    if _State.forked:
        raise _fork_error()
    if get_ident() == _service.ident:
        return function(*args)  # a call from inside a call
    with _LOCK:
        return function(*args) if _is_main() else _service.run(function, args)


def julia() -> Any:
    """The Julia module `PySciML`, Julia started if it was not. For calls use `call`, which is safe on every thread."""
    if _State.module is None:
        on_julia_thread(_start)
    return _State.module


def call_lock() -> threading.RLock:
    """Held by every call into Julia. To be held around direct use of `julia()`, which belongs on the main thread."""
    return _LOCK


def started() -> bool:
    """Whether Julia runs in this process."""
    return _State.module is not None


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def _invoke(name: str, args: tuple) -> Any:
    function = _State.functions.get(name) or _function(name)
    _let_go()
    try:
        result = function(*[a.value if type(a) is Held else a for a in args])
    except _State.error as error:
        raised = _without_julia(error.exception, error.backtrace)
    else:
        return Held(_function("keep")(result)) if isinstance(result, _State.values) else result
    raise raised  # outside, or it would keep Julia's own exception as its context


def _enter(name: str, integers: tuple[int, ...]) -> int:
    entry = _State.entries.get(name) or _entry(name)
    _let_go()
    result = entry(*integers)
    if result < 0:
        raise _without_julia(*Held(-result).value)
    return result


def _let_go() -> None:
    while _discarded:
        try:
            number = _discarded.popleft()
        except IndexError:  # another thread has let go the last one
            return
        _State.entries["let_go"](number)


def _entry(name: str) -> Any:
    julia()
    return _State.entries[name]


def _function(name: str) -> Any:
    if _State.module is None:
        _start()
    return _State.functions.setdefault(name, getattr(_State.module, name))


def _without_julia(exception: Any, trace: Any) -> BaseException:
    """The Python exception behind one of Julia's, else its text: nothing that holds on to Julia's values."""
    for cause in _State.module.causes(exception):
        if isinstance(cause, BaseException):
            return cause
    text = _State.module.told(exception, trace).strip()
    if text.startswith("InterruptException:"):
        return KeyboardInterrupt()
    return JuliaError("Julia raised an error.", got=text[:2000])


# Starting.


def _start() -> None:
    if _State.module is not None:
        return
    if _State.failed is not None:
        raise _State.failed
    found = environment.required()
    theirs = "juliacall" in sys.modules  # another package has started Julia
    os.environ.update(juliacall_variables())
    try:
        with _own_signals(), warnings.catch_warnings():
            # torch is always here first. `doctor` tries both orders in processes of their own.
            warnings.filterwarnings("ignore", message="torch was imported before juliacall")
            import juliacall

            module = _load(juliacall)
    except Exception as error:
        _State.failed = (_elsewhere(found) if theirs else None) or _start_error(error, found)
        raise _State.failed from error
    _State.values, _State.error, _State.module = juliacall.ValueBase, juliacall.JuliaError, module


def _load(juliacall: Any) -> Any:
    """The module PySciML, found by its folder, with the packages of the active project."""
    session = juliacall.newmodule("PySciMLSession")
    folder = environment.package_folder()
    session.seval("path -> (path in LOAD_PATH || push!(LOAD_PATH, path); nothing)")(str(folder))
    if not (environment.compiled_since(Path(session.seval(_CACHES)), folder) or session.seval(_IS_COMPILED)):
        _log.warning("Julia compiles pysciml's package, and at the first gradient its adjoints: minutes, once.")
    module = session.seval("import PySciML; PySciML")
    addresses = [ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value for name in _PYTHON_C]
    getattr(module, "set_poll!")(juliacall.PythonCall.seval("Core.pythrow"), *addresses)
    _State.entries = dict(zip(_ENTRIES, map(_c_function, module.addresses(), _ENTRIES.values()), strict=True))
    # Rule 1. Called by address, since a call through juliacall would end in the state it began in.
    ctypes.PYFUNCTYPE(ctypes.c_int8)(session.seval("Int(cglobal(:jl_gc_safe_enter))"))()
    return module


def _c_function(address: int, signature: tuple[int, bool]) -> Any:
    """A C function that is called while this thread holds Python's lock."""
    count, returns = signature
    return ctypes.PYFUNCTYPE(ctypes.c_int64 if returns else None, *[ctypes.c_int64] * count)(address)


def juliacall_variables() -> dict[str, str]:
    """What juliacall shall find in the environment: it reads its options from there alone."""
    given: dict[str, str] = {}
    for name in _OPTIONS:
        setting = config.setting(name)
        if setting.value is not None:
            value = setting.value
            given[setting.option.env] = ("yes" if value else "no") if isinstance(value, bool) else str(value)
    threads = given.get("PYTHON_JULIACALL_THREADS") or os.environ.get("JULIA_NUM_THREADS") or "1"
    defaults = {"PYTHON_JULIACALL_AUTOLOAD_IPYTHON_EXTENSION": "no"}  # it prints into the notebook
    if threads != "1":  # Julia stops its own threads for a collection by a signal
        defaults["PYTHON_JULIACALL_HANDLE_SIGNALS"] = "yes"
    return {name: value for name, value in defaults.items() if not os.environ.get(name)} | given


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Leaves Ctrl-C to Python: Julia, where it handles signals, takes SIGINT's handler and blocks others like it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows has none
        yield
        return
    api = ctypes.pythonapi  # signal.signal is for the main thread, and Julia may start on another
    api.PyOS_getsig.restype = ctypes.c_void_p
    api.PyOS_setsig.argtypes = (ctypes.c_int, ctypes.c_void_p)
    mask, handler = signal.pthread_sigmask(signal.SIG_BLOCK, []), api.PyOS_getsig(signal.SIGINT)
    try:
        yield
    finally:
        api.PyOS_setsig(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _elsewhere(found: environment.Environment) -> EngineMissingError | None:
    """The error that another package's Julia runs in another project, or None where it does not."""
    project = sys.modules["juliacall"].CONFIG.get("project")
    if not project or os.path.realpath(project) == os.path.realpath(found.project):
        return None
    return EngineMissingError(
        "Julia runs in this process already, started by another package in a project without what pysciml needs.",
        got=f"Julia in {project}",
        expected=f"Julia in {found.project} ({found.source}); it starts once in a process",
        fix=f"export PYTHON_JULIACALL_EXE={shlex.quote(found.exe)} "
        f"PYTHON_JULIACALL_PROJECT={shlex.quote(found.project)}\n"
        '(or solve with engine="julia" before that package is imported)',
    )


def _start_error(error: Exception, found: environment.Environment) -> EngineMissingError:
    if isinstance(error, EngineMissingError):
        return error
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    lacking = environment.missing(found)
    fix = environment.add_line(found, dict.fromkeys(lacking, "")) if lacking else "python -m pysciml doctor"
    also = f" The project lacks {', '.join(lacking)}." if lacking else ""
    return EngineMissingError(
        "Julia did not start with pysciml's package." + also,
        got="\n".join(lines[:8]), expected=f"the packages of the engine in {found.project} ({found.source})",
        fix=f"{fix}\n(then start Python anew: Julia starts once in a process)",
    )  # fmt: skip


# Forking. The copy has Julia's memory and none of its threads.


def _after_fork_in_child() -> None:
    global _LOCK, _service
    _State.forked = _State.forked or "juliacall" in sys.modules
    _LOCK, _service = threading.RLock(), Service("pysciml-julia")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _fork_error() -> UnsupportedError:
    return UnsupportedError(
        "Julia cannot be used in a process that was forked from one in which it runs.",
        got=f"process {os.getpid()}, forked after Julia had started",
        expected="a process that was spawned, or one that was forked before Julia was first used",
        fix='DataLoader(..., multiprocessing_context="spawn"), or multiprocessing.get_context("spawn"); '
        'or engine="embedded"',
    )
