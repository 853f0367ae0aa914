"""Convolutions. May import rules, earlier families, core and the base."""
