"""Boundary value problems: from a BVProblem to its Solution, differentiable to any order."""

from pysciml.boundary.solve import solve_boundary as solve_boundary
