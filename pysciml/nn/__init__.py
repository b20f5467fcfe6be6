"""Layers: what solves inside of a network."""

from pysciml.nn.equilibrium import DeepEquilibrium as DeepEquilibrium
