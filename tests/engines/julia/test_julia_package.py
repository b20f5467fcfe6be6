"""The Julia package's own tests, in Julia alone."""

from __future__ import annotations

import subprocess

import pytest

from pysciml.engines.julia import environment

pytestmark = [pytest.mark.julia, pytest.mark.timeout(900)]


def test_the_julia_package_passes_its_own_tests():
    found, folder = environment.required(), environment.package_folder()
    code = f"push!(LOAD_PATH, {str(folder)!r}); include({str(folder / 'test' / 'runtests.jl')!r})".replace("'", '"')
    command = [found.exe, f"--project={found.project}", "--startup-file=no", "-e", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)  # as long as compiling all takes
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a backward solve that stops throws" in done.stdout
