"""pysciml: differential equations in PyTorch, with gradients, on solvers that are right for them.

Importing this starts no engine and imports no solver; each is loaded when it first solves.
"""

from pysciml import datasets as datasets
from pysciml._version import __version__ as __version__
from pysciml.algorithms import BS3 as BS3
from pysciml.algorithms import CVODE_BDF as CVODE_BDF
from pysciml.algorithms import DP5 as DP5
from pysciml.algorithms import FBDF as FBDF
from pysciml.algorithms import IDA as IDA
from pysciml.algorithms import QNDF as QNDF
from pysciml.algorithms import TRBDF2 as TRBDF2
from pysciml.algorithms import CVODE_Adams as CVODE_Adams
from pysciml.algorithms import Euler as Euler
from pysciml.algorithms import Heun as Heun
from pysciml.algorithms import KenCarp4 as KenCarp4
from pysciml.algorithms import RadauIIA5 as RadauIIA5
from pysciml.algorithms import Rodas5P as Rodas5P
from pysciml.algorithms import Rosenbrock23 as Rosenbrock23
from pysciml.algorithms import TorchDiffEq as TorchDiffEq
from pysciml.algorithms import Tsit5 as Tsit5
from pysciml.algorithms import Vern6 as Vern6
from pysciml.algorithms import Vern7 as Vern7
from pysciml.algorithms import Vern8 as Vern8
from pysciml.algorithms import Vern9 as Vern9
from pysciml.config import config as config
from pysciml.discovery import Law as Law
from pysciml.discovery import discover as discover
from pysciml.engines.select import capabilities as capabilities
from pysciml.errors import EngineMissingError as EngineMissingError
from pysciml.errors import InvalidInputError as InvalidInputError
from pysciml.errors import MissingExtraError as MissingExtraError
from pysciml.errors import PySciMLError as PySciMLError
from pysciml.errors import PySciMLWarning as PySciMLWarning
from pysciml.errors import SolveError as SolveError
from pysciml.errors import TraceError as TraceError
from pysciml.errors import UnsupportedError as UnsupportedError
from pysciml.fit import FitError as FitError
from pysciml.fit import FitResult as FitResult
from pysciml.fit import MultipleShooting as MultipleShooting
from pysciml.fit import Stage as Stage
from pysciml.fit import fit as fit
from pysciml.odeint import odeint as odeint
from pysciml.odeint import odeint_adjoint as odeint_adjoint
from pysciml.odeint import odeint_event as odeint_event
from pysciml.problems import ODEProblem as ODEProblem
from pysciml.sensitivity import BacksolveAdjoint as BacksolveAdjoint
from pysciml.sensitivity import DirectAdjoint as DirectAdjoint
from pysciml.sensitivity import ForwardSensitivity as ForwardSensitivity
from pysciml.sensitivity import GaussAdjoint as GaussAdjoint
from pysciml.sensitivity import InterpolatingAdjoint as InterpolatingAdjoint
from pysciml.solution import ReturnCode as ReturnCode
from pysciml.solution import Solution as Solution
from pysciml.solution import Stats as Stats
from pysciml.solve import solve as solve
