"""From a call to a graph: what operators ran, on which memory, and what the call relied on. Imports
core.
"""
