"""`lampion.compile`: functions and their programs, and the short way into them. Imports program,
trace, calls and native.
"""
