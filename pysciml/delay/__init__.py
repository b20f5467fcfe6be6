"""Delay differential equations: from a `DDEProblem` to its Solution."""
