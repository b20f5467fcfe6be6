"""Pictures of solutions, fits and laws. Each draws on the axes it is given, or on a new pyplot figure; none shows it.

No function touches matplotlib's settings: the style is set on the axes drawn on, and nowhere else.
"""

from pysciml.plot.fit import plot_fan as plot_fan
from pysciml.plot.fit import plot_fit as plot_fit
from pysciml.plot.fit import plot_history as plot_history
from pysciml.plot.law import plot_law as plot_law
from pysciml.plot.law import plot_term as plot_term
from pysciml.plot.profile import plot_profile as plot_profile
from pysciml.plot.solution import plot_phase as plot_phase
from pysciml.plot.solution import plot_solution as plot_solution
from pysciml.plot.solution import plot_steps as plot_steps
from pysciml.plot.style import COLORS as COLORS
