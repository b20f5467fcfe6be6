"""Jump processes."""

from pysciml.jumps.solution import JumpEnsembleSolution as JumpEnsembleSolution
from pysciml.jumps.solution import Jumps as Jumps
from pysciml.jumps.solution import JumpSolution as JumpSolution
from pysciml.jumps.solve import solve_jump as solve_jump
from pysciml.jumps.solve import solve_jumps as solve_jumps
