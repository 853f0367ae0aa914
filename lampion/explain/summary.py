"""A module as a table: each layer with the shape it gives and the parameters it holds.
May import nn.
"""

from __future__ import annotations

from typing import Any

from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..nn.module import Module
from ..utils._pytree import tree_leaves


def summary(module: Module, *inputs: Any) -> str:
    """The layers of `module`, in the order in which they run on `inputs`, as text.

    One line per call of a layer without children: its path, its class, the shape of its result and
    the number of its parameters; then totals. The module runs once, in eval mode, without
    recording.

    >>> print(lampion.explain.summary(torch.nn.Linear(3, 2), torch.zeros(1, 3)))  # doctest: +SKIP
    """
    rows: list[tuple[str, str, str, int]] = []
    paths = {m: name or type(module).__name__ for name, m in module.named_modules()}

    def note(layer: Module, args: Any, out: Any) -> None:
        shapes = [str(tuple(t.shape)) for t in tree_leaves(out) if isinstance(t, Tensor)]
        count = sum(p.numel() for p in layer.parameters())
        rows.append((paths[layer], type(layer).__name__, ", ".join(shapes), count))

    leaves = [m for m in module.modules() if not list(m.children())]
    handles = [m.register_forward_hook(note) for m in leaves]
    modes = {m: m.training for m in module.modules()}
    module.eval()
    try:
        with no_grad():
            module(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        for m, training in modes.items():
            m.training = training
    return _table(rows, module)


def _table(rows: list[tuple[str, str, str, int]], module: Module) -> str:
    """The rows in columns, and the totals."""
    head = ("layer", "kind", "output shape", "parameters")
    cells = [head, *[(a, b, c, f"{n:,}") for a, b, c, n in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(4)]
    lines = [
        "  ".join(
            text.rjust(w) if i == 3 else text.ljust(w)
            for i, (text, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "-" * (sum(widths) + 6))
    parameters = list(module.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    total = sum(p.numel() for p in parameters)
    size = sum(p.numel() * p.element_size() for p in parameters) / 2**10
    lines += [lines[1], f"{total:,} parameters, {trained:,} of them trained; {size:,.1f} KiB"]
    return "\n".join(lines)
