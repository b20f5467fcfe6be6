"""Small real data sets that ship with the package, each with its source."""

from pysciml.datasets.hudson_bay import LynxHare as LynxHare
from pysciml.datasets.hudson_bay import lynx_hare as lynx_hare
