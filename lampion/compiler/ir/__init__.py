"""Scalar code as nodes and flat programs: the IR, its rules, its mathematics, its renderers.

Imports the base only.
"""
