"""Kernels for large arrays, which eager operators and compiled programs share. Imports ir, native
and the base.
"""
