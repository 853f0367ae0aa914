"""Seeing what happens inside: summaries of modules. May import nn and what is below."""

from .summary import summary as summary
