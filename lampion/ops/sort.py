"""Sorting, selecting, counting and cumulative operators. May import rules, earlier families, core and the base."""
