"""From a learned term to a formula: sparse regression over candidate terms, and how far to trust it."""

from pysciml.discovery.law import Candidate as Candidate
from pysciml.discovery.law import Law as Law
from pysciml.discovery.module import LawModule as LawModule
from pysciml.discovery.search import discover as discover
