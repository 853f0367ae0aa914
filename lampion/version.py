"""The version, in this one place: packaging and `lampion.__version__` read it. Imports nothing."""

__version__ = "0.1.0"
