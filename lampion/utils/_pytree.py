"""Nested containers as flat lists and back (PyTorch's `torch.utils._pytree`).
May import nothing of lampion.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple


class TreeSpec(NamedTuple):
    """How to build a container from its children; `kind` None stands for a leaf."""

    kind: Any
    keys: Any
    children: tuple[TreeSpec, ...]

    @property
    def num_leaves(self) -> int:
        return 1 if self.kind is None else sum(c.num_leaves for c in self.children)


LEAF = TreeSpec(None, None, ())


def is_namedtuple(x: Any) -> bool:
    """Whether x is a tuple whose places have names."""
    return isinstance(x, tuple) and hasattr(x, "_fields")


def tree_flatten(tree: Any) -> tuple[list, TreeSpec]:
    """The leaves of nested lists, tuples, named tuples, dicts and deques,
    and the structure around them.
    """
    if isinstance(tree, (dict, OrderedDict, defaultdict)):
        keys, values = list(tree), list(tree.values())
    elif isinstance(tree, (list, tuple, deque)):
        keys, values = None, list(tree)
    else:
        return [tree], LEAF
    leaves: list = []
    specs = []
    for value in values:
        flat, spec = tree_flatten(value)
        leaves.extend(flat)
        specs.append(spec)
    return leaves, TreeSpec(type(tree), keys, tuple(specs))


def tree_unflatten(leaves: list, spec: TreeSpec) -> Any:
    """The inverse of `tree_flatten`; raises ValueError if the number of leaves does not fit."""
    leaves = list(leaves)
    if len(leaves) != spec.num_leaves:
        raise ValueError(
            f"tree_unflatten: the structure has {spec.num_leaves} leaves, got {len(leaves)}"
        )
    rest = iter(leaves)

    def build(spec: TreeSpec) -> Any:
        if spec.kind is None:
            return next(rest)
        children = [build(c) for c in spec.children]
        if spec.keys is not None:
            pairs = dict(zip(spec.keys, children, strict=True))
            return pairs if issubclass(spec.kind, defaultdict) else spec.kind(pairs)
        return spec.kind(*children) if hasattr(spec.kind, "_fields") else spec.kind(children)

    return build(spec)


def tree_leaves(tree: Any) -> list:
    """The leaves alone."""
    return tree_flatten(tree)[0]


def tree_map(function: Callable, tree: Any, *others: Any) -> Any:
    """The same structure with `function` of the leaves (of corresponding leaves,
    given several trees).
    """
    leaves, spec = tree_flatten(tree)
    columns = [tree_flatten(t)[0] for t in others]
    return tree_unflatten([function(*row) for row in zip(leaves, *columns, strict=True)], spec)


def tree_map_only(kind: Any, function: Callable, tree: Any) -> Any:
    """`tree_map` that leaves alone what is not of the given type."""
    return tree_map(lambda x: function(x) if isinstance(x, kind) else x, tree)


def broadcast_prefix(prefix: Any, tree: Any) -> list:
    """One entry of `prefix` for each leaf of `tree`;
    a leaf of the prefix serves a whole subtree.
    """
    if isinstance(prefix, (list, tuple, dict)) and isinstance(tree, (list, tuple, dict)):
        pairs = (
            zip(prefix.values(), tree.values(), strict=True)
            if isinstance(prefix, dict) and isinstance(tree, dict)
            else zip(prefix, tree, strict=True)
        )
        return [x for p, t in pairs for x in broadcast_prefix(p, t)]
    return [prefix] * len(tree_leaves(tree))
