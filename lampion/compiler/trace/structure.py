"""Nested containers as flat lists and back, with a description that can be compared and hashed.

Imports nothing of lampion. The public form is `utils._pytree`, which lies above the compiler.
"""

from __future__ import annotations

from typing import Any

Structure = Any  # None: a leaf; else (type, keys or None, structures of what is inside)


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of nested tuples, lists and dictionaries, and their structure.

    >>> flatten((1, [2]))
    ([1, 2], (<class 'tuple'>, None, (None, (<class 'list'>, None, (None,)))))
    """
    leaves: list[Any] = []
    return leaves, describe(tree, leaves)


def describe(tree: Any, leaves: list[Any]) -> Structure:
    """The structure of a tree, whose leaves are appended to a list."""
    if isinstance(tree, dict):
        return type(tree), tuple(tree), tuple([describe(v, leaves) for v in tree.values()])
    if isinstance(tree, (tuple, list)):
        return type(tree), None, tuple([describe(v, leaves) for v in tree])
    leaves.append(tree)
    return None


def unflatten(structure: Structure, leaves: Any) -> Any:
    """The tree of a structure; `leaves` is an iterator."""
    if structure is None:
        return next(leaves)
    kind, keys, inside = structure
    values = [unflatten(s, leaves) for s in inside]
    if keys is not None:
        made = kind()
        made.update(zip(keys, values))
        return made
    return kind(*values) if hasattr(kind, "_fields") else kind(values)
