"""Fitting parameters, initial states and networks inside differential equations to data."""

from pysciml.fit.constraints import Bounded as Bounded
from pysciml.fit.constraints import Positive as Positive
from pysciml.fit.constraints import constrain as constrain
from pysciml.fit.errors import FitError as FitError
from pysciml.fit.fit import fit as fit
from pysciml.fit.history import History as History
from pysciml.fit.many import FitEnsemble as FitEnsemble
from pysciml.fit.many import fit_many as fit_many
from pysciml.fit.noise import GaussianNoise as GaussianNoise
from pysciml.fit.noise import LogNormalNoise as LogNormalNoise
from pysciml.fit.noise import NegativeBinomialNoise as NegativeBinomialNoise
from pysciml.fit.noise import Noise as Noise
from pysciml.fit.noise import PoissonNoise as PoissonNoise
from pysciml.fit.noise import StudentTNoise as StudentTNoise
from pysciml.fit.pretrain import pretrain as pretrain
from pysciml.fit.prior import Prior as Prior
from pysciml.fit.profile_likelihood import Profile as Profile
from pysciml.fit.profile_likelihood import profile_likelihood as profile_likelihood
from pysciml.fit.result import FitResult as FitResult
from pysciml.fit.shooting import MultipleShooting as MultipleShooting
from pysciml.fit.stage import Stage as Stage
from pysciml.fit.uncertainty import Information as Information
from pysciml.fit.uncertainty import Laplace as Laplace
from pysciml.fit.uncertainty import fisher_information as fisher_information
from pysciml.fit.uncertainty import laplace as laplace
