"""Problems: what is to be solved, apart from how."""

from pysciml.problems.boundary import BVProblem as BVProblem
from pysciml.problems.boundary import TwoPointBVProblem as TwoPointBVProblem
from pysciml.problems.delay import DDEProblem as DDEProblem
from pysciml.problems.ensemble import EnsembleProblem as EnsembleProblem
from pysciml.problems.implicit import DAEProblem as DAEProblem
from pysciml.problems.jump import JumpProblem as JumpProblem
from pysciml.problems.mass_action import MassAction as MassAction
from pysciml.problems.noise import NoisePath as NoisePath
from pysciml.problems.ode import ODEProblem as ODEProblem
from pysciml.problems.plain import plain as plain
from pysciml.problems.random import RODEProblem as RODEProblem
from pysciml.problems.steady_state import SteadyStateProblem as SteadyStateProblem
from pysciml.problems.stochastic import SDEProblem as SDEProblem
from pysciml.problems.stochastic_delay import SDDEProblem as SDDEProblem
from pysciml.problems.systems import DynamicalODEProblem as DynamicalODEProblem
from pysciml.problems.systems import SecondOrderODEProblem as SecondOrderODEProblem
from pysciml.problems.systems import Split as Split
from pysciml.problems.systems import SplitODEProblem as SplitODEProblem
from pysciml.problems.systems import check_halves as check_halves
from pysciml.problems.systems import kind as kind
