"""Algorithms: one small class each, under the name it has in Julia."""

from pysciml.algorithms.base import REGISTRY as REGISTRY
from pysciml.algorithms.base import Algorithm as Algorithm
from pysciml.algorithms.base import by_name as by_name
from pysciml.algorithms.implicit import FBDF as FBDF
from pysciml.algorithms.implicit import QNDF as QNDF
from pysciml.algorithms.implicit import TRBDF2 as TRBDF2
from pysciml.algorithms.implicit import KenCarp4 as KenCarp4
from pysciml.algorithms.implicit import RadauIIA5 as RadauIIA5
from pysciml.algorithms.implicit import Rodas5P as Rodas5P
from pysciml.algorithms.implicit import Rosenbrock23 as Rosenbrock23
from pysciml.algorithms.runge_kutta import BS3 as BS3
from pysciml.algorithms.runge_kutta import DP5 as DP5
from pysciml.algorithms.runge_kutta import Euler as Euler
from pysciml.algorithms.runge_kutta import Heun as Heun
from pysciml.algorithms.runge_kutta import TorchDiffEq as TorchDiffEq
from pysciml.algorithms.runge_kutta import Tsit5 as Tsit5
from pysciml.algorithms.runge_kutta import Vern6 as Vern6
from pysciml.algorithms.runge_kutta import Vern7 as Vern7
from pysciml.algorithms.runge_kutta import Vern8 as Vern8
from pysciml.algorithms.runge_kutta import Vern9 as Vern9
from pysciml.algorithms.sundials import CVODE_BDF as CVODE_BDF
from pysciml.algorithms.sundials import IDA as IDA
from pysciml.algorithms.sundials import CVODE_Adams as CVODE_Adams
