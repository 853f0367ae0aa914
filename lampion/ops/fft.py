"""Discrete Fourier transforms. May import rules, earlier families, core and the base."""
