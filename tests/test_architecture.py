"""The house rules that can be read off the source: where imports point, how long things are, what is documented."""

from __future__ import annotations

import ast
import statistics
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import pysciml

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pysciml"

# A module may import from layers before its own, and from its own without a circle. A name stands for a module or a
# folder right under pysciml/; "pysciml" is the package's own __init__, the face that only what is behind it may use.
LAYERS = (
    {"_version", "errors", "config", "datasets", "under_compile"},
    {"first_order", "transforms", "progress"},
    {"rhs", "algorithms", "sensitivity", "callbacks"},
    {"problems"},
    {"solution"},
    {"engines"},
    {"derivatives", "roots"},
    {"autograd"},
    {"control"},
    {"flat"},
    {"events"},
    {"solve_ode"},
    {"stochastic", "delay", "steady", "boundary", "jumps"},
    {"solve"},
    {"odeint", "sdeint"},
    {"fit", "discovery", "nn", "ensemble", "plot"},
    {"pysciml"},
    {"de", "sklearn", "lightning"},
    {"demo"},
    {"__main__"},
)
LAYER = {name: depth for depth, names in enumerate(LAYERS) for name in names}

# The exceptions: importing module, imported module, reason. Each import is inside a function, so it runs when called.
SHORTCUTS = {
    (
        "pysciml.solution.solution",
        "pysciml.plot",
    ): "`solution.plot()` is only a short way to write `plot_solution(solution)`",
}

LONGEST_FUNCTION, LONGEST_FILE, MEDIAN_FUNCTION = 80, 600, 10


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """`pysciml.rhs.trace` for pysciml/rhs/trace.py, `pysciml.rhs` for its __init__."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sources("pysciml")}


def group(module: str) -> str:
    return module.split(".")[1] if "." in module else "pysciml"


def checked_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, function bodies too, but for the bodies of `if TYPE_CHECKING`, which never run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield from (other, *checked_nodes(other))
        else:
            yield from (node, *checked_nodes(node))


def imported(source: str, module: str, is_package: bool = False, modules=frozenset(MODULES)) -> set[str]:
    """The modules of pysciml that this source imports, at any depth, relative imports resolved."""
    found = set()
    for node in checked_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) + is_package - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            # `from a import b` imports the module a.b where there is one, else something that a defines.
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in modules else base for a in node.names}
    return {name for name in found if name.split(".")[0] == "pysciml"}


def allowed(name: str) -> set[str]:
    return {name} | {other for importer, other in SHORTCUTS if importer == name}


IMPORTS = {
    name: imported(path.read_text("utf-8"), name, path.name == "__init__.py") - allowed(name)
    for name, path in MODULES.items()
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from pysciml.errors import PySciMLError", {"pysciml.errors"}),
        ("def f():\n    import pysciml.solve as s", {"pysciml.solve"}),
        ("from pysciml import config", {"pysciml.config"}),
        ("from pysciml import solve", {"pysciml"}),
        ("from .graph import Graph\nfrom .. import errors", {"pysciml.rhs.graph", "pysciml.errors"}),
        ("import torch\nfrom pathlib import Path", set()),
        ("if TYPE_CHECKING:\n    import pysciml.solve\nelse:\n    import pysciml.config", {"pysciml.config"}),
        ("class A:\n    if typing.TYPE_CHECKING:\n        from pysciml.fit import fit", set()),
    ],
)
def test_the_reader_of_imports_sees_them_all(source, expected):
    modules = {"pysciml.config", "pysciml.errors", "pysciml.rhs.graph"}
    assert imported(source, "pysciml.rhs.trace", modules=modules) == expected


def test_the_reader_of_imports_knows_packages():
    modules = {"pysciml.errors", "pysciml.rhs.graph"}
    source = "from .graph import Graph\nfrom ..errors import PySciMLError"
    assert imported(source, "pysciml.rhs", is_package=True, modules=modules) == modules


def test_every_module_has_its_layer():
    missing = {group(name) for name in MODULES} - set(LAYER)
    assert not missing, f"give {missing} a place in LAYERS, and in DESIGN and CONTRIBUTING"


@pytest.mark.parametrize(("name", "other"), SHORTCUTS)
def test_the_exceptions_are_in_use_and_inside_functions(name, other):
    tree = ast.parse(MODULES[name].read_text("utf-8"))
    top = ast.Module([n for n in tree.body if not isinstance(n, (ast.FunctionDef, ast.ClassDef))], [])
    assert other in imported(ast.unparse(tree), name)
    assert other not in imported(ast.unparse(top), name)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_one_way(name):
    wrong = {other for other in IMPORTS[name] if LAYER[group(other)] > LAYER[group(name)]}
    assert not wrong, f"{name} is in a layer before that of {sorted(wrong)}"


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of the graph, or nothing."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        found = next(filter(None, (walk(other, [*path, node]) for other in sorted(graph.get(node, ())))), [])
        done.add(node)
        return found

    return next(filter(None, (walk(node, []) for node in sorted(graph))), [])


def test_no_circles_among_modules_nor_among_folders():
    groups: dict[str, set[str]] = {}
    for name, others in IMPORTS.items():
        groups.setdefault(group(name), set()).update(group(other) for other in others if group(other) != group(name))
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle(groups) == []
    assert circle(IMPORTS) == []


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text("utf-8"))
    return (n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines, without those of the docstring: nobody shall be kept from writing one."""
    text = ast.get_docstring(node, clean=False)
    return node.end_lineno - node.lineno + 1 - (text.count("\n") + 1 if text is not None else 0)


def test_functions_and_files_are_small():
    files = sources("pysciml", "tests", "benchmarks")
    long = [f"{p.relative_to(ROOT)}:{f.name} {length(f)}" for p in files for f in functions(p)
            if length(f) > LONGEST_FUNCTION]  # fmt: skip
    long += [f"{p.relative_to(ROOT)} {n}" for p in files if (n := p.read_text("utf-8").count("\n")) > LONGEST_FILE]
    assert not long


def test_the_median_function_is_small():
    assert statistics.median(length(f) for path in sources("pysciml") for f in functions(path)) <= MEDIAN_FUNCTION


def public_names() -> list[str]:
    return sorted(getattr(pysciml, "__all__", None) or (n for n in dir(pysciml) if not n.startswith("_")))


@pytest.mark.parametrize("name", public_names())
def test_public_names_have_docstrings(name):
    value = getattr(pysciml, name)
    if isinstance(value, (str, types.ModuleType)):
        return  # __version__, and folders that something else has imported: the linter asks for theirs
    own = vars(value).get("__doc__") if isinstance(value, type) else getattr(value, "__doc__", None)
    written = own and not own.startswith(f"{name}(")  # dataclasses without one get their signature
    assert written, f"pysciml.{name} has no docstring of its own"
