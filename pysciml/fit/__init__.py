"""Fitting parameters, initial states and networks inside differential equations to data."""

from pysciml.fit.errors import FitError as FitError
from pysciml.fit.fit import fit as fit
from pysciml.fit.history import History as History
from pysciml.fit.result import FitResult as FitResult
from pysciml.fit.shooting import MultipleShooting as MultipleShooting
from pysciml.fit.stage import Stage as Stage
