"""From a graph to kernels: expanding, cleaning, fusing, loops in IR, templates. Imports trace,
kernels, native and ir.
"""
