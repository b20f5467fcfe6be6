"""Steady states and implicit layers: from a SteadyStateProblem to its solution, differentiable to any order."""

from pysciml.steady.solve import solve_steady as solve_steady
