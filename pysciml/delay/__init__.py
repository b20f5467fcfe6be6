"""Delay differential equations: from a `DDEProblem` to its Solution."""

from pysciml.delay.solve import solve_delay as solve_delay
from pysciml.delay.stochastic import solve_sdde as solve_sdde
from pysciml.delay.stochastic import solve_sddes as solve_sddes
