"""torchsde's functions: the same call, the same numbers where the scheme is the same, and its penalty."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
import torchsde
from finite_differences import relative_error
from sde_cases import ENGINES, F64

import pysciml as ps

engines = pytest.mark.parametrize("engine", ENGINES)
TS = torch.linspace(0.0, 1.0, 6, dtype=F64)


class Equation(torch.nn.Module):
    """Like the one in torchsde's README, with all of its kinds of noise; `h` is a prior drift."""

    def __init__(self, noise_type: str, sde_type: str = "ito"):
        super().__init__()
        torch.manual_seed(0)
        self.noise_type, self.sde_type, (self.d, self.m) = noise_type, sde_type, (3, 1 if noise_type == "scalar" else 2)
        self.mu, self.sigma = (
            torch.nn.Linear(self.d, self.d).double(),
            torch.nn.Linear(self.d, self.d * self.m).double(),
        )
        self.level = torch.nn.Parameter(torch.full((self.d, self.m), 0.3, dtype=F64))

    def f(self, t, y):
        return self.mu(y)

    def h(self, t, y):
        return -y

    def g(self, t, y):
        if self.noise_type == "diagonal":
            return 0.1 + torch.sigmoid(self.sigma(y)[:, : self.d])
        if self.noise_type == "additive":
            return self.level.expand(y.shape[0], self.d, self.m)
        return torch.sigmoid(self.sigma(y)).view(y.shape[0], self.d, self.m)


class Given:
    """A NoisePath as torchsde's own Brownian motion, made apart from the adapter."""

    levy_area_approximation, dtype, device = "none", F64, torch.device("cpu")

    def __init__(self, noise: ps.NoisePath, shape: tuple[int, int]):
        self.noise, self.shape = noise, shape

    def __repr__(self):
        return "Given"

    def __call__(self, ta, tb=None, return_U=False, return_A=False):
        at = lambda t: torch.stack([  # noqa: E731
            torch.from_numpy(__import__("numpy").interp([float(t)], self.noise.t, self.noise.W[:, j]))[0]
            for j in range(self.noise.W.shape[1])
        ])  # fmt: skip
        return (at(tb) - at(ta)).reshape(self.shape)


@engines
@pytest.mark.parametrize(("noise_type", "sde_type", "method"), [
    ("diagonal", "ito", "euler"), ("diagonal", "ito", "milstein"), ("diagonal", "stratonovich", "heun"),
    ("general", "ito", "euler"), ("general", "stratonovich", "heun"), ("scalar", "ito", "euler"),
    ("additive", "ito", "euler"),
])  # fmt: skip
def test_the_numbers_and_gradients_are_torchsdes(engine, noise_type, sde_type, method):
    sde, y0 = Equation(noise_type, sde_type), torch.full((4, 3), 0.1, dtype=F64)
    m = sde.d if noise_type == "diagonal" else sde.m
    noise = ps.NoisePath.sample(torch.linspace(0, 1, 101, dtype=F64), 4 * m, seed=1)
    options = {"grad_free": True} if method == "milstein" else None
    theirs = torchsde.sdeint(sde, y0, TS, bm=Given(noise, (4, m)), method=method, dt=0.05, options=options)
    ours = ps.sdeint(sde, y0, TS, bm=noise, method=method, dt=0.05, options=options, engine=engine)
    assert relative_error(ours, theirs) < 1e-11
    weights = torch.linspace(0.0, 1.0, ours.numel(), dtype=F64).reshape(ours.shape)
    parameters = list(sde.parameters())
    each = [torch.autograd.grad((weights * ys).sum(), parameters, allow_unused=True, materialize_grads=True)
            for ys in (ours, theirs)]  # fmt: skip
    for a, b in zip(*each, strict=True):
        assert (a - b).norm() <= 1e-9 * (1 + b.norm())


@engines
@pytest.mark.parametrize("noise_type", ["diagonal", "additive", "general"])
def test_the_penalty_is_torchsdes(engine, noise_type):
    sde, y0 = Equation(noise_type), torch.full((4, 3), 0.1, dtype=F64)
    m = 4 if noise_type == "diagonal" else sde.m  # with one more state, which has no noise of its own but a motion
    noise = ps.NoisePath.sample(torch.linspace(0, 1, 101, dtype=F64), 4 * m, seed=1)
    theirs = torchsde.sdeint(sde, y0, TS, bm=Given(noise, (4, m)), method="euler", dt=0.05, logqp=True)
    called = engine == "julia" and noise_type != "diagonal"  # a pseudoinverse has no compiled form
    with pytest.warns(ps.PySciMLWarning, match="linalg_pinv") if called else nullcontext():
        ours = ps.sdeint(sde, y0, TS, bm=noise, method="euler", dt=0.05, logqp=True, engine=engine)
    assert relative_error(ours[0], theirs[0]) < 1e-11
    assert relative_error(ours[1], theirs[1]) < 1e-10
    assert ours[1].shape == (5, 4)
    assert (ours[1] >= 0).all()


@engines
@pytest.mark.parametrize("noise_type", ["diagonal", "scalar", "additive", "general"])
@pytest.mark.parametrize("sde_type", ["ito", "stratonovich"])
@pytest.mark.parametrize("function", [ps.sdeint, ps.sdeint_adjoint], ids=["sdeint", "sdeint_adjoint"])
def test_defaults_solve_every_kind_and_have_gradients(engine, noise_type, sde_type, function):
    sde, y0 = Equation(noise_type, sde_type), torch.full((2, 3), 0.1, dtype=F64, requires_grad=True)
    ys = function(sde, y0, TS, dt=0.02, engine=engine, seed=1)
    assert ys.shape == (6, 2, 3)
    ys.sum().backward()
    assert torch.isfinite(y0.grad).all()
    assert sde.mu.weight.grad.abs().sum() > 0


def test_what_only_torchsde_has_is_solved_by_it():
    sde, y0 = Equation("diagonal", "stratonovich"), torch.full((2, 3), 0.1, dtype=F64)
    bm = torchsde.BrownianInterval(0.0, 1.0, size=(2, 3), dtype=F64, entropy=3)
    ys, state = ps.sdeint(sde, y0, TS, bm=bm, method="reversible_heun", dt=0.05, extra=True)
    again = torchsde.BrownianInterval(0.0, 1.0, size=(2, 3), dtype=F64, entropy=3)
    assert torch.equal(ys, torchsde.sdeint(sde, y0, TS, bm=again, method="reversible_heun", dt=0.05))
    assert len(state) == 3
    for wrong, message in (
        ({"engine": "julia"}, "the julia engine has no such method"),
        ({"seed": 1}, "has a seed of its own"),
    ):
        with pytest.raises(ps.UnsupportedError, match=message):
            ps.sdeint(sde, y0, TS, bm=bm, method="reversible_heun", **wrong)


def test_the_embedded_adjoint_is_torchsdes():
    sde, y0 = Equation("diagonal", "stratonovich"), torch.full((2, 3), 0.1, dtype=F64)
    noise = ps.NoisePath.sample(torch.linspace(0, 1, 201, dtype=F64), 6, seed=1)
    found = []
    for function in (ps.sdeint, ps.sdeint_adjoint):
        ys = function(sde, y0, TS, bm=noise, method="heun", dt=0.005, engine="embedded")
        found.append(torch.autograd.grad(ys.sum(), sde.mu.weight)[0])
    assert 1e-9 < relative_error(*found) < 5e-2  # an adjoint of its own, which is right up to its step


def test_names_and_bad_input():
    sde, y0 = Equation("diagonal"), torch.full((2, 3), 0.1, dtype=F64)
    sde.drift = sde.f
    named = ps.sdeint(sde, y0, TS, dt=0.1, names={"drift": "drift"}, method="euler", seed=1, engine="embedded")
    assert torch.equal(named, ps.sdeint(sde, y0, TS, dt=0.1, method="euler", seed=1, engine="embedded"))
    with pytest.raises(ps.InvalidInputError, match="lacks a drift"):
        ps.sdeint(sde, y0, TS, names={"drift": "nothing"}, engine="embedded")
    with pytest.raises(ps.InvalidInputError, match=r"y0 must be a tensor of shape \(batch, d\)"):
        ps.sdeint(sde, y0[0], TS, engine="embedded")
    sde.noise_type = "pink"
    with pytest.raises(ps.InvalidInputError, match="must have a noise_type"):
        ps.sdeint(sde, y0, TS, engine="embedded")
