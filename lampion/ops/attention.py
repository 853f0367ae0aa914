"""Embedding and attention. May import rules, earlier families, core and the base."""
