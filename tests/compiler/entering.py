"""What tests ask of the short way into a compiled function."""

import pytest

import lampion as torch
from lampion.compiler.compiled.gate import dictionaries_have_versions
from lampion.compiler.native import runtime

needs_short_way = pytest.mark.skipif(
    not (runtime.available() and dictionaries_have_versions()),
    reason="there is no short way without llvmlite, or in this interpreter",
)


def opened(f, *args, calls=3, **kwargs):
    """The compiled function after some calls, when its short way is open."""
    c = torch.compile(f)
    for _ in range(calls):
        c(*args, **kwargs)
    assert c.ways or c.nested
    return c


class Missed(Exception):
    """A call went the long way."""


def long_way(args, kwargs):
    """Stands for the long way."""
    raise Missed


def by_the_short_way(c, *args, **kwargs):
    """A call's result, which must come by the short way."""
    c.long_way = long_way
    try:
        return c(*args, **kwargs)
    finally:
        del c.long_way


def refused(c, *args, **kwargs):
    """Whether the short way is closed to a call."""
    try:
        by_the_short_way(c, *args, **kwargs)
    except Missed:
        return True
    return False
