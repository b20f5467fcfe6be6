"""What a solve returns: the return code, the counts, and the Solution with its dense output."""

from pysciml.solution.ensemble import EnsembleSolution as EnsembleSolution
from pysciml.solution.ensemble import FailedTrajectory as FailedTrajectory
from pysciml.solution.event import Event as Event
from pysciml.solution.retcode import ReturnCode as ReturnCode
from pysciml.solution.solution import Solution as Solution
from pysciml.solution.stats import Stats as Stats
from pysciml.solution.steady_state import SteadyStateSolution as SteadyStateSolution
