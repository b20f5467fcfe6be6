"""Collocation pre-training: matching derivatives of smoothed data, without a solve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError, UnsupportedError
from pysciml.fit import parameters
from pysciml.fit.fit import fit
from pysciml.fit.result import FitResult
from pysciml.fit.trajectory import Trajectory, trajectories
from pysciml.problems import ODEProblem
from pysciml.rhs.parameters import entry_names, leaf_names

_LEAST = 5  # observations that a smoothing spline needs


def pretrain(
    prob: Any,
    data: Any,
    t: Any,
    *,
    params: Any = None,
    smoothing: float | None = None,
    points: int = 100,
    stages: Any = None,
    epochs: int | Sequence[int] | None = None,
    progress: str | bool | None = None,
    seed: int = 0,
) -> FitResult:
    """Fits f to the slopes of smoothed data: a start for `fit` that costs no solve and has no long solve to go wrong.

    Each state is smoothed over time by a cubic spline, and the mean square of f less the spline's slope is minimised
    over points between the first and the last observation, each state in the size of its own slopes. What comes out
    is biased by the smoothing: it is a place to start from.

    Args:
        prob, data, t: as of `fit`; every state must be observed, at five times or more.
        params: as of `fit`; None finds what takes part in f.
        smoothing: the penalty on the curvature of the spline, 0 for one through the data; None chooses it by
            generalised cross-validation.
        points: of each trajectory. stages, epochs, progress, seed: as of `fit`.

    Returns:
        FitResult: as of a `fit` by a loss of its own; the tensors hold the values found.

    Raises:
        InvalidInputError: too few observations; else as `fit`. UnsupportedError: a state that was not observed.

    Reference: Varah, "A spline least squares method for numerical parameter estimation in differential equations", SIAM
    J. Sci. Stat. Comput. 3 (1982); Roesch, Rackauckas and Stumpf, "Collocation based training of neural ordinary
    differential equations", Stat. Appl. Genet. Mol. Biol. 20 (2021).

    Example:
        >>> import torch, pysciml as ps
        >>> k = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
        >>> prob = ps.ODEProblem(lambda t, u: -k * u, torch.ones(1, dtype=torch.float64), (0.0, 2.0))
        >>> t = torch.linspace(0, 2, 30, dtype=torch.float64)
        >>> start = ps.pretrain(prob, torch.exp(-t)[:, None], t, stages=("LBFGS", 20), progress="off")
        >>> round(k.item(), 2)
        1.0
    """
    if not isinstance(points, int) or isinstance(points, bool) or points < 2:
        raise InvalidInputError("points must be a whole number, 2 or more.", got=f"points={points!r}", fix="points=100")
    every = trajectories(prob, data, t, None, observed=False)
    targets = [_target(x, smoothing, points) for x in every]
    sizes = torch.cat([x.slopes for x in targets]).square().mean(dim=0).sqrt()
    sizes = torch.where(sizes > 0, sizes, torch.ones_like(sizes))

    def loss(solve: Any = None) -> torch.Tensor:
        rest = [(x.predicted() - x.slopes) / sizes for x in targets]
        return torch.cat(rest).square().mean()

    named = params if params is not None else _found(loss, [x.prob for x in targets])
    return fit(loss=loss, params=named, stages=stages, epochs=epochs, progress=progress, seed=seed)


@dataclass(frozen=True, eq=False)
class _Target:
    """Smoothed states of a trajectory, leaves (k, *shape), at the times (k,), and their slopes (k, n)."""

    prob: ODEProblem
    times: torch.Tensor
    states: list[torch.Tensor]
    slopes: torch.Tensor

    def predicted(self) -> torch.Tensor:
        """f at the smoothed states, (k, n)."""
        spec, p = pytree.tree_structure(self.prob.u0), () if self.prob.p is None else (self.prob.p,)

        def f(t: torch.Tensor, *leaves: torch.Tensor) -> torch.Tensor:
            du = self.prob.f(t, pytree.tree_unflatten(list(leaves), spec), *p)
            return torch.cat([x.reshape(-1) for x in pytree.tree_leaves(du)])

        try:
            return torch.func.vmap(f)(self.times, *self.states)
        except (RuntimeError, NotImplementedError):  # what cannot be mapped over all times at once is called at each
            return torch.stack([f(*values) for values in zip(self.times, *self.states, strict=True)])


def _target(x: Trajectory, smoothing: float | None, points: int) -> _Target:
    t = x.t.cpu().numpy()
    grid = np.linspace(t[0], t[-1], points)
    u0 = [leaf.detach() for leaf in pytree.tree_leaves(x.full.u0)]
    names = leaf_names(x.full.u0, "u")
    smoothed, slopes = [], []
    for leaf, like, name in zip(x.data, u0, names, strict=True):
        columns = leaf.reshape(len(t), -1).double().cpu().numpy()
        fits = [_spline(t, column, entry, smoothing)
                for column, entry in zip(columns.T, entry_names(name, like.shape), strict=True)]  # fmt: skip
        values = np.stack([s(grid) for s in fits], axis=1)
        smoothed.append(torch.from_numpy(values).to(like).reshape(points, *like.shape))
        slopes.append(torch.from_numpy(np.stack([s.derivative()(grid) for s in fits], axis=1)).to(like))
    plain = x.full.remake(u0=pytree.tree_unflatten(u0, pytree.tree_structure(x.full.u0)))
    return _Target(plain, torch.from_numpy(grid).to(u0[0]), smoothed, torch.cat(slopes, dim=1))


def _spline(t: np.ndarray, values: np.ndarray, name: str, smoothing: float | None) -> Any:
    from scipy.interpolate import make_smoothing_spline  # here: importing pysciml shall not import SciPy

    seen = ~np.isnan(values)
    if not seen.any():
        raise UnsupportedError(
            f"{name} was never observed, and its slope is what f would be held against.", got="NaN at every time",
            expected="data of every state", fix="pysciml.fit(..., shooting=pysciml.MultipleShooting(5))",
        )  # fmt: skip
    if seen.sum() < _LEAST:
        raise InvalidInputError(f"a smoothing spline needs {_LEAST} observations of each state.",
                                got=f"{seen.sum()} of {name}", fix="pysciml.fit, without pretrain")  # fmt: skip
    order = np.argsort(t[seen])
    return make_smoothing_spline(t[seen][order], values[seen][order], lam=smoothing)


def _found(loss: Callable, problems: list[ODEProblem]) -> parameters.Named:
    """What the loss depends on, by the names it has in the problems."""
    since = parameters.now()
    leaves = parameters.reached(loss(), since, [])
    return parameters.found(leaves, problems, [])
