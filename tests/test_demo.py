"""The demo as a user runs it, and the parts its honesty rests on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import pysciml as ps
from pysciml.demo.fitting import FIT_YEARS, Data, resampled
from pysciml.demo.models import DTYPE, LynxAndHare, Written

ROOT = Path(__file__).parent.parent


def run(*arguments: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    command = [sys.executable, "-W", "error", "-m", "pysciml", "demo", *arguments]
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def row(text: str, name: str) -> list[float]:
    """The numbers in the line of the error table that begins with `name`."""
    line = next(line for line in text.splitlines() if line.startswith(name))
    return [float(x) for x in line.removeprefix(name).split() if x != "-"]


def test_a_quick_run_ends_with_a_figure_and_a_table(tmp_path):
    text = run("--epochs", "6", "--output", "sub/figure.png", cwd=tmp_path)
    with Image.open(tmp_path / "sub" / "figure.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 600
    assert [line[:2] for line in text.splitlines() if re.match(r"\d\. ", line)] == ["1.", "2.", "3.", "4.", "5."]
    assert row(text, "no change from 1915") == [26.8, 2.94]  # needs no fit, so it is known
    assert row(text, "as ten years before") == [7.1, 1.56]
    assert len(row(text, "network")) == 4


def test_quiet_prints_the_result_alone(tmp_path):
    text = run("--epochs", "2", "--quiet", "--output", "figure.png", cwd=tmp_path)
    assert "1. How much freedom" not in text
    assert "Root mean square error" in text


@pytest.mark.slow
def test_the_whole_demo_is_in_time_and_finds_what_the_readme_says(tmp_path):
    text = run(cwd=tmp_path)
    assert (tmp_path / "out" / "lynx_hare.png").exists()
    seconds = float(re.search(r"All of this took (\d+) s", text)[1])
    assert seconds < 90
    network, baseline = row(text, "network"), row(text, "Lotka-Volterra")
    assert baseline == pytest.approx([5.5, 4.9, 1.21, 1.44], abs=0.11)  # four rates: no room for another minimum
    assert network[0] < baseline[0]
    assert network[1] < row(text, "as ten years before")[0]
    assert network[1] < 9
    hares, lynx = (
        re.search(rf"d{x}/dt = (-?[\d.]+) {x} .*?([+-] [\d.]+) H L .*R² .* (0\.\d+|1\.000)", text) for x in "HL"
    )
    assert float(hares[2].replace(" ", "")) == pytest.approx(-0.0217, abs=0.002)
    assert float(lynx[2].replace(" ", "")) == pytest.approx(0.0245, abs=0.003)
    assert min(float(hares[3]), float(lynx[3])) > 0.95
    assert re.search(r"hares +H L +-0\.0\d+ +(100|9\d)%", text)
    assert re.search(r"lynx +H L +0\.0\d+ +(100|9\d)%", text)


def test_the_network_does_nothing_to_one_kind_alone():
    model = LynxAndHare()
    x = torch.rand(20, 2, dtype=DTYPE) + 0.1
    only_hares, only_lynx = x * model.alone[0], x * model.alone[1]
    assert torch.equal(model.per_head(only_hares)[:, 0], torch.zeros(20, dtype=DTYPE))
    assert torch.equal(model.per_head(only_lynx)[:, 1], torch.zeros(20, dtype=DTYPE))
    assert model.per_head(x).abs().min() > 0


def test_the_written_model_is_lotka_and_volterras():
    """In logarithms and scaled, against the equations as they stand in books."""
    data = Data.load()
    rates, coefficients = torch.tensor([0.5, 0.8], dtype=DTYPE), torch.tensor([[-0.02], [0.025]], dtype=DTYPE)
    model = Written(lambda x: x.prod(-1, keepdim=True), coefficients, rates, data.scale)
    written = ps.solve(ps.ODEProblem(model, data.u[0], (0.0, 10.0)), saveat=1.0, reltol=1e-9, abstol=1e-9)

    def book(t, u):
        hares, lynx = u
        return torch.stack([0.5 * hares - 0.02 * hares * lynx, 0.025 * hares * lynx - 0.8 * lynx])

    plain = ps.solve(ps.ODEProblem(book, data.source.pelts[0], (0.0, 10.0)), saveat=1.0, reltol=1e-9, abstol=1e-9)
    assert torch.allclose(data.pelts(written.u), plain.u, rtol=1e-5)


def test_nothing_of_the_held_out_years_reaches_a_fit():
    """Not the scale, not the resampled data."""
    data = Data.load()
    assert torch.allclose(data.scale, data.source.pelts[:FIT_YEARS].mean(0))
    curve = torch.zeros_like(data.u)
    for observed in resampled(data, curve, 5):
        assert observed.shape == (FIT_YEARS, 2)
        known = {tuple(r) for r in data.u[:FIT_YEARS].tolist()}
        assert all(tuple(r) in known for r in observed.tolist())  # whole years, drawn from the fitted ones
