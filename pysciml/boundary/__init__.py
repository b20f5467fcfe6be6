"""Boundary value problems: from a BVProblem to its Solution, differentiable to any order."""
