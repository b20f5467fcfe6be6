"""Data on one solution: its problem, times and observations, with what is missing and what it weighs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.control import save_times
from pysciml.errors import InvalidInputError
from pysciml.problems import ODEProblem
from pysciml.rhs.parameters import leaf_names

_TIMES_FIX = "pysciml.fit(prob, data, t=torch.linspace(0, 10, len(data)))"


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Observations of one solution.

    Attributes:
        prob: the problem, its span ended at the last time. t: (k,) times, float64.
        data: leaves (k, ...) with NaN where nothing was seen; empty when the user's loss looks at the solution itself.
        weights: leaves like `data`, or None. full: the problem as the user gave it.
    """

    prob: ODEProblem
    t: torch.Tensor
    data: tuple[torch.Tensor, ...]
    weights: tuple[torch.Tensor, ...] | None
    full: ODEProblem

    def take(self, index: torch.Tensor) -> Trajectory:
        """Only the times at `index` (m,)."""
        weights = None if self.weights is None else tuple(w[index] for w in self.weights)
        t = self.t[index]
        return replace(self, prob=_ended(self.full, t), t=t, data=tuple(x[index] for x in self.data), weights=weights)

    def observed(self, predicted: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Prediction, data and weights where there is data, as vectors (m,).

        Args:
            predicted: leaves (k, ...) like `data`.

        Raises:
            InvalidInputError: other shapes than the data's.
        """
        check_shapes([list(x.shape) for x in self.data], [list(x.shape) for x in predicted], "the prediction")
        masks = [~torch.isnan(x) for x in self.data]

        def pick(leaves: Sequence[torch.Tensor]) -> torch.Tensor:
            return torch.cat([x.to(p)[m.to(p.device)] for x, p, m in zip(leaves, predicted, masks, strict=True)])

        return pick(predicted), pick(self.data), None if self.weights is None else pick(self.weights)

    def spread(self, each: Sequence[torch.Tensor]) -> torch.Tensor:
        """(m,) what each observation has of values that broadcast to the leaves of the data.

        Raises:
            InvalidInputError: they do not.
        """
        try:
            wide = [torch.broadcast_to(value, x.shape) for value, x in zip(each, self.data, strict=True)]
        except RuntimeError:
            raise InvalidInputError(
                "sigma must broadcast to the data.", got=str([list(x.shape) for x in each]),
                expected=f"(), or what broadcasts to {[list(x.shape) for x in self.data]}", fix="sigma=0.1",
            ) from None  # fmt: skip
        return torch.cat([value[~torch.isnan(x)] for value, x in zip(wide, self.data, strict=True)])


def trajectories(prob: Any, data: Any, t: Any, weights: Any, *, observed: bool) -> list[Trajectory]:
    """One Trajectory a problem.

    Args:
        prob: a problem, or a list of them; then `data`, and where they differ `t` and `weights`, are lists too.
        observed: whether data is of what `observe` makes of the state, whose shape is not known before a solve.

    Raises:
        InvalidInputError: no times, empty data, wrong types, lengths or shapes.
    """
    if isinstance(prob, ODEProblem):
        return [_trajectory(prob, data, t, weights, observed, "")]
    if not isinstance(prob, (list, tuple)) or not prob or not all(isinstance(p, ODEProblem) for p in prob):
        raise InvalidInputError("fit needs an ODEProblem, or a list of them.", got=f"{prob!r:.80}",
                                fix="pysciml.fit(pysciml.ODEProblem(f, u0, tspan), data, t)")  # fmt: skip
    count = len(prob)
    datas = [None] * count if data is None else _one_each(data, count, "data")
    times = _one_each(t, count, "t") if _is_nested(t) else [t] * count
    weighing = _one_each(weights, count, "weights") if isinstance(weights, (list, tuple)) else [weights] * count
    return [_trajectory(p, x, ts, w, observed, f" of trajectory {i}")
            for i, (p, x, ts, w) in enumerate(zip(prob, datas, times, weighing, strict=True))]  # fmt: skip


def check_shapes(got: list[list[int]], expected: list[list[int]], what: str, where: str = "") -> None:
    """Raises InvalidInputError, with what to write instead, unless the data's shapes are those expected."""
    if got == expected:
        return
    hint = "one row per time, then the shape of u0; NaN marks what was not observed"
    if [x + [1] for x in got] == expected:
        hint = "data[..., None]"
    elif [x[::-1] for x in got] == expected:
        hint = "data.T: time comes first"
    raise InvalidInputError(
        f"the data{where} does not have the shape of {what}.", got=_shapes(got), expected=_shapes(expected), fix=hint
    )


def _shapes(shapes: list[list[int]]) -> str:
    return str(shapes[0]) if len(shapes) == 1 else ", ".join(map(str, shapes))


def _trajectory(prob: ODEProblem, data: Any, t: Any, weights: Any, observed: bool, where: str) -> Trajectory:
    ts = _times(prob, t, where)
    if data is None:
        return Trajectory(_ended(prob, ts), ts, (), None, prob)
    leaves = _data_leaves(prob, data, observed, where)
    if not observed:
        expected = [[len(ts), *x.shape] for x in pytree.tree_leaves(prob.u0)]
        check_shapes([list(x.shape) for x in leaves], expected, "the saved states (times, *u0.shape)", where)
    elif any(x.dim() == 0 or len(x) != len(ts) for x in leaves):
        raise InvalidInputError(
            f"the data{where} must have one row for each time.",
            got=_shapes([list(x.shape) for x in leaves]),
            expected=f"{len(ts)} rows",
            fix=_TIMES_FIX,
        )
    if not any(bool((~torch.isnan(x)).any()) for x in leaves):
        raise InvalidInputError(
            f"the data{where} holds no observation: every value is NaN.", fix="look where the data comes from"
        )
    return Trajectory(_ended(prob, ts), ts, tuple(leaves), _weights(weights, leaves, where), prob)


def _times(prob: ODEProblem, t: Any, where: str) -> torch.Tensor:
    if t is None:
        raise InvalidInputError(
            f"fit needs the times{where} at which the data was taken.", got="t=None", fix=_TIMES_FIX
        )
    device = pytree.tree_leaves(prob.u0)[0].device
    times = torch.as_tensor(_array(t, "t"), dtype=torch.float64, device=device).detach()
    try:
        return save_times(prob, times)
    except InvalidInputError as error:  # says `saveat`, which is not what the user typed
        say = lambda text: text and text.replace("saveat", "t")  # noqa: E731
        raise InvalidInputError(f"{say(error.what)[:-1]}{where}.", got=say(error.got), expected=say(error.expected),
                                fix=say(error.fix)) from None  # fmt: skip


def _data_leaves(prob: ODEProblem, data: Any, observed: bool, where: str) -> list[torch.Tensor]:
    single = isinstance(prob.u0, torch.Tensor)
    if (
        (single or observed)
        and isinstance(data, (list, tuple))
        and data
        and isinstance(data[0], (int, float, list, tuple))
    ):
        data = np.asarray(data, dtype=float)  # rows typed as lists are numbers, not a pytree
    leaves, spec = pytree.tree_flatten(data)
    if not leaves or any(0 in np.shape(x) for x in leaves):
        raise InvalidInputError(f"the data{where} is empty.", got=f"{data!r:.60}", fix=_TIMES_FIX)
    if not observed and spec != pytree.tree_structure(prob.u0):
        raise InvalidInputError(
            f"the data{where} must have the structure of u0.",
            got=", ".join(leaf_names(data, "data")),
            expected=", ".join(n.replace("u0", "data", 1) for n in leaf_names(prob.u0, "u0")),
        )
    out = []
    for x in leaves:
        x = torch.as_tensor(_array(x, "data")).detach()
        x = x if x.is_floating_point() else x.to(torch.float64)
        if torch.isinf(x).any():
            raise InvalidInputError(
                f"the data{where} must be finite, or NaN where nothing was observed.",
                got=f"{int(torch.isinf(x).sum())} infinite values",
                fix="data[data.isinf()] = float('nan')",
            )
        out.append(x)
    return out


def _array(x: Any, name: str) -> Any:
    """What torch.as_tensor can take: pandas' columns and nested lists become arrays."""
    if isinstance(x, torch.Tensor):
        return x
    try:
        return np.asarray(x, dtype=None if isinstance(x, np.ndarray) and x.dtype.kind in "fiub" else float)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"`{name}` must hold numbers: {error}", got=type(x).__name__,
                                fix=f"{name} = torch.tensor(..., dtype=torch.float64)") from None  # fmt: skip


def _weights(weights: Any, leaves: list[torch.Tensor], where: str) -> tuple[torch.Tensor, ...] | None:
    if weights is None:
        return None
    given = pytree.tree_leaves(weights)
    given = given * len(leaves) if len(given) == 1 else given
    try:
        out = tuple(
            torch.as_tensor(w, dtype=x.dtype).detach().expand(x.shape) for w, x in zip(given, leaves, strict=True)
        )
    except (RuntimeError, ValueError, TypeError):
        out = ()
    if not out or any(not bool((w >= 0).all() and torch.isfinite(w).all()) for w in out):
        raise InvalidInputError(
            f"the weights{where} must be numbers, 0 or more, that broadcast to the data.",
            got=_shapes([list(np.shape(w)) for w in given]),
            expected=_shapes([list(x.shape) for x in leaves]),
            fix="weights=1 / sigma**2",
        )
    return out


def _ended(prob: ODEProblem, ts: torch.Tensor) -> ODEProblem:
    """The problem up to the last time that is looked at: what blows up after it is no failure of the fit."""
    last = float(ts[-1])
    if last in prob.span:
        return prob
    return prob.remake(tspan=(prob.tspan[0], last))


def _is_nested(t: Any) -> bool:
    return isinstance(t, (list, tuple)) and len(t) > 0 and np.ndim(t[0]) > 0


def _one_each(values: Any, count: int, name: str) -> list[Any]:
    if not isinstance(values, (list, tuple)) or len(values) != count:
        got = f"{len(values)}" if isinstance(values, (list, tuple)) else f"a {type(values).__name__}"
        raise InvalidInputError(
            f"`{name}` must be a list with one entry for each problem.",
            got=f"{got} for {count} problems",
            fix=f"{name}=[{name}_0, {name}_1, ...]",
        )
    return list(values)
