"""Many trajectories as one call."""

from pysciml.ensemble.solution import EnsembleSolution as EnsembleSolution
from pysciml.ensemble.solution import FailedTrajectory as FailedTrajectory
from pysciml.ensemble.solve import solve_ensemble as solve_ensemble
