"""The version of pysciml: the one place that states it, read by the build and by `pysciml.__version__`."""

__version__ = "0.1.0"
