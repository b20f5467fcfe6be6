"""du/dt taken out of a fully implicit problem, where it occurs in a way that can be solved for.

pysciml takes 0 = f(t, u, du/dt) as a system in (du, u), which doubles it, and puts du under control of the tolerances,
though its noise is that of u times the fastest rate of the problem. Where f is A(t, u) du + b(t, u) in as many rows as
there are differential variables, du = -A^-1 b goes in its place, and what is left is a problem in u alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import casadi as ca
import numpy as np


class Eliminated(NamedTuple):
    """A problem without du: CasADi's description of it, and du as a function of (t, x, z, p)."""

    dae: dict[str, Any]
    slopes: ca.Function


def eliminated(dae: dict[str, Any], differential: np.ndarray) -> Eliminated | None:
    """The problem without du, or None where f is not linear in it or its rows do not tell.

    Args:
        dae: CasADi's description; its z is (du, algebraic u), and its alg (f, more). differential: (n,) which u are.
    """
    n, wanted, kind = differential.size, np.flatnonzero(differential).tolist(), type(dae["z"])
    t, x, p = dae["t"], dae["x"], dae["p"]
    unknown, z = kind.sym("du", len(wanted)), kind.sym("z", n - len(wanted))
    whole = ca.Function("whole", [t, x, dae["z"], p], [dae["ode"], dae["alg"][:n]])

    def completed(du: Any) -> Any:
        full = kind.zeros(n, 1)
        full[wanted] = du  # of an algebraic variable it is zero
        return full

    def at(du: Any) -> list[Any]:
        return whole.call([t, x, ca.vertcat(completed(du), z), p], True, False)

    _, f = at(unknown)
    rows = sorted(set(ca.jacobian_sparsity(f, unknown).get_triplet()[0]))
    jacobian = ca.jacobian(f[rows], unknown)
    if len(rows) != len(wanted) or ca.depends_on(jacobian, unknown):
        return None
    du = -_solved(jacobian, at(kind.zeros(len(wanted), 1))[1][rows])
    ode, f = at(du)
    left = {"t": t, "x": x, "p": p, "ode": ode}
    others = [i for i in range(n) if i not in rows]
    if others:
        left |= {"z": z, "alg": f[others]}
    return Eliminated(left, ca.Function("slopes", [t, x, z, p], [completed(du)], ["t", "x", "z", "p"], ["du"]))


def _solved(matrix: Any, right: Any) -> Any:
    """A^-1 b; a matrix with one entry in each row and column needs no factors."""
    rows, columns = matrix.sparsity().get_triplet()
    if len(rows) == matrix.shape[0] == len(set(rows)) == len(set(columns)):
        quotients = right[rows] / ca.vertcat(*(matrix[i, j] for i, j in zip(rows, columns, strict=True)))
        return quotients[np.argsort(columns).tolist()]
    return ca.solve(matrix, right)
