"""Rewriting: rules per operation, applied bottom-up until none changes anything.

May import ir. The idea is tinygrad's `graph_rewrite`; without recursion, so depth is no limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .node import Node

Rule = Callable[[Node], Node | None]
MOST_STEPS_PER_NODE = 1000


class Rules:
    """Rules by the operations whose nodes they may replace; `None` from a rule means no change.

    >>> rules = Rules()
    >>> @rules.add("neg")
    ... def neg_of_neg(node):
    ...     return node.src[0].src[0] if node.src[0].op == "neg" else None
    """

    def __init__(self) -> None:
        self.by_op: dict[str, list[Rule]] = {}

    def add(self, *ops: str) -> Callable[[Rule], Rule]:
        """Decorator: registers a rule for these operations, after those already there."""

        def register(rule: Rule) -> Rule:
            for op in ops:
                self.by_op.setdefault(op, []).append(rule)
            return rule

        return register

    def apply(self, node: Node) -> Node:
        """What the first rule that changes the node makes of it, else the node itself."""
        for rule in self.by_op.get(node.op, ()):
            new = rule(node)
            if new is not None and new is not node:
                return new
        return node


def rewrite(root: Node, rules: Rules) -> Node:
    """The fixed point of the rules under `root`; `RuntimeError` if they go round in circles."""
    final: dict[Node, Node] = {}
    becomes: dict[Node, Node] = {}
    stack, steps = [root], 0
    limit = MOST_STEPS_PER_NODE * len(root.toposort())
    while stack:
        node = stack[-1]
        if node in final:
            stack.pop()
            continue
        if node in becomes and becomes[node] in final:
            final[node] = final[becomes[node]]
            continue
        waiting = [s for s in node.src if s not in final]
        if waiting:
            stack.extend(reversed(waiting))
            continue
        same = node.with_src(tuple(final[s] for s in node.src))
        new = rules.apply(same) if same is node else same
        if new is node:
            final[node] = node
            continue
        if node in becomes or steps == limit:
            raise RuntimeError(f"[rewrite] expects rules to come to an end, got {node!r} again")
        becomes[node] = new
        stack.append(new)
        steps += 1
    return final[root]


def substitute(root: Node, replacements: Mapping[Node, Node]) -> Node:
    """The same graph with some nodes replaced."""
    new: dict[Node, Node] = {}
    for node in root.toposort():
        new[node] = replacements.get(node) or node.with_src(tuple(new[s] for s in node.src))
    return new[root]
