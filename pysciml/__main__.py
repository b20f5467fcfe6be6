"""The command line: `python -m pysciml demo | doctor | versions | julia install | julia use`."""

from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any

from pysciml._version import __version__
from pysciml.config import config
from pysciml.engines.julia import environment
from pysciml.engines.julia.doctor import Finding
from pysciml.engines.julia.doctor import checks as julia_checks
from pysciml.errors import InvalidInputError, PySciMLError

PACKAGES = ("torch", "numpy", "casadi", "torchdiffeq", "juliacall", "tqdm", "matplotlib", "pysindy", "scikit-learn")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0, 1 when it failed, 2 when the command line is wrong."""
    arguments = vars(_parser().parse_args(argv))
    command = arguments.pop("run")
    try:
        return command(**arguments)
    except PySciMLError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough; Python must not complain of it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pysciml", description="Neural networks inside differential equations: torch in, SciML's solvers under it."
    )
    parser.add_argument("--version", action="version", version=f"pysciml {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_demo(commands)
    doctor = commands.add_parser("doctor", help="check what works on this machine, and say what to do where it doesn't")
    doctor.set_defaults(run=_doctor)
    versions = commands.add_parser("versions", help="print the versions a bug report needs")
    versions.set_defaults(run=_versions)
    _add_julia(commands)
    return parser


def _add_demo(commands: argparse._SubParsersAction) -> None:
    demo = commands.add_parser(
        "demo",
        help="fit a universal differential equation to the lynx-hare data",
        description="Fits a universal differential equation to the Hudson Bay lynx-hare data, shows what it found, "
        "and saves a figure.",
        argument_default=argparse.SUPPRESS,  # what is not given is the demo's own to choose
    )
    demo.add_argument("--output", metavar="PATH", help="where to save the figure")
    demo.add_argument("--epochs", type=_positive, metavar="N", help="training epochs")
    demo.add_argument("--quiet", action="store_true", help="print the result alone")
    demo.set_defaults(run=_demo)


def _add_julia(commands: argparse._SubParsersAction) -> None:
    julia = commands.add_parser("julia", help="install Julia and its packages, or choose your own")
    actions = julia.add_subparsers(required=True, metavar="action")
    use = actions.add_parser(
        "use",
        help="remember a Julia executable and a project",
        description="Writes both to the config file, for a machine that brings its own Julia and packages.",
    )
    use.add_argument("--exe", required=True, metavar="PATH", help="the julia executable, or its name on PATH")
    use.add_argument("--project", required=True, metavar="FOLDER", help="the folder with the Project.toml")
    use.set_defaults(run=_julia_use)
    install = actions.add_parser(
        "install",
        help="download Julia and the packages (minutes, some GB)",
        description="Downloads Julia, where there is none, and the packages of the julia engine, and compiles them.",
    )
    install.set_defaults(run=_julia_install)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


# demo


def _demo(**options: Any) -> int:
    from pysciml.demo import main as demo

    demo(**options)
    return 0


# versions


def _versions() -> int:
    rows = [("pysciml", __version__), ("python", platform.python_version()), ("platform", platform.platform())]
    rows += [(package, _installed(package)) for package in PACKAGES]
    rows.append(("julia", _julia_found() or "not found"))
    rows += _julia_packages()
    _print_rows(rows)
    return 0


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _julia_found() -> str | None:
    """The configured executable, else the one on PATH. It isn't started: a launcher may begin to download there."""
    found = environment.find()
    if found:
        return f"{found.exe} (project {found.project}, from {found.source})"
    exe = shutil.which("julia")
    return f"{exe} (on PATH, not configured)" if exe else None


def _julia_packages() -> list[tuple[str, str]]:
    """The Julia packages a bug report needs, with the versions in the project."""
    found = environment.find()
    there = environment.manifest(found.project) if found else {}
    return [(name, there[name]) for name in environment.needed() if name in there]


def _print_rows(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


# doctor


def _doctor() -> int:
    fine = True
    for check in (_check_options, _check_packages, _check_embedded, _check_julia):
        for finding in _guarded(check):
            mark = {True: "ok", False: "FAIL", None: "--"}[finding.fine]
            print(f"{mark:<4}  {finding.name}: {finding.text}")
            for k, line in enumerate(finding.fix.splitlines()):
                print(f"      {'or' if k else 'fix'}: {line}")
            sys.stdout.flush()  # the next check may take a while
            fine = fine and finding.fine is not False
    print("pysciml works on this machine." if fine else "pysciml has problems here; see the lines marked FAIL.")
    return 0 if fine else 1


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What `check` finds; an exception in it is a finding too, since to report is what a doctor is for."""
    try:
        yield from check()
    except PySciMLError as error:
        text = error.what + (f" Got {error.got}." if error.got else "")
        yield Finding(check.__name__.removeprefix("_check_"), False, text, error.fix or "")
    except Exception as error:  # any other library's failure, on any machine
        yield Finding(check.__name__.removeprefix("_check_"), False, f"{type(error).__name__}: {error}")


def _check_options() -> Iterator[Finding]:
    for name, meant in config.unknown_environment().items():
        fix = f"did you mean {meant}?" if meant else "print(pysciml.config) lists those it reads"
        yield Finding("environment", False, f"pysciml does not read {name}", fix)
    changed = [s for s in config.table() if s.source != "default"]
    text = ", ".join(f"{s.option.name}={s.value} ({s.source})" for s in changed)
    yield Finding("options", True, text or "all at their defaults")


def _check_packages() -> Iterator[Finding]:
    """The optional ones: without the others pysciml would not have been installed."""
    from importlib.util import find_spec

    for extra, modules in {"plot": ("matplotlib",), "discovery": ("pysindy", "sklearn")}.items():
        missing = [module for module in modules if find_spec(module) is None]
        fix = f'pip install "pysciml[{extra}]"' if missing else ""
        yield Finding(f"extra {extra}", None if missing else True, "not installed" if missing else "installed", fix)


def _check_embedded() -> Iterator[Finding]:
    """Solves du/dt = -p u and compares the state and the gradient with the exact ones."""
    import torch

    import pysciml as ps

    p = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    u0 = torch.ones(1, dtype=torch.float64)
    problem = ps.ODEProblem(lambda t, u, p: -p * u, u0, tspan=(0.0, 2.0), p=p)
    solution = ps.solve(problem, ps.CVODE_BDF(), saveat=[2.0], reltol=1e-8, abstol=1e-10, engine="embedded")
    (gradient,) = torch.autograd.grad(solution.u[-1].sum(), p)
    exact = math.exp(-1.4)
    errors = abs(solution.u[-1].item() - exact), abs(gradient.item() + 2 * exact)
    text = f"solved a test problem with CVODE_BDF: error {errors[0]:.1e}, of its gradient {errors[1]:.1e}"
    yield Finding("embedded engine", max(errors) < 1e-5, text)


def _check_julia() -> Iterator[Finding]:
    yield from julia_checks()


# julia use


def _julia_use(exe: str, project: str) -> int:
    found = shutil.which(os.path.expanduser(exe))
    if found is None:
        there = os.path.exists(os.path.expanduser(exe))
        raise InvalidInputError(
            "The Julia executable cannot be run.",
            got=f"--exe {exe}, which is {'not an executable file' if there else 'not there'}",
            expected="the path of the `julia` program, as `which julia` prints it",
        )
    folder = os.path.abspath(os.path.expanduser(project))
    if not any(os.path.isfile(os.path.join(folder, name)) for name in ("Project.toml", "JuliaProject.toml")):
        raise InvalidInputError(
            "The Julia project has no Project.toml.", got=f"--project {project}", expected="a folder that holds one"
        )
    path = config.save(julia_exe=os.path.abspath(found), julia_project=folder)
    print(f"{path} now names {os.path.abspath(found)} with the project {folder}.")
    if config.setting("julia_exe").source != f"file {path}":
        print(f"But the environment variables win over it in this shell: {environment.UNSET}")
    print("The julia engine will use them; `python -m pysciml doctor` tries them.")
    return 0


# julia install


def _julia_install() -> int:
    from pysciml.engines.julia.install import install

    found = install()
    print(f"Julia is ready: {found.exe} with the project {found.project}. The julia engine will use it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
