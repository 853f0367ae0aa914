"""Joining, splitting, repeating and rolling tensors. May import rules, earlier families, core and the base."""
