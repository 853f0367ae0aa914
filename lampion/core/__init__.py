"""The core: the operator record, the tensor, dispatch, the tape and the interpreters. May import
the base.
"""
