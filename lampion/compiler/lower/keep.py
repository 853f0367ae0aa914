"""Costly values that a row needs twice, kept in the memory of its result in between. May import ir.

A softmax sums exponentials and divides them by the sum: two loops over the row. Where both would
compute the same costly value, a loop before them writes it where the result will stand, and both
read it there.
"""

from __future__ import annotations

from ..ir.node import FLOATS, Node, store
from ..ir.rewrite import substitute

COSTLY = 8  # operations on floats from which reading a value again is cheaper
LONGEST = 1 << 17  # elements of a row that stays in the cache


def kept_in_results(
    rows: list[Node], others: list[Node], stores: list[Node]
) -> tuple[list[Node], list[Node], list[Node]]:
    """The statement that writes a costly value to the place of a result, before `others` and
    `stores`, and these reading it there; without such a value none, and both as they are.

    rows    the loops over rows: what depends on all of them is computed where it is first needed,
            and not before
    others  statements that come before the last ones
    stores  these: what is written at each element of a row, after the reductions over it
    """
    inside: set[Node] = set()
    for statement in (*others, *stores):
        for node in statement.toposort():
            if node.op == "reduce":
                inside |= direct(node.src[0])
    for statement in stores:
        pointer, place, value = statement.src[:3]
        if not rows or not set(rows) <= set(place.toposort()):
            continue
        common = [n for n in direct(value) & inside if n.dtype == pointer.dtype[1:]]
        costs = {n: cost(n) for n in common}
        best = max(common, key=costs.__getitem__, default=None)
        if best is None or costs[best] < COSTLY or best is value:
            continue
        again = {best: pointer.load(place)}
        others, stores = ([substitute(s, again) for s in group] for group in (others, stores))
        return [store(pointer, place, best)], others, stores
    return [], others, stores


def direct(value: Node) -> set[Node]:
    """The nodes that a value is made of, but for what reductions are made of."""
    found: set[Node] = set()
    work = [value]
    while work:
        node = work.pop()
        if node not in found and node.op != "range":
            found.add(node)
            work += () if node.op in ("reduce", "load") else node.src
    return found


def cost(value: Node) -> int:
    """The operations on floats that a value takes, reductions and what is loaded not counted."""
    free = ("reduce", "load", "const", "param")
    return sum(n.dtype in FLOATS and n.op not in free for n in direct(value))
