"""The first start compiles for minutes, which is said beforehand; others say nothing."""

from __future__ import annotations

import os

import pytest
from processes import process

from pysciml.engines.julia import environment


@pytest.fixture
def package(tmp_path):
    """A Julia package, last changed at the time 1000, and a place for what is compiled of it."""
    (tmp_path / "src" / "inner").mkdir(parents=True)
    (tmp_path / "test").mkdir()
    for name, changed in (("src/P.jl", 500), ("src/inner/a.jl", 1000), ("test/runtests.jl", 9000)):
        (tmp_path / name).write_text("")
        os.utime(tmp_path / name, (changed, changed))
    return tmp_path


@pytest.mark.parametrize(("caches", "expected"), [((), False), ((900,), False), ((900, 1100), True)])
def test_a_package_is_compiled_if_a_cache_is_newer(package, caches, expected):
    folder = package / "compiled"
    for i, time in enumerate(caches):
        folder.mkdir(exist_ok=True)
        (folder / f"{i}.ji").write_text("")
        os.utime(folder / f"{i}.ji", (time, time))
    assert environment.compiled_since(folder, package) is expected


START = """
from pysciml.engines.julia import environment, runtime
environment.compiled_since = lambda *_: {newer}
runtime._IS_COMPILED = {fits!r}
runtime.julia()
"""


@pytest.mark.julia
@pytest.mark.parametrize(("newer", "fits", "said"), [
    (True, "error()", False), (False, "true", False), (False, "false", True),
])  # fmt: skip
def test_what_takes_minutes_is_said_beforehand(newer, fits, said):
    done = process(START.format(newer=newer, fits=fits))
    assert done.returncode == 0, done.stderr
    assert ("Julia compiles pysciml's package" in done.stderr) == said


ASK = """
import juliacall
from pysciml.engines.julia import runtime
runtime.julia()
for text in (runtime._IS_COMPILED, runtime._CACHES):
    print(juliacall.newmodule("Asked").seval(text))
"""


@pytest.mark.julia
def test_julia_says_that_it_is_compiled():
    told, folder = process(ASK).stdout.splitlines()
    assert told == "True"
    assert os.path.isdir(folder)
