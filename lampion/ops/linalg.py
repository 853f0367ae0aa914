"""Products of matrices and their decompositions. May import rules, earlier families, core and the base."""
