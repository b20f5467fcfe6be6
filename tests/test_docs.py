"""What the documentation shows, runs."""

from __future__ import annotations

import doctest
import importlib
import pathlib
import pkgutil
import re

import pytest

import pysciml

ROOT = pathlib.Path(__file__).parent.parent
MODULES = sorted(m.name for m in pkgutil.walk_packages(pysciml.__path__, "pysciml.") if not m.name.endswith("__main__"))


def with_examples() -> list[str]:
    finder = doctest.DocTestFinder()
    return [name for name in MODULES if any(t.examples for t in finder.find(importlib.import_module(name)))]


@pytest.mark.parametrize("name", with_examples())
def test_docstring_examples(name):
    failures, count = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert count > 0
    assert failures == 0


# Carlson, "Über Geschwindigkeit und Größe der Hefevermehrung in Würze", Biochem. Z. 57 (1913): hour by hour.
YEAST = (9.6, 18.3, 29.0, 47.2, 71.1, 119.1, 174.6, 257.3, 350.7, 441.0, 513.3, 559.7, 594.8, 629.4, 640.8, 651.1,
         655.9, 659.6, 661.8)  # fmt: skip


def test_the_readme_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    pathlib.Path("growth.csv").write_text("hours,biomass\n" + "".join(f"{hour},{y}\n" for hour, y in enumerate(YEAST)))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    fitted = 0
    for block in blocks:
        scope: dict = {}
        exec(block, scope)  # noqa: S102 - it is our own text
        if "model" in scope:
            assert all(p.grad is not None for p in scope["model"].parameters())
            fitted += 1
        elif "law" in scope:
            assert scope["law"].kept(0) == ["y", "y²"]
            said = re.search(r"# dy/dt = ([\d.]+) y - ([\d.]+) y²", block)
            found = [abs(scope["law"].coefficient(0, term)[0]) for term in ("y", "y²")]
            assert found == pytest.approx([float(x) for x in said.groups()], rel=0.02)
            assert len(block.strip().splitlines()) < 15
        else:
            assert scope["start"].grad.abs().min() > 0
    assert fitted


def test_the_readme_names_only_what_is_there():
    text = (ROOT / "README.md").read_text()
    for name in set(re.findall(r"`ps\.(\w+)", text)):
        assert hasattr(pysciml, name), name
    for path in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (ROOT / path).exists(), path
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make (demo|test|bench|lint)\b", text)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
