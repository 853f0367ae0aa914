"""Losses as `torch` itself has them, which number their reductions. May import loss and rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.naming import named
from .loss import REDUCTIONS, F, divergence
from .rules import EXPORTS


def numbered(function: Callable, order: str) -> Callable:
    """A loss whose arguments come in this order and whose reduction is 0, 1 or 2."""
    names = order.split()

    def call(*args: Any, **kwargs: Any) -> Any:
        given = {**dict(zip(names, args)), **kwargs}
        return function(**given | {"reduction": REDUCTIONS[given.get("reduction", 1)]})

    doc = f"`nn.functional.{function.__name__}` with a numbered reduction: none, mean, sum."
    return named(call, function.__name__, doc)


PAIR = "input1 input2 target margin reduction"
ORDERS = {
    "binary_cross_entropy_with_logits": "input target weight pos_weight reduction",
    "cosine_embedding_loss": PAIR,
    "margin_ranking_loss": PAIR,
    "hinge_embedding_loss": "input target margin reduction",
    "poisson_nll_loss": "input target log_input full eps reduction",
    "triplet_margin_loss": "anchor positive negative margin p eps swap reduction",
    "ctc_loss": "log_probs targets input_lengths target_lengths blank reduction zero_infinity",
}
EXPORTS["torch"].update({name: numbered(F[name], order) for name, order in ORDERS.items()})
EXPORTS["torch"]["kl_div"] = numbered(divergence, "input target reduction")
