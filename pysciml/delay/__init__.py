"""Delay differential equations: from a `DDEProblem` to its Solution."""

from pysciml.delay.solve import solve_delay as solve_delay
