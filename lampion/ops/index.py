"""Indexing, gathering and scattering. May import rules, earlier families, core and the base."""
