"""Many trajectories as one call."""

from pysciml.ensemble.solve import solve_ensemble as solve_ensemble
