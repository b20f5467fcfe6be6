"""A path of Brownian motion, drawn beforehand, kept, and solved along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pysciml.errors import InvalidInputError


@dataclass(frozen=True, eq=False)
class NoisePath:
    """Brownian motion at given times; between them it is linear, so they should lie closer than a solver steps.

    With the same path, solvers of any tolerance, step and engine come to the same solution, up to their error.

    Args:
        t: (k,) times, increasing, that enclose the span. W: (k, m) values, or (N, k, m) of N paths; m motions.
        Z: a second Brownian motion like W, independent of it, which solvers of order 1.5 need; or None.

    Raises:
        InvalidInputError: times that do not increase, values of another length, or not finite.

    Example:
        >>> import pysciml as ps
        >>> coarse = ps.NoisePath.sample([0.0, 0.5, 1.0], 1, seed=7)
        >>> fine = coarse.refined([0.0, 0.25, 0.5, 0.75, 1.0], seed=8)
        >>> bool((fine.W[::2] == coarse.W).all()), tuple(fine.W.shape)
        (True, (5, 1))
    """

    t: torch.Tensor
    W: torch.Tensor
    Z: torch.Tensor | None = None

    def __post_init__(self):
        for name in ("t", "W", "Z"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, torch.as_tensor(value, dtype=torch.float64).detach().cpu())
        if self.t.dim() != 1 or len(self.t) < 2 or not (self.t[1:] > self.t[:-1]).all():
            raise InvalidInputError("a noise path needs two or more times that increase.",
                                    got=f"t={self.t.tolist()!r:.60}", fix="t=torch.linspace(t0, t1, 1001)")  # fmt: skip
        for name, x in (("W", self.W), ("Z", self.Z)):
            if x is not None and (x.dim() not in (2, 3) or x.shape[-2] != len(self.t) or x.shape != self.W.shape):
                raise InvalidInputError(f"`{name}` of a noise path must have a row for each time.",
                                        got=f"shape {list(x.shape)} for {len(self.t)} times",
                                        expected="(k, m), or (N, k, m), the same of W and Z",
                                        fix="ps.NoisePath.sample(t, m)")  # fmt: skip
            if x is not None and not torch.isfinite(x).all():
                raise InvalidInputError(f"`{name}` of a noise path must be finite.", got="NaN or infinity",
                                        fix=f"torch.isfinite({name})")  # fmt: skip

    @classmethod
    def sample(cls, t: Any, m: int, *, seed: int | None = None, paths: int | None = None) -> NoisePath:
        """Draws W and Z of m motions at times t, zero at the first; of several `paths`, (paths, k, m) of each.

        Args:
            seed: the same one draws the same path; None takes one from torch's own generator.
        """
        times = torch.as_tensor(t, dtype=torch.float64)
        shape = (len(times) - 1, m) if paths is None else (paths, len(times) - 1, m)
        random = _generator(seed)
        roots = times.diff().sqrt()[:, None]
        return cls(times, *(_from_zero(roots * torch.randn(shape, generator=random, dtype=torch.float64)).cumsum(-2)
                            for _ in range(2)))  # fmt: skip

    def refined(self, t: Any, *, seed: int | None = None) -> NoisePath:
        """The same path at more times, those of its own among them; what lies between is drawn as Brownian bridges."""
        times = torch.as_tensor(t, dtype=torch.float64)
        if not torch.isin(self.t, times).all():
            raise InvalidInputError("a refined path must keep the times it has.", got=f"{len(times)} times",
                                    fix="torch.cat([path.t, others]).unique()")  # fmt: skip
        random = _generator(seed)
        W = _bridged(self.t, self.W, times, random)
        return NoisePath(times, W, None if self.Z is None else _bridged(self.t, self.Z, times, random))

    def increments(self, ta: float, tb: float) -> torch.Tensor:
        """W(tb) - W(ta), of all motions."""
        at = np.array([ta, tb])
        low, high = _linear(self.t, self.W, torch.from_numpy(at)).unbind(-2)
        return high - low

    def __repr__(self) -> str:
        paths = f"{self.W.shape[0]} paths of " if self.W.dim() == 3 else ""
        return (f"NoisePath({paths}{self.W.shape[-1]} motions, {len(self.t)} times from {self.t[0].item():g} to "
                f"{self.t[-1].item():g})")  # fmt: skip


def _generator(seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator().manual_seed(seed)


def _from_zero(increments: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros_like(increments[..., :1, :]), increments], dim=-2)


def _linear(t: torch.Tensor, W: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    i = torch.searchsorted(t, times, right=True).clamp(1, len(t) - 1)
    share = ((times - t[i - 1]) / (t[i] - t[i - 1]))[:, None]
    return W[..., i - 1, :] * (1 - share) + W[..., i, :] * share


def _bridged(t: torch.Tensor, W: torch.Tensor, times: torch.Tensor, random: Any) -> torch.Tensor:
    """W at more times: from left to right, each drawn given the one before and the next that is known."""
    known = torch.isin(times, t)
    out = _linear(t, W, times)
    for k in torch.nonzero(~known)[:, 0].tolist():
        after = int(torch.searchsorted(t, times[k]))
        s, left, right = times[k], times[k - 1], t[after]
        share = (s - left) / (right - left)
        mean = out[..., k - 1, :] * (1 - share) + W[..., after, :] * share
        spread = ((s - left) * (right - s) / (right - left)).sqrt()
        out[..., k, :] = mean + spread * torch.randn(mean.shape, generator=random, dtype=torch.float64)
    return out
