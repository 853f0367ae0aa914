"""What tests ask of the short way into a compiled function."""

import pytest

import lampion as torch
from lampion.compiler.compiled.gate import dictionaries_have_versions
from lampion.compiler.native import runtime

needs_short_way = pytest.mark.skipif(
    not (runtime.available() and dictionaries_have_versions()),
    reason="there is no short way without llvmlite, or in this interpreter",
)


def opened(f, *args, calls=3):
    """The compiled function after some calls, when its short way is open."""
    c = torch.compile(f)
    for _ in range(calls):
        c(*args)
    assert c.way is not None
    return c


def by_the_short_way(c, *args):
    """A call's result, which must come by the short way."""
    enter, result = c.way
    made = enter(*args)
    assert made is not None
    return result(made, args)


def refused(c, *args):
    """Whether the short way is closed to a call."""
    return c.way is None or c.way[0](*args) is None
