"""Holds every Graph of a right-hand side, and every lowering of it, against torch itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import casadi as ca
import numpy as np
import torch
from torch.utils import _pytree as pytree

from pysciml.rhs import lower_casadi
from pysciml.rhs.base import KINDS
from pysciml.rhs.graph import Graph, evaluate
from pysciml.rhs.trace import Program, compiled, record

Truth = dict[str, torch.Tensor]


def check(
    f: Callable, u: Any, p: Any = None, t: float = 0.3, *, tol: float = 1e-10, fixed: bool = False, points: int = 2
) -> None:
    """Fails unless all Graphs of f and both CasADi forms agree with torch, at (t, u, p) and at points beside it.

    Args:
        fixed: leave captured tensors that do not require grad out, because torch cannot differentiate with respect to
            them (the running statistics of a batch norm).
    """
    program = record(f, _scalar(t, u), u, p)
    rhs = compiled(program)
    graphs = {kind: rhs.graph(kind, program) for kind in KINDS}
    lowered = {scalar: Lowered(graphs, scalar) for scalar in (True, False)}
    for point in range(points):
        with moved(program, by=0.0 if point == 0 else 0.05, seed=point) as (t_now, u_now, p_now):
            values = flat_inputs(program, t_now, u_now, p_now, seed=point)
            truth = torch_truth(program, t_now, u_now, p_now, values["v"], fixed)
        agree(graphs, lowered, values, truth, tol)


def agree(graphs: dict[str, Graph], lowered: dict[bool, Lowered], values: dict, truth: Truth, tol: float) -> None:
    for kind in KINDS:
        ours = evaluate(graphs[kind], **{name: values[name] for name in graphs[kind].inputs})
        close(ours, truth[kind], tol, f"{kind} graph against torch")
        for scalar, forms in lowered.items():
            name = "SX" if scalar else "MX"
            close(forms(kind, values), ours, max(tol, 1e-10) if tol < 1e-6 else 1e-10, f"{kind} {name} against graph")
    for scalar, forms in lowered.items():
        name = "SX" if scalar else "MX"
        for kind, own in forms.own_derivatives(values).items():
            close(own, truth[kind], tol, f"{kind} by {name}'s own AD")


class Lowered:
    """All Graphs of a program as CasADi functions, and what CasADi's AD makes of f."""

    def __init__(self, graphs: dict[str, Graph], scalar: bool):
        self.functions = {kind: lower_casadi.function(graph, kind, scalar) for kind, graph in graphs.items()}
        self.names = {kind: list(graph.inputs) for kind, graph in graphs.items()}
        inputs, out = lower_casadi.symbols(graphs["f"], scalar)
        v = type(out).sym("v", out.numel())
        args = [inputs["t"], inputs["u"], inputs["p"]]
        pulled = [ca.densify(ca.jtimes(out, x, v, True)) for x in args[1:]]
        jacobian = [ca.densify(ca.jacobian(out, inputs["u"]).T)]
        self.own = ca.Function("own", [*args, v], [*pulled, *jacobian])

    def __call__(self, kind: str, values: dict[str, torch.Tensor]) -> torch.Tensor:
        out = self.functions[kind](*(column(values[name]) for name in self.names[kind]))
        return torch.from_numpy(np.asarray(out).ravel(order="F").copy())

    def own_derivatives(self, values: dict[str, torch.Tensor]) -> Truth:
        out = self.own(*(column(values[name]) for name in ("t", "u", "p", "v")))
        flat = (torch.from_numpy(np.asarray(x).ravel(order="F").copy()) for x in out)
        return dict(zip(("vjp", "vjp_p", "jac"), flat, strict=True))


def column(x: torch.Tensor) -> ca.DM:
    return ca.DM(x.reshape(-1).tolist())


def close(ours: torch.Tensor, truth: torch.Tensor, tol: float, what: str) -> None:
    ours, truth = ours.reshape(-1).double(), truth.reshape(-1).double()
    assert ours.shape == truth.shape, f"{what}: {list(ours.shape)} numbers for {list(truth.shape)}"
    if what.startswith(("vjp_p", "both")):  # see `torch_truth`
        ours = torch.where(truth.isnan(), truth, ours)
    scale = truth[truth.isfinite()].abs().max() if truth.isfinite().any() else torch.tensor(0.0)
    same = torch.allclose(ours, truth, rtol=tol, atol=float(tol * (1 + scale)), equal_nan=True)
    assert same, f"{what}:\n  ours  {ours}\n  truth {truth}"


def _scalar(t: float, u: Any) -> torch.Tensor:
    return torch.tensor(t, dtype=pytree.tree_leaves(u)[0].dtype)


@contextmanager
def moved(program: Program, by: float, seed: int) -> Iterator[tuple]:
    """Another point: t, u and p beside the recorded ones, and captured tensors moved in place while this lasts."""
    generator = torch.Generator().manual_seed(seed)

    def nudge(x: torch.Tensor) -> torch.Tensor:
        step = torch.rand(x.shape, generator=generator, dtype=x.dtype) - 0.5
        return x.detach() + 2 * by * step * (x.detach().abs() + 1e-3)

    before = [x.detach().clone() for x in program.captured]
    with torch.no_grad():
        for x in program.captured:
            x.copy_(nudge(x))
    try:
        yield nudge(program.t), [nudge(x) for x in program.u], [nudge(x) for x in program.p]
    finally:
        with torch.no_grad():
            for x, old in zip(program.captured, before, strict=True):
                x.copy_(old)


def flat_inputs(program: Program, t, u, p, seed: int) -> dict[str, torch.Tensor]:
    parameters = [*p, *program.captured]
    flat = [
        torch.cat([*(x.detach().reshape(-1).double() for x in xs), torch.zeros(0).double()]) for xs in (u, parameters)
    ]
    v = torch.randn(flat[0].numel(), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return {"t": t.double(), "u": flat[0], "p": flat[1], "v": v}


def torch_truth(program: Program, t, u, p, v: torch.Tensor, fixed: bool = False) -> Truth:
    """f and its derivatives by plain torch autograd, with nothing of ours between. NaN: not to be compared."""
    inputs = [x.detach().clone().requires_grad_() for x in (t, *u, *p)]
    t, u, p = inputs[0], inputs[1 : 1 + len(u)], inputs[1 + len(u) :]
    off = [x for x in program.captured if x.is_leaf and not x.requires_grad and not fixed]
    for x in off:
        x.requires_grad_()
    try:
        tree = program.apply(t, u, p)
        leaves = in_state_order(program, tree)
        out = torch.cat([x.reshape(-1) for x in leaves])
        wrt = [t, *u, *p, *program.captured]
        basis = [*torch.eye(out.numel(), dtype=out.dtype), v.to(out.dtype)]
        rows = [flat_gradient(out, wrt, seed) for seed in basis]
    finally:
        for x in off:
            x.requires_grad_(False)
    n = sum(x.numel() for x in u)
    blank = torch.cat([torch.full((x.numel(),), math.nan if fixed and not x.requires_grad else 0.0) for x in wrt])
    rows[-1] = rows[-1] + blank
    jac, pulled = torch.stack(rows[:-1]), rows[-1]
    return {"f": out.detach(), "jac": jac[:, 1 : 1 + n], "tgrad": jac[:, 0],
            "vjp": pulled[1 : 1 + n], "vjp_p": pulled[1 + n :], "both": pulled[1:]}  # fmt: skip


def in_state_order(program: Program, tree: Any) -> list[torch.Tensor]:
    spec = program.u_layout.spec
    if isinstance(tree, dict):
        like = pytree.tree_unflatten(list(range(len(program.u))), spec)
        tree = {k: tree[k] for k in like}
    return pytree.tree_leaves(tree)


def flat_gradient(out: torch.Tensor, wrt: list[torch.Tensor], seed: torch.Tensor) -> torch.Tensor:
    if not out.requires_grad:
        return torch.cat([torch.zeros(x.numel(), dtype=out.dtype) for x in wrt])
    asked = [x for x in wrt if x.requires_grad]
    found = iter(torch.autograd.grad(out, asked, seed, retain_graph=True, allow_unused=True))
    grads = [next(found) if x.requires_grad else None for x in wrt]
    return torch.cat([(torch.zeros_like(x) if g is None else g).reshape(-1) for g, x in zip(grads, wrt, strict=True)])
