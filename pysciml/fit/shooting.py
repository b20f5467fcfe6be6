"""Multiple shooting: short segments, each from a state of its own, tied together by a penalty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError
from pysciml.fit.parameters import Named
from pysciml.fit.trajectory import Trajectory
from pysciml.rhs.parameters import leaf_names


@dataclass(frozen=True, eq=False)
class MultipleShooting:
    """Fits short segments, each from a learned initial state, instead of one long solve.

    A long solve from a bad start misses oscillating data by whole periods, and its loss is full of local minima; a
    short one stays near the data. The segments' initial states start at the data and are fitted along.

    Args:
        segments: how many; each gets its share of the training times.
        continuity: weight of the mean squared jump between the end of a segment and the start of the next, added to
            the loss, so in the loss's units.
        initial: states to start from, in the structure of u0 with a leading dimension of `segments - 1`. None takes
            them from the data: what is missing is interpolated in time, what was never observed is as in u0. With
            several problems, or when `observe` is used, None or one such pytree for all.

    Raises:
        InvalidInputError: fewer than two segments, a negative weight, more segments than times.

    Reference: Bock and Plitt, "A multiple shooting algorithm for direct solution of optimal control problems",
    IFAC 1984.

    Example:
        >>> import pysciml as ps
        >>> ps.MultipleShooting(segments=8, continuity=10.0).segments
        8
    """

    segments: int = 5
    continuity: float = 10.0
    initial: Any = None

    def __post_init__(self):
        if isinstance(self.segments, bool) or not isinstance(self.segments, int) or self.segments < 2:
            raise InvalidInputError("multiple shooting needs two segments or more.", got=f"segments={self.segments!r}",
                                    fix="MultipleShooting(segments=5)")  # fmt: skip
        if not (self.continuity > 0 and np.isfinite(self.continuity)):
            raise InvalidInputError(
                "continuity must be positive, or nothing ties the segments together.",
                got=f"continuity={self.continuity!r}",
                fix="MultipleShooting(continuity=10.0)",
            )


@dataclass(eq=False)
class Segments:
    """One trajectory cut into segments.

    Attributes:
        trajectory: what is cut. times: the save times of each segment. states: learned initial states as leaves, a
            list for each segment but the first, which starts from u0.
    """

    trajectory: Trajectory
    times: list[torch.Tensor]
    states: list[list[torch.Tensor]]

    def predict(self, solver: Callable) -> tuple[Any, list[torch.Tensor]]:
        """The states at all times, structured as `sol.u`, and the jumps between segments as vectors."""
        prob, spec = self.trajectory.prob, pytree.tree_structure(self.trajectory.prob.u0)
        pieces: list[list[torch.Tensor]] = []
        jumps: list[torch.Tensor] = []
        start, state = prob.tspan[0], prob.u0
        for i, ts in enumerate(self.times):
            segment = prob.remake(u0=state, tspan=(start, float(ts[-1])))
            # Integrators are kept by their grid relative to the start, so segments of equal spacing share one.
            pieces.append(pytree.tree_leaves(solver(segment, saveat=ts).u))
            if i < len(self.states):
                jumps += [(x[-1] - s).reshape(-1) for x, s in zip(pieces[-1], self.states[i], strict=True)]
                start, state = float(ts[-1]), pytree.tree_unflatten(self.states[i], spec)
        return pytree.tree_unflatten([torch.cat(xs) for xs in zip(*pieces, strict=True)], spec), jumps

    def named(self, where: str) -> Named:
        names = leaf_names(self.trajectory.prob.u0, "u0")
        return {f"{where}segment[{i}].{n}": x for i, state in enumerate(self.states, 1)
                for n, x in zip(names, state, strict=True)}  # fmt: skip


def cut(trajectory: Trajectory, shooting: MultipleShooting, *, observed: bool) -> Segments:
    """Cuts the times into parts of nearly equal number, and finds where each learned state starts."""
    times = trajectory.t
    at_start = int(float(times[0]) == trajectory.prob.span[0])
    count = shooting.segments
    if len(times) - at_start < count:
        raise InvalidInputError(
            "multiple shooting needs at least one time after the start for each segment.",
            got=f"{count} segments, {len(times) - at_start} times",
            fix=f"MultipleShooting(segments={max(2, len(times) // 3)})",
        )
    ends = np.cumsum([len(part) for part in np.array_split(np.arange(at_start, len(times)), count)]) + at_start
    starts = [0, *ends[:-1]]
    boundaries = [int(e) - 1 for e in ends[:-1]]
    states = _initial_states(trajectory, shooting, boundaries, observed)
    return Segments(trajectory, [times[a:b] for a, b in zip(starts, ends, strict=True)], states)


def _initial_states(
    trajectory: Trajectory, shooting: MultipleShooting, rows: Sequence[int], observed: bool
) -> list[list[torch.Tensor]]:
    u0, spec = pytree.tree_flatten(trajectory.prob.u0)
    if shooting.initial is not None:
        leaves, given = pytree.tree_flatten(shooting.initial)
        wrong = given != spec or any(list(x.shape) != [len(rows), *u.shape] for x, u in zip(leaves, u0, strict=True))
        if wrong:
            raise InvalidInputError(
                "initial must have the structure of u0 with one row for each segment after the first.",
                got=str([list(np.shape(x)) for x in leaves]),
                expected=str([[len(rows), *u.shape] for u in u0]),
            )
        starts = [[x[i] for x in leaves] for i in range(len(rows))]
    elif observed:
        starts = [list(u0) for _ in rows]
    else:
        filled = [_filled(x, u, trajectory.t) for x, u in zip(trajectory.data, u0, strict=True)]
        starts = [[x[row] for x in filled] for row in rows]
    return [[x.detach().to(u).clone().requires_grad_() for x, u in zip(row, u0, strict=True)] for row in starts]


def _filled(data: torch.Tensor, u0: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """(k, ...) data with its gaps interpolated in time, or the value of u0 where a component was never seen."""
    columns = data.detach().cpu().double().reshape(len(data), -1).numpy().copy()
    times = t.cpu().numpy() * (1.0 if len(t) < 2 or t[-1] > t[0] else -1.0)  # interp wants them rising
    for column, start in zip(columns.T, u0.detach().cpu().double().reshape(-1).tolist(), strict=True):
        seen = ~np.isnan(column)
        column[~seen] = np.interp(times[~seen], times[seen], column[seen]) if seen.any() else start
    return torch.from_numpy(columns).reshape(data.shape)
