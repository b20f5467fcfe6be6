"""The search itself, by PySR on Julia: skipped, with the reason, where one of them is not here."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import output, process

import pysciml as ps
from pysciml.discovery import symbolic_search
from pysciml.discovery.symbolic_search import check_installed, fits
from pysciml.engines.julia import environment
from pysciml.engines.julia.environment import Environment

F64 = torch.float64


def lacking() -> str | None:
    """What the search lacks here, in words."""
    try:
        check_installed()
    except ps.PySciMLError as error:
        return f"{error.what} {error.got or ''}"
    return None


searches = [pytest.mark.julia, pytest.mark.slow,
            pytest.mark.skipif(lacking() is not None, reason=f"no symbolic search: {lacking()}")]  # fmt: skip


def samples(count: int = 100) -> torch.Tensor:
    return 3 * torch.rand(count, 2, generator=torch.Generator().manual_seed(0), dtype=F64)


def search(x, y, **options):
    return ps.discover_symbolic(x, y, **{"names": ("x", "y"), "niterations": 15, "populations": 8, **options})


class TestSearch:
    pytestmark = searches

    def test_a_law_is_found_and_comes_out_the_same_again(self):
        x = samples()
        law = search(x, x[:, 0] * x[:, 1] - 0.5 * x[:, 0], targets=("dx",), maxsize=12)
        assert {str(symbol) for symbol in law.sympy()["dx"].free_symbols} == {"x", "y"}
        torch.testing.assert_close(law(x)[:, 0], x[:, 0] * x[:, 1] - 0.5 * x[:, 0], rtol=1e-4, atol=1e-4)
        assert law.formulas[0].complexity <= 7
        assert float(law.r2) > 1 - 1e-9
        assert [f.complexity for f in law.fronts[0]] == sorted(f.complexity for f in law.fronts[0])
        again = search(x, x[:, 0] * x[:, 1] - 0.5 * x[:, 0], targets=("dx",), maxsize=12)
        assert again.fronts == law.fronts

    def test_several_targets_with_functions_and_operators_of_ones_own(self):
        x = samples()
        y = torch.stack([torch.exp(-x[:, 0]), 2 * x[:, 1] / (1 + x[:, 1])], dim=1)
        law = search(
            x, y, unary_operators=("exp", "hill(x) = x / (1 + x)"), functions={"hill": lambda x: x / (1 + x)},
            weights=torch.ones(100), maxsize=10, parsimony=1e-4,
        )  # fmt: skip
        torch.testing.assert_close(law(x), y, rtol=1e-3, atol=1e-3)
        assert len(law.fronts) == 2

    def test_the_formula_chosen_is_the_one_pysr_would_choose(self):
        import pysr

        x = samples()
        y = x[:, 0] ** 2 - x[:, 1] + 0.3 * torch.randn(100, generator=torch.Generator().manual_seed(1), dtype=F64)
        options = {"maxsize": 12, "niterations": 10, "populations": 8}
        for rule in ("best", "accuracy", "score"):
            law = search(x, y, model_selection=rule, **options)
            model = pysr.PySRRegressor(
                model_selection=rule, binary_operators=["+", "-", "*", "/"], deterministic=True, random_state=0,
                parallelism="serial", progress=False, verbosity=0, temp_equation_file=True, **options,
            )  # fmt: skip
            model.fit(x.numpy(), y.numpy())
            assert [f.loss for f in law.fronts[0]] == model.equations_["loss"].tolist()
            assert law.formulas[0].complexity == model.get_best()["complexity"]
            np.testing.assert_allclose(law(x)[:, 0].numpy(), model.predict(x.numpy()), rtol=1e-5, atol=1e-5)

    def test_an_error_of_julias_is_told(self):
        x = samples(20)
        with pytest.raises(ps.PySciMLError, match="symbolic search failed in Julia"):
            search(x, x[:, 0], unary_operators=("nonsense(x) = not_there(x)",), functions={"nonsense": lambda x: x})

    @pytest.mark.parametrize("first", ["pysciml", "pysr"])
    def test_whichever_is_first_both_run_in_one_process(self, first):
        """PySR starts Julia when it is imported, pysciml when it first needs it."""
        printed = output(
            f"""
            import warnings
            warnings.simplefilter("ignore")  # PySR and juliacall warn of each other, whoever comes first
            import torch
            if {first == "pysr"}:
                import pysr
            import pysciml as ps
            u0 = torch.ones(2, dtype=torch.float64, requires_grad=True)
            prob = ps.ODEProblem(lambda t, u: -u, u0, (0.0, 1.0))
            def solved():
                sol = ps.solve(prob, ps.Tsit5(), engine="julia")
                return round(sol.u[-1, 0].item(), 4), torch.autograd.grad(sol.u[-1].sum(), u0)[0][0].item() > 0.36
            before = solved() if {first == "pysciml"} else None
            x = torch.rand(30, 2, dtype=torch.float64)
            law = ps.discover_symbolic(x, x[:, 0] * x[:, 1], niterations=3, populations=3, maxsize=7)
            print(before, solved(), law.equations)
            """,
            timeout=280,
        )
        assert "(0.3679, True) ['y0 = x" in printed


@pytest.mark.julia
@pytest.mark.slow
def test_another_packages_julia_in_another_project_is_named(tmp_path):
    """With packages missing there, pysciml's cannot be loaded, and the reason is not Julia's text about that."""
    found = environment.required()
    text = (Path(found.project) / "Manifest.toml").read_text()
    start = text.index("[[deps.SciMLBase]]")
    (tmp_path / "Manifest.toml").write_text(text[:start] + text[text.index("[[deps.", start + 8) :])
    (tmp_path / "Project.toml").write_text('[deps]\nPythonCall = "6099a3de-0909-46bc-b1f4-468b9a2dfc0d"\n')
    code = f"""
        import os, torch
        os.environ["PYTHON_JULIACALL_PROJECT"] = {str(tmp_path)!r}
        import warnings
        warnings.simplefilter("ignore")
        import juliacall
        os.environ["PYTHON_JULIACALL_PROJECT"] = {found.project!r}
        import pysciml as ps
        try:
            ps.solve(ps.ODEProblem(lambda t, u: -u, torch.ones(1), (0.0, 1.0)), ps.Tsit5(), engine="julia")
        except ps.EngineMissingError as error:
            print(error)
        """
    printed = process(code, PYTHON_JULIACALL_EXE=found.exe).stdout
    assert "Julia runs in this process already, started by another package" in printed
    assert f"Got Julia in {tmp_path}" in printed
    assert f"Fix: export PYTHON_JULIACALL_EXE={found.exe} PYTHON_JULIACALL_PROJECT={found.project}" in printed


# What is said without PySR or without its Julia package: no search.


def pretend(monkeypatch, tmp_path, there: str | None, wanted: str = "~2.4.1", source: str = "env"):
    """A project with this version of the package, and a PySR that wants another."""
    package = "" if there is None else f'[[deps.SymbolicRegression]]\nversion = "{there}"\n'
    (tmp_path / "Manifest.toml").write_text(package)
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "juliapkg.json").write_text(json.dumps({"packages": {"SymbolicRegression": {"version": wanted}}}))
    spec = importlib.util.spec_from_file_location("pysr", tmp_path / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(symbolic_search.metadata, "version", lambda name: "2.4.1")
    monkeypatch.setattr(environment, "required", lambda: Environment("julia", str(tmp_path), source))


def test_without_pysr_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ps.MissingExtraError, match=r"pysciml\[symbolic\]"):
        search(samples(), samples())


def test_without_its_julia_package_the_error_has_the_line_that_adds_it(monkeypatch, tmp_path):
    pretend(monkeypatch, tmp_path, None)
    with pytest.raises(
        ps.EngineMissingError, match=r'no package SymbolicRegression[\s\S]*~2\.4\.1[\s\S]*version="2\.4"'
    ):
        search(samples(), samples())
    pretend(monkeypatch, tmp_path, None, source="julia install")
    with pytest.raises(ps.EngineMissingError, match=r"python -m pysciml julia install   \(again"):
        search(samples(), samples())


def test_another_version_of_its_julia_package_is_told_before_the_search(monkeypatch, tmp_path):
    pretend(monkeypatch, tmp_path, "2.3.9")
    with pytest.raises(ps.EngineMissingError, match=r"PySR 2\.4\.1 needs another version[\s\S]*2\.3\.9"):
        search(samples(), samples())
    pretend(monkeypatch, tmp_path, "2.4.7")
    check_installed()


def test_versions_are_compared_as_julia_does():
    assert fits("2.4.1", "~2.4.1")
    assert fits("2.4.9", "~2.4.1")
    assert not fits("2.5.0", "~2.4.1")
    assert not fits("2.0.0-alpha.9", "~2.0.0")
    assert fits("1.11.3", "")


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"model_selection": "nicest"}, ps.InvalidInputError, "nicest"),
        ({"weights": torch.ones(3)}, ps.InvalidInputError, "weights must be one a sample"),
        ({"weights": -torch.ones(100)}, ps.InvalidInputError, "not negative"),
        ({"names": ("x",)}, ps.InvalidInputError, "names must be one for each column"),
        ({"unary_operators": ("gamma",)}, ps.UnsupportedError, "`gamma`"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, error, match):
    with pytest.raises(error, match=match):
        search(samples(), samples()[:, 0], **options)


def test_pysrs_packages_and_pysciml_s_can_be_in_one_julia_project():
    """juliapkg installs both in one project: their bounds must leave a version of each package that both name."""
    from juliapkg.compat import Compat

    pysr = importlib.util.find_spec("pysr")
    if pysr is None:
        pytest.skip("PySR is not installed")
    theirs = json.loads(Path(pysr.origin).with_name("juliapkg.json").read_text())
    ours = json.loads((Path(ps.__file__).with_name("juliapkg.json")).read_text())
    assert (Compat.parse(theirs["julia"]) & Compat.parse(ours["julia"])).clauses
    for name in set(theirs["packages"]) & set(ours["packages"]):
        assert (
            Compat.parse(theirs["packages"][name]["version"]) & Compat.parse(ours["packages"][name]["version"])
        ).clauses
