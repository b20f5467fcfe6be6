"""Every option and environment variable in one table, with where its value came from.

The strongest source wins: set in code, then the environment, then the user's config file, then the default. Values are
checked when they are set in code, and when they are read from elsewhere. Reading an option starts nothing.

    >>> import pysciml as ps
    >>> ps.config.engine = "embedded"             # for this process
    >>> with ps.config.override(progress="off"):  # for a while
    ...     ps.config.progress
    'off'
    >>> del ps.config.engine                      # as it was
    >>> names = [setting.option.name for setting in ps.config.table()]  # print(ps.config) shows all
    >>> names[:2]
    ['engine', 'progress']
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pysciml.errors import InvalidInputError

# Parsers: one per kind of value. Each takes what code, a TOML file or the environment gives, and raises ValueError.

Parser = Callable[[Any], Any]
YES, NO = ("yes", "true", "on", "1"), ("no", "false", "off", "0")
UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def _choice(*choices: str) -> Parser:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError
        return value

    return parse


def _switch(value: Any) -> str:
    """One of "auto", "on" and "off", where code and TOML may say true or false."""
    return value if value == "auto" else ("on" if _flag(value) else "off")


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = value.lower() if isinstance(value, str) else None
    if word not in YES + NO:
        raise ValueError
    return word in YES


def _path(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)) or not str(value):
        raise ValueError
    return os.path.expanduser(value)


def _threads(value: Any) -> int | str:
    """As Julia's own `--threads`: a number, "auto", or "default,interactive"."""
    if isinstance(value, bool) or not re.fullmatch(r"(auto|[1-9]\d*)(,(auto|\d+))?", str(value)):
        raise ValueError
    return int(value) if str(value).isdecimal() else str(value)


def _heap_hint(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\d+(\.\d+)?[BKMGT%]?", value):
        raise ValueError
    return value


def _memory(value: Any) -> float | int:
    """A share of memory in (0, 1] as a float, or bytes as an int; "80%" and "4GiB" are read too."""
    if isinstance(value, str):
        value = _memory_text(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError
    return float(value) if value <= 1 else int(value)


def _memory_text(text: str) -> float:
    match = re.fullmatch(r"\s*([\d.]+(?:e\d+)?)\s*(%|[KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if match is None:
        raise ValueError
    number, unit = float(match[1]), match[2].upper()
    return number / 100 if unit == "%" else number * UNITS[unit]


# The table.


@dataclass(frozen=True)
class Option:
    """One option: its name, default, environment variable, what it takes and what it does."""

    name: str
    default: Any
    env: str
    parse: Parser
    expected: str
    example: str
    description: str


OPTIONS: Mapping[str, Option] = {
    option.name: option
    for option in (
        Option("engine", "auto", "PYSCIML_ENGINE", _choice("auto", "julia", "embedded"), "auto, julia or embedded",
               "embedded", "which engine solves; auto takes julia where it is installed, else embedded"),
        Option("progress", "auto", "PYSCIML_PROGRESS", _switch, "auto, on or off",
               "off", "progress bars; auto shows them in terminals and notebooks"),
        Option("memory_limit", 0.8, "PYSCIML_MEMORY_LIMIT", _memory,
               "a share of memory in (0, 1], or bytes above 1 (4e9, 4GiB, 80%)",
               "0.8", "the most memory that a solve of the embedded engine may take"),
        Option("single_precision", False, "PYSCIML_SINGLE_PRECISION", _flag, "yes or no",
               "yes", "Julia's solvers compute float32 problems in float32, which is compiled anew; else in float64"),
        Option("julia_exe", None, "PYTHON_JULIACALL_EXE", _path, "the path of a Julia executable",
               "/path/to/bin/julia", "Julia executable; goes with julia_project"),
        Option("julia_project", None, "PYTHON_JULIACALL_PROJECT", _path, "the path of a Julia project folder",
               "/path/to/project", "Julia project with the packages; goes with julia_exe"),
        Option("julia_threads", None, "PYTHON_JULIACALL_THREADS", _threads, 'a number, "auto", or as in "4,1"',
               "4", "threads Julia starts with; more than one make Julia handle signals"),
        Option("julia_handle_signals", None, "PYTHON_JULIACALL_HANDLE_SIGNALS", _flag, "yes or no",
               "yes", "whether Julia handles signals, as its threads need; Ctrl-C stays Python's"),
        Option("julia_heap_size_hint", None, "PYTHON_JULIACALL_HEAP_SIZE_HINT", _heap_hint,
               "a size such as 2G, 500M or 50%", "2G", "heap size at which Julia collects garbage harder"),
        Option("julia_sysimage", None, "PYTHON_JULIACALL_SYSIMAGE", _path, "the path of a Julia system image",
               "/path/to/sysimage.so", "system image Julia starts from"),
        Option("require_julia", False, "PYSCIML_REQUIRE_JULIA", _flag, "yes or no",
               "yes", "pysciml's own tests fail, instead of skipping, without Julia"),
    )
}  # fmt: skip


class Setting(NamedTuple):
    """The value of an option and where it came from: "default", "file ...", "env ..." or "code"."""

    option: Option
    value: Any
    source: str


class UnknownOptionError(InvalidInputError, AttributeError):
    """There is no option of this name. An AttributeError too, so that `hasattr` and notebooks' probing work."""


def _unknown(name: str, where: str) -> UnknownOptionError:
    close = _close(name, OPTIONS)
    return UnknownOptionError(
        f"pysciml has no option `{name}`.",
        got=f"`{name}` {where}",
        expected=", ".join(OPTIONS),
        fix=f"did you mean `{close}`?" if close else "print(pysciml.config) lists every option",
    )


def _close(word: Any, words: Any) -> str | None:
    import difflib

    return next(iter(difflib.get_close_matches(str(word).lower(), list(words), 1)), None)


def _parse(option: Option, raw: Any, where: str, line: str) -> Any:
    """The value of `raw`, or an error that says `where` it was found and, as `line` with a good value, the remedy."""
    try:
        return option.parse(raw)
    except (ValueError, TypeError, OverflowError):
        example = _close(raw, re.findall(r"\w+", option.expected)) or option.example
        raise InvalidInputError(
            f"{raw!r} is not a value of the option `{option.name}` ({option.description}).",
            got=f"{raw!r} {where}",
            expected=option.expected,
            fix=line.format(example),
        ) from None


class Config:
    """pysciml's options as attributes: reading finds the value, setting checks it and holds for this process.

    `del config.engine` forgets what code had set. `print(config)` shows all of them.
    """

    engine: str
    progress: str
    memory_limit: float | int
    single_precision: bool
    julia_exe: str | None
    julia_project: str | None
    julia_threads: int | str | None
    julia_handle_signals: bool | None
    julia_heap_size_hint: str | None
    julia_sysimage: str | None
    require_julia: bool

    def __init__(self) -> None:
        object.__setattr__(self, "_code", {})
        object.__setattr__(self, "_files", {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.setting(name).value

    def __setattr__(self, name: str, value: Any) -> None:
        self._code[name] = self._checked(name, value)

    def __delattr__(self, name: str) -> None:
        self._option(name)
        self._code.pop(name, None)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *OPTIONS]

    def __repr__(self) -> str:
        head = ("option", "value", "from", "environment variable", "")
        rows = [(s.option.name, _shown(s.value), s.source, s.option.env, s.option.description) for s in self.table()]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]
        return "\n".join([*lines, f"config file: {self.path}{'' if self.path.exists() else ' (not there)'}"])

    def setting(self, name: str) -> Setting:
        """The value of one option and where it came from."""
        option = self._option(name)
        if name in self._code:
            return Setting(option, self._code[name], "code")
        # Set but empty counts as not set: a shell has no other short way to unset it for one command.
        if os.environ.get(option.env):
            where = f"in the environment variable {option.env}"
            value = _parse(option, os.environ[option.env], where, f"export {option.env}={{}}")
            return Setting(option, value, f"env {option.env}")
        where, values = self._file()
        if name in values:
            return Setting(option, values[name], where)
        return Setting(option, option.default, "default")

    def table(self) -> list[Setting]:
        """All options with their values and sources, in the order of the documentation."""
        return [self.setting(name) for name in OPTIONS]

    @contextlib.contextmanager
    def override(self, **values: Any) -> Iterator[Config]:
        """Sets options for the length of a `with` block, in every thread of the process; all of them or none."""
        checked = {name: self._checked(name, value) for name, value in values.items()}
        before = {name: self._code[name] for name in checked if name in self._code}
        self._code.update(checked)
        try:
            yield self
        finally:
            for name in checked:
                self._code.pop(name, None)
            self._code.update(before)

    def julia_environment(self) -> tuple[str, str] | None:
        """The configured pair (executable, project), or None. Both come from one source: half a pair is an error."""
        names = ("julia_exe", "julia_project")
        exe, project = map(self.setting, names)
        if exe.value is None and project.value is None:
            return None
        if exe.source.split()[0] != project.source.split()[0] or None in (exe.value, project.value):
            raise InvalidInputError(
                "`julia_exe` and `julia_project` go together: set both in one place, or neither.",
                got=", ".join(f"{n}={s.value!r} ({s.source})" for n, s in zip(names, (exe, project), strict=True)),
                fix=_pair_fix(exe, project),
            )
        return exe.value, project.value

    def memory_limit_bytes(self) -> int:
        """`memory_limit` in bytes: a share is one of the memory this process may use."""
        limit = self.memory_limit
        return int(limit * available_memory()) if isinstance(limit, float) else limit

    def unknown_environment(self) -> dict[str, str | None]:
        """Environment variables that look like pysciml's and are not, each with the name it may have meant."""
        known = [option.env for option in OPTIONS.values()]
        odd = [name for name in os.environ if name.upper().startswith("PYSCIML_") and name not in known]
        lower = {name.lower(): name for name in known}
        return {name: lower.get(_close(name, lower) or "") for name in sorted(odd)}

    @property
    def path(self) -> Path:
        """The user's config file, whether it is there or not."""
        return _config_folder() / "pysciml" / "config.toml"

    def save(self, **values: Any) -> Path:
        """Writes options to the config file, for all later processes; other lines and comments stay as they are."""
        checked = {name: self._checked(name, value) for name, value in values.items()}
        (_, values), there = self._file(), self.path.exists()
        new = _edited(self.path.read_text("utf-8") if there else "", checked)
        if not self._reads_as(new, {**values, **checked}):
            raise InvalidInputError(
                f"The config file {self.path} has a form that cannot be edited by a program.",
                expected="one `name = value` a line",
                fix="write by hand: " + "; ".join(_edited("", {name: checked[name]}).strip() for name in checked),
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f"config.toml.{os.getpid()}")
        temporary.write_text(new, "utf-8")
        temporary.replace(self.path)
        self.reload()
        return self.path

    def reload(self) -> None:
        """Reads the config file again at the next use of an option."""
        self._files.clear()

    def _option(self, name: str) -> Option:
        if name not in OPTIONS:
            raise _unknown(name, "as an attribute of `pysciml.config`")
        return OPTIONS[name]

    def _checked(self, name: str, value: Any) -> Any:
        option = self._option(name)
        if value is None and option.default is None:
            return None
        return _parse(option, value, "set in code", f"pysciml.config.{name} = {{!r}}")

    def _file(self) -> tuple[str, dict[str, Any]]:
        """What the user's file is called as a source, and the values in it."""
        # Keyed by what the path comes from: working out a path costs more than the rest of a look-up.
        home = tuple(map(os.environ.get, _FOLDER_VARIABLES[sys.platform == "win32"]))
        if home not in self._files:
            path = self.path
            self._files[home] = f"file {path}", self._read(path.read_text("utf-8")) if path.is_file() else {}
        return self._files[home]

    def _reads_as(self, text: str, values: dict[str, Any]) -> bool:
        try:
            return self._read(text) == {name: value for name, value in values.items() if value is not None}
        except InvalidInputError:
            return False

    def _read(self, text: str) -> dict[str, Any]:
        toml = _toml()
        try:
            raw = toml.loads(text)
        except toml.TOMLDecodeError as error:
            raise InvalidInputError(
                f"The config file {self.path} is not TOML: {error}.", fix="correct that line, or delete the file"
            ) from None
        where = f"in the config file {self.path}"
        for name in raw:
            if name not in OPTIONS:
                raise _unknown(name, where)
        return {name: _parse(OPTIONS[name], value, where, f'{name} = "{{}}"') for name, value in raw.items()}


def _pair_fix(exe: Setting, project: Setting) -> str:
    """The line to type. `julia use` is of no help where one half comes from the environment, which wins."""
    here = [s.option.env for s in (exe, project) if s.source.startswith("env")]
    if here:
        return f"unset {' '.join(here)}"
    return "python -m pysciml julia use --exe /path/to/bin/julia --project /path/to/project"


def _toml() -> Any:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib


def _edited(text: str, values: Mapping[str, Any]) -> str:
    """`text` with a line `name = value` for each value: in place of the old one, or at the end."""
    for name, value in values.items():
        # TOML's basic strings, numbers and booleans are written as JSON writes them, and None is said by leaving out.
        line = "" if value is None else f"{name} = {json.dumps(value, ensure_ascii=False)}\n"
        old = re.compile(rf"^[ \t]*{name}[ \t]*=.*(\n|\Z)", re.MULTILINE)
        if old.search(text):
            text = old.sub(line.replace("\\", r"\\"), text)
        else:
            text += ("" if text.endswith("\n") or not text else "\n") + line
    return text


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


_FOLDER_VARIABLES = {True: ("XDG_CONFIG_HOME", "APPDATA", "USERPROFILE"), False: ("XDG_CONFIG_HOME", "HOME")}


def _config_folder() -> Path:
    if os.environ.get("XDG_CONFIG_HOME"):
        return Path(os.environ["XDG_CONFIG_HOME"])
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    return Path.home() / ("Library/Application Support" if sys.platform == "darwin" else ".config")


@functools.cache
def available_memory() -> int:
    """Bytes of memory this process may use: the machine's, or less where a container's limit is lower."""
    limits = [_physical_memory()]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # not Linux, the other cgroup version, or "max": no limit
            limits.append(int(Path(file).read_text()))
    return min(limits)


def _physical_memory() -> int:
    if sys.platform == "win32":
        import ctypes

        class Status(ctypes.Structure):
            _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong), ("total", ctypes.c_ulonglong),
                        ("rest", ctypes.c_ulonglong * 6)]  # fmt: skip

        status = Status(length=ctypes.sizeof(Status))
        ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.total)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


config = Config()
