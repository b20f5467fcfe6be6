"""From a learned term to a formula: sparse regression over candidate terms, or symbolic regression."""

from pysciml.discovery.law import Candidate as Candidate
from pysciml.discovery.law import Law as Law
from pysciml.discovery.module import LawModule as LawModule
from pysciml.discovery.search import discover as discover
from pysciml.discovery.symbolic_law import Formula as Formula
from pysciml.discovery.symbolic_law import SymbolicLaw as SymbolicLaw
from pysciml.discovery.symbolic_law import SymbolicModule as SymbolicModule
from pysciml.discovery.symbolic_search import discover_symbolic as discover_symbolic
