"""Problems: what is to be solved, apart from how."""

from pysciml.problems.ensemble import EnsembleProblem as EnsembleProblem
from pysciml.problems.ode import ODEProblem as ODEProblem
