"""Padding, interpolation and grids. May import rules, earlier families, core and the base."""
