"""Machine code: LLVM text from Python, compiling, the disk cache, worker threads, stages of tiles.

Imports settings and the base.
"""
