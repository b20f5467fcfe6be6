"""Stochastic differential equations."""

from pysciml.stochastic.random import solve_rode as solve_rode
from pysciml.stochastic.random import solve_rodes as solve_rodes
from pysciml.stochastic.solution import SDESolution as SDESolution
from pysciml.stochastic.solve import solve_paths as solve_paths
from pysciml.stochastic.solve import solve_sde as solve_sde
