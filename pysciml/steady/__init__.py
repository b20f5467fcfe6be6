"""Steady states and implicit layers: from a SteadyStateProblem to its solution, differentiable to any order."""
