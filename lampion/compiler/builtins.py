"""All compiled calls in one module: built, loaded, and bound to their operators. Imports the
compiler's earlier files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..core.op import OPS
from . import calls, calls_elementwise, calls_views, objects, runtime
from .calls import Entry
from .emit import Module

Place = tuple[str, str]


def elementwise_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of an elementwise operator."""
    op = OPS[name]
    core, parameters = ("unary", ("input",)) if len(op.inputs) == 1 else BINARY
    return Entry(core, parameters, tuple(places), calls_elementwise.context_of(op))


BINARY = ("binary", ("input", "other"))


def other_entries(places: dict[str, Sequence[Place]]) -> list[Entry]:
    """The entries of operators that have a core of their own, by its name."""
    sizes = ("self", *[f"size {i}" for i in range(7)])
    known: dict[str, tuple[tuple[str, ...], Any]] = {
        "sized": (sizes, calls_views.context_of(OPS["view"])),
        "item": (("self", "index"), calls_views.context_of(OPS["index_view"])),
    }
    return [Entry(core, *known[core][:1], tuple(at), known[core][1]) for core, at in places.items()]


def write(entries: Sequence[Entry], looped: Sequence[str]) -> Module:
    """The module of all entries, with the loops of these operators."""
    module = Module()
    for write_function in (
        *objects.SHARED,
        *calls.SHARED,
        *calls_elementwise.SHARED,
        *calls_views.SHARED,
    ):
        write_function(module)
    for name in looped:
        calls_elementwise.write_loops(module, OPS[name])
    for entry in entries:
        for place in entry.places:
            calls.write_entry(module, place)
    return module


def install(
    elementwise: dict[str, Sequence[Place]],
    others: dict[str, Sequence[Place]],
    publish: Callable[[Place, Callable[[Any, type | None], Any]], None],
) -> bool:
    """Compiles the calls and has each take its place; False where they cannot run: llvmlite is
    missing, or objects lie in memory otherwise than expected.

    `elementwise` maps names of operators to the places where they are published, `others` names of
    cores. `publish(place,
    make)` puts `make(python, cls)` into the place of the function `python`.
    """
    if not (runtime.available() and objects.known_layout()):
        return False
    entries = {name: elementwise_entry(name, places) for name, places in elementwise.items()}
    looped = [name for name in entries if calls_elementwise.has_loops(OPS[name])]
    everything = [*entries.values(), *other_entries(others)]
    module = write(everything, looped)
    code = runtime.load(module.text())
    objects.fill_objects(code, module)
    for name in looped:
        context: Any = entries[name].context
        context.loop32, context.loop64 = [code.address(f"{name}_{bits}") for bits in (32, 64)]
    for entry in everything:
        for place in entry.places:
            publish(
                place, lambda python, cls, e=entry, p=place: calls.builtin(code, e, p, python, cls)
            )
    return True
