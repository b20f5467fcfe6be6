"""Stochastic equations by torchsde: eager torch, on any device, differentiated by backpropagation."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils import _pytree as pytree

from pysciml.algorithms import StochasticAlgorithm
from pysciml.errors import MissingExtraError, UnsupportedError
from pysciml.problems import NoisePath, SDEProblem
from pysciml.sensitivity import DirectAdjoint, SensitivityAlgorithm
from pysciml.solution import Stats


class Batch(NamedTuple):
    """So many paths of one problem: `u0` (N or 1, n), and leaves `p` that are (N, *shape), or as they are for all."""

    prob: SDEProblem
    paths: int
    u0: torch.Tensor
    p: list[torch.Tensor]
    p_differs: bool


def check(alg: StochasticAlgorithm, sensealg: SensitivityAlgorithm | None, interpretation: str) -> None:
    """Raises `UnsupportedError`, naming what would work, if torchsde lacks one of them; or says how to get torchsde."""
    if alg.torchsde_method(interpretation)[0] is None:
        raise UnsupportedError(
            f"`{alg!r}` is not available in the embedded engine.", got='engine="embedded"',
            expected="EM for Ito equations, EulerHeun for Stratonovich's, RKMil, or a method of torchsde's",
            fix=f"pysciml.solve(prob, pysciml.{'EM' if interpretation == 'ito' else 'EulerHeun'}(), dt=0.01)\n"
                "(or get Julia: python -m pysciml julia install)",
        )  # fmt: skip
    if not isinstance(sensealg, (type(None), DirectAdjoint)):
        raise UnsupportedError(
            f"`{sensealg.name}` is not available for stochastic equations in the embedded engine.",
            got=f"sensealg={sensealg.name}()", expected="DirectAdjoint; torchsde's own adjoint is sdeint_adjoint",
            fix="sensealg=pysciml.DirectAdjoint()",
        )  # fmt: skip
    try:
        import torchsde  # noqa: F401
    except ImportError:
        raise MissingExtraError("torchsde", "sde", "solving a stochastic equation without Julia") from None


def solve(batch: Batch, alg: StochasticAlgorithm, ts: torch.Tensor, *, seed: int, noise: NoisePath | None,
          dt: float, adaptive: bool, reltol: float, abstol: float,
          ) -> tuple[torch.Tensor, Stats]:  # fmt: skip
    """The states (N, k, n) at `ts`, float64 times of the span; options as of `pysciml.solve`."""
    import torchsde

    stats, start = Stats(nf=0, engine="embedded", alg=alg.name), time.perf_counter()
    sde = _TorchSDE(batch, stats)
    method, options = alg.torchsde_method(batch.prob.interpretation)
    u0 = batch.u0.expand(batch.paths, -1).reshape(sde.rows)
    t0, t1 = batch.prob.span
    # torchsde steps from the first to the last time, so both ends of the span are there: one seed, one path.
    before, after = float(ts[0]) > t0, float(ts[-1]) < t1
    times = torch.cat([ts.new_tensor([t0] * before), ts, ts.new_tensor([t1] * after)]).detach().to(u0.dtype)
    given = {"method": method, "options": options, "dt": dt, "adaptive": adaptive, "rtol": reltol, "atol": abstol,
             "bm": brownian(sde.motions, batch.u0, seed, noise, times, method, dt)}  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Numerical solution is not guaranteed")  # our docstring says it
        u = torchsde.sdeint(sde, u0, times, **given)
    stats.wall_time = time.perf_counter() - start
    return u[before : len(u) - after].reshape(-1, batch.paths, batch.u0.shape[1]).transpose(0, 1), stats


class _TorchSDE(torch.nn.Module):
    """A problem as torchsde takes it: paths and blocks of noise are its batch."""

    def __init__(self, batch: Batch, stats: Stats):
        super().__init__()
        prob, (count, rows, _) = batch.prob, batch.prob.blocks
        diagonal = prob.noise_type == "diagonal"
        # One motion a block is scalar noise there, for which it has more methods.
        scalar = prob.noise_type == "general" and prob.blocks[2] == 1
        self.noise_type, self.sde_type = "scalar" if scalar else prob.noise_type, prob.interpretation
        self.batch, self.stats = batch, stats
        self.rows = (batch.paths, count) if diagonal else (batch.paths * count, rows)
        self.motions = (*self.rows,) if diagonal else (self.rows[0], prob.blocks[2])

    def f(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.stats.nf = (self.stats.nf or 0) + 1
        return self._each(lambda t, u, *p: _flat(self.batch.prob.f(t, u, *p)), t, y).reshape(self.rows)

    def g(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        out = self._each(self.batch.prob.diffusion, t, y)
        return out.reshape(self.rows if self.noise_type == "diagonal" else (*self.rows, self.motions[1]))

    def _each(self, function: Callable, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """`function` of every path, (N, results)."""
        prob, states = self.batch.prob, y.reshape(self.batch.paths, -1)
        layout = prob.inputs.p_layout

        def of_one(u: torch.Tensor, p: list[torch.Tensor]) -> torch.Tensor:
            return function(t, prob.inputs.u_layout.unflatten(u), *(() if layout is None else (layout.build(p),)))

        if self.batch.paths == 1:
            p = [x[0] for x in self.batch.p] if self.batch.p_differs else self.batch.p
            return of_one(states[0], p)[None]
        return torch.func.vmap(of_one, in_dims=(0, 0 if self.batch.p_differs else None))(states, self.batch.p)


def _flat(tree: Any) -> torch.Tensor:
    return torch.cat([x.reshape(-1) for x in pytree.tree_leaves(tree)])


def brownian(
    shape: Sequence[int],
    like: torch.Tensor,
    seed: int,
    noise: NoisePath | None,
    times: torch.Tensor,
    method: str | None,
    dt: float,
) -> Any:
    """A Brownian motion of torchsde's, of shape (batch, motions): along a path, or of a seed."""
    import torchsde

    if noise is not None:
        if method in ("srk", "log_ode"):
            raise UnsupportedError(
                f"torchsde's {method} needs more of a path than its values.",
                got="noise",
                expected="a seed; or EM, EulerHeun, RKMil",
                fix="pysciml.EM()",
            )
        return _Given(noise, shape, like)
    area = {None: "space-time", "srk": "space-time", "log_ode": "foster"}.get(method, "none")
    # With dt told: else it goes by the steps it sees, and one of rounding's size, as the last may be, makes it grow a
    # tree for such steps, which does not end (torchsde 0.2.6, _create_dependency_tree).
    return torchsde.BrownianInterval(
        float(times[0]),
        float(times[-1]),
        size=tuple(shape),
        dtype=like.dtype,
        device=like.device,
        entropy=seed,
        levy_area_approximation=area,
        dt=dt,
    )


class _Given:
    """A path as torchsde asks for it: increments from one time to another."""

    levy_area_approximation = "none"

    def __init__(self, noise: NoisePath, shape: Sequence[int], like: torch.Tensor):
        self.noise, self.shape, self.dtype, self.device = noise, torch.Size(shape), like.dtype, like.device

    def __call__(self, ta: Any, tb: Any = None, **_: Any) -> torch.Tensor:
        dw = self.noise.increments(float(ta), float(tb))
        paths = self.shape.numel() // self.noise.W.shape[-1]
        return dw.expand(paths, self.noise.W.shape[-1]).reshape(self.shape).to(self.dtype).to(self.device)
