"""Many problems that differ in their initial states or parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.utils import _pytree as pytree

from pysciml.errors import InvalidInputError
from pysciml.problems.jump import JumpProblem
from pysciml.problems.ode import ODEProblem
from pysciml.problems.random import RODEProblem
from pysciml.problems.stochastic import SDEProblem
from pysciml.problems.stochastic_delay import SDDEProblem
from pysciml.rhs.parameters import as_floating, leaf_names

RANDOM = (SDEProblem, SDDEProblem, RODEProblem, JumpProblem)


@dataclass(frozen=True, eq=False)
class EnsembleProblem:
    """One problem at many initial states, many parameters, or both.

    Args:
        prob: the problem they have in common: f, tspan, mass matrix, and what is not given here.
        u0: (N, *shape) initial states in the structure of `prob.u0`, or None for that of `prob` in all.
        p: (N, *shape) parameters in the structure of `prob.p`, or None for those of `prob` in all.
        trajectories: N, of a problem with noise or of a jump process, whose members may differ in their noise alone.

    Raises:
        InvalidInputError: neither u0 nor p, nor trajectories; another structure, shape or dtype than the problem's; no
            or unequal N.

    Example:
        >>> import torch, pysciml as ps
        >>> prob = ps.ODEProblem(lambda t, u: -u, torch.ones(1, dtype=torch.float64), (0.0, 1.0))
        >>> many = ps.EnsembleProblem(prob, u0=torch.linspace(1.0, 2.0, 5, dtype=torch.float64)[:, None])
        >>> len(many)
        5
    """

    prob: Any
    u0: Any = None
    p: Any = None
    trajectories: int | None = None

    def __post_init__(self):
        if not isinstance(self.prob, (ODEProblem, *RANDOM)):
            raise InvalidInputError("an ensemble needs the problem its members share.", got=type(self.prob).__name__,
                                    fix="EnsembleProblem(ODEProblem(f, u0, tspan), u0=many)")  # fmt: skip
        random = isinstance(self.prob, RANDOM) and isinstance(self.trajectories, int) and self.trajectories > 0
        if self.trajectories is not None and not random:
            raise InvalidInputError("trajectories is the number of members of a problem with noise.",
                                    got=f"trajectories={self.trajectories!r} of {self.prob!r:.60}",
                                    fix="EnsembleProblem(SDEProblem(f, g, u0, tspan), trajectories=100)")  # fmt: skip
        if self.u0 is None and self.p is None and not random:
            raise InvalidInputError("an ensemble needs what its members differ in.", got="u0=None, p=None",
                                    fix="EnsembleProblem(prob, u0=torch.stack(states))")  # fmt: skip
        if self.p is not None and self.prob.p is None:
            raise InvalidInputError("the problem has no p that could differ.", got="prob.p=None",
                                    fix="ODEProblem(f, u0, tspan, p) with f(t, u, p)")  # fmt: skip
        for name in ("u0", "p"):
            if getattr(self, name) is not None:
                checked = self._checked(getattr(self, name), name)
                object.__setattr__(self, name, _stacked(checked, getattr(self.prob, name), name))
        counts = {x.shape[0] for tree in (self.u0, self.p) if tree is not None for x in pytree.tree_leaves(tree)}
        counts |= {self.trajectories} if random else set()
        if len(counts) != 1 or 0 in counts:
            raise InvalidInputError("an ensemble needs one number of members.", got=f"leading sizes {sorted(counts)}",
                                    fix="the same first dimension, at least 1, in u0 and p")  # fmt: skip

    def _checked(self, tree: Any, name: str) -> Any:
        """`tree` as tensors of the kinds that the problem takes."""
        counts = isinstance(self.prob, JumpProblem) and name == "u0"
        return self.prob.as_state(tree) if counts else as_floating(tree, name)

    def __len__(self) -> int:
        if self.trajectories is not None:
            return self.trajectories
        tree = self.p if self.u0 is None else self.u0
        return pytree.tree_leaves(tree)[0].shape[0]

    def member(self, i: int) -> Any:
        """The i-th problem by itself."""
        parts = {"u0": self.u0, "p": self.p}
        return self.prob.remake(**{
            name: pytree.tree_map(lambda x: x[i], tree) for name, tree in parts.items() if tree is not None
        })  # fmt: skip

    def __repr__(self) -> str:
        differ = ", ".join(name for name in ("u0", "p") if getattr(self, name) is not None)
        return f"EnsembleProblem({len(self)} x {self.prob!r}, differing in {differ or 'noise'})"


def _stacked(tree: Any, like: Any, name: str) -> Any:
    (leaves, spec), (one, one_spec) = pytree.tree_flatten(tree), pytree.tree_flatten(like)
    if spec != one_spec or any(x.shape[1:] != y.shape or x.dim() == 0 for x, y in zip(leaves, one, strict=True)):
        raise InvalidInputError(
            f"`{name}` of an ensemble must be the problem's, with one more dimension in front.",
            got=f"shapes {[list(x.shape) for x in leaves]}",
            expected=", ".join(f"{n}: [N, {', '.join(map(str, y.shape))}]"
                               for n, y in zip(leaf_names(like, name), one, strict=True)),
            fix=f"{name}=torch.stack([...])",
        )  # fmt: skip
    if leaves[0].dtype != one[0].dtype or leaves[0].device != one[0].device:
        raise InvalidInputError(
            f"`{name}` of an ensemble must have the problem's dtype and device.",
            got=f"{leaves[0].dtype} on {leaves[0].device}",
            fix=f"{name}.to({one[0].dtype})",
        )
    return tree
