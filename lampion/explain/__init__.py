"""Seeing what happens inside: summaries of modules."""

from .summary import summary as summary
