"""What the examples in docstrings may assume: `torch` is Lampion, and the seed is 0."""

import pytest


@pytest.fixture(autouse=True)
def docstring_names(request):
    """Gives docstring examples the name every program gives Lampion."""
    if isinstance(request.node, pytest.DoctestItem):
        import lampion

        lampion.manual_seed(0)
        request.getfixturevalue("doctest_namespace")["torch"] = lampion
