"""Complex numbers as pairs of reals. May import rules, earlier families, core and the base."""
