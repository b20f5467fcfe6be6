"""`python -m pysciml julia install`: Julia and the engine's packages, by juliapkg, with what it does on the screen."""

from __future__ import annotations

import os
import subprocess
import sys

from pysciml.config import config
from pysciml.engines.julia import environment
from pysciml.errors import EngineMissingError

# Loading compiles what the installation has not, and shows that everything is there.
_FIRST_START = "from pysciml.engines.julia.runtime import call; call('load_adjoints')"


def install() -> environment.Environment:
    """Downloads Julia, where there is none, and the packages; compiles them; starts Julia once. It takes minutes.

    Raises:
        EngineMissingError: a step failed; with the reason and what to do, without a network too.
    """
    _announce()
    _resolve()
    found = environment.installed()
    if found is None:
        raise _error("juliapkg ended well, but not all packages are in its project", "the packages were not added")
    print("Starting Julia once; what was not compiled yet is compiled now.", flush=True)
    done = subprocess.run([sys.executable, "-c", _FIRST_START], env=_without_pair(), check=False)  # noqa: S603
    if done.returncode:
        raise _error(
            "Julia and its packages are installed, but do not start", f"status {done.returncode}, reason above"
        )
    return found


def _announce() -> None:
    print(f"Installing Julia's packages for pysciml into {environment.juliapkg_project()}.")
    print(f"{len(environment.wanted())} packages with all they need, and Julia itself where there is none: some GB on")
    print(
        "disk, and 10 to 30 minutes, most of them compiling. It is done once, and may be interrupted and begun again."
    )
    pair = config.julia_environment()
    if pair:
        print(f"Note: pysciml will go on using {pair[0]}, which {config.setting('julia_exe').source} names.")
    sys.stdout.flush()


def _resolve() -> None:
    import juliapkg

    try:
        juliapkg.resolve(force=True)
    except subprocess.CalledProcessError as error:
        program = os.path.basename(str(error.cmd[0]))
        raise _error(f"a step of {program} ended with status {error.returncode}", "its own words are above") from None
    except Exception as error:  # juliapkg raises plain ones, and whatever the network's libraries raise
        raise _error("Julia or its packages could not be installed", f"{type(error).__name__}: {error}") from error


def _without_pair() -> dict[str, str]:
    """The environment without a configured Julia, which would win over the installed one."""
    pair = ("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT")
    nowhere = {"XDG_CONFIG_HOME": os.devnull, "APPDATA": os.devnull}
    return {name: value for name, value in os.environ.items() if name not in pair} | nowhere


def _error(what: str, got: str) -> EngineMissingError:
    return EngineMissingError(
        f"The installation stopped: {what}.", got=got,
        expected="a network that reaches Julia's servers and those of its packages, or no network at all and a Julia "
        "environment made elsewhere",
        fix=f"{environment.INSTALL}   (again: it goes on where it stopped)\n"
        f"(or, without a network: {environment.USE}\n where the project has these packages: "
        f"{', '.join(environment.needed())};\n or solve with what is here: engine=\"embedded\")",
    )  # fmt: skip
