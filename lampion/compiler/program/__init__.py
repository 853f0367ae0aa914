"""Kernels as one native program: memory, stages, explanations. Imports lower and native."""
