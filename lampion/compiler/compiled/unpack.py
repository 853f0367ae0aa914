"""Arguments in containers, or by keyword, as a row of leaves. Imports structure.

`trace.structure.flatten` finds out what the structure is; who knows what it must be is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..trace.structure import Structure

Read = Callable[[Any, list], bool]


def reader(structure: Structure) -> Read:
    """What appends the leaves of a tree of this structure to a list; false for trees of another,
    but for what stands in the place of a leaf: that is not looked at.

    >>> leaves = []
    >>> reader((list, None, (None, None)))([1, 2], leaves), leaves
    (True, [1, 2])
    >>> reader((list, None, (None, None)))((1, 2), leaves)
    False
    """
    if structure is None:
        return leaf
    kind, keys, inside = structure
    readers = [reader(each) for each in inside]
    flat = all(each is None for each in inside)

    def read(tree: Any, leaves: list) -> bool:
        if tree.__class__ is not kind or len(tree) != len(inside):
            return False
        if keys is not None:
            if tuple(tree) != keys:
                return False
            tree = tree.values()
        if flat:
            leaves.extend(tree)
            return True
        return False not in [each(item, leaves) for each, item in zip(readers, tree, strict=True)]

    return read


def leaf(tree: Any, leaves: list) -> bool:
    """Takes it as it is."""
    leaves.append(tree)
    return True
