"""The special namespace. May import rules, earlier families, core and the base."""
