"""Eager calls on small tensors as CPython built-ins made at run time. Imports native and core."""
