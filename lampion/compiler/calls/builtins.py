"""All compiled calls in one module: built, loaded, and bound to their operators. Imports the
compiler's earlier files.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ...core.op import OPS, Op
from ..native import runtime
from ..native.emit import Module
from . import (
    choices,
    conversions,
    copies,
    create,
    described,
    elementwise,
    filled,
    frame as calls,
    fused,
    gradients,
    inplace,
    joins,
    lookups,
    losses,
    objects,
    placed,
    products,
    rearranged,
    recording,
    reductions,
    scans,
    triples,
    views,
)
from .frame import Entry

Place = tuple[str, str]


def elementwise_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of an elementwise operator."""
    op = OPS[name]
    core, parameters = ("unary", ("input",)) if len(op.inputs) == 1 else BINARY
    return Entry(core, parameters, tuple(places), elementwise.context_of(op))


BINARY = ("binary", ("input", "other"))


# Cores of their own, by name: (the operator's record, the parameters).
OTHERS: dict[str, tuple[str, str]] = {
    "sized": ("view", "self 0 1 2 3 4 5 6"),
    "item": ("index_view", "self index"),
    "square": ("square", "input"),
    "silu": ("silu", "input inplace"),
    "gelu": ("gelu", "input approximate"),
    "softmax": ("softmax", "input dim _stacklevel dtype"),
    "softmax_in_type": ("softmax", "input dim dtype"),
    "log_softmax_in_type": ("log_softmax", "input dim dtype"),
    "log_softmax": ("log_softmax", "input dim _stacklevel dtype"),
    "layer_norm": ("layer_norm", "input normalized_shape weight bias eps"),
    "cross_entropy": (
        "cross_entropy",
        "input target weight size_average ignore_index reduce reduction label_smoothing",
    ),
    "functional_relu": ("relu", "input inplace"),
}


# In place: name -> (the core, the operator's record, the parameters).
IN_PLACE: dict[str, tuple[str, str, str]] = {
    "add_": ("scaled_sum_", "add", "self other alpha"),
    "sub_": ("arithmetic_", "sub", "self other alpha"),
    "mul_": ("arithmetic_", "mul", "self other"),
    "div_": ("arithmetic_", "div", "self other"),
    "fill_": ("fill_", "", "self value"),
    "zero_": ("zero_", "", "self"),
    "copy_": ("copy_", "", "self src"),
}


# Views with integers as parameters, parts and `detach`: the parameters.
VIEWS = {
    "transpose": "input dim0 dim1", "t": "input", "permute": "input 0 1 2 3 4 5 6",
    "squeeze": "input dim", "unsqueeze": "input dim", "expand": "self 0 1 2 3 4 5 6",
    "expand_as": "self other",
    "flatten": "input start_dim end_dim", "detach": "input", "unbind": "input dim",
    "split": "tensor split_size_or_sections dim", "chunk": "input chunks dim",
}  # fmt: skip


def view_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of a view, or of several."""
    parameters, core = tuple(VIEWS[name].split()), name
    context: Any = None
    if name in rearranged.KINDS:
        core, context = f"view_{name}", views.context_of(OPS[rearranged.KINDS[name][1]])
    elif name != "detach":
        context = rearranged.parts_of("unbind" if name == "unbind" else "split")
    return Entry(core, parameters, tuple(places), context)


PAIRS: dict[str, Any] = {}  # name -> what a reduction's two results are made into


def reduction_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of a reduction; of `max` and `min`, with what they return along a dimension."""
    if name in reductions.SPREADS:
        context: Any = reductions.spread_of(name)
        fill = partial(reductions.fill_spread, name=name, context=context)
        return Entry("spread", tuple(reductions.SPREAD.split()), tuple(places), context, fill)
    if name in reductions.NORMS:
        context = reductions.norm_of()
        fill = partial(reductions.fill_context, name="norm", context=context)
        parameters = tuple(reductions.NORMS[name].split())
        return Entry(name, parameters, tuple(places), context, fill)
    if name not in PAIRS:
        context = reductions.context_of(name)
        fill = partial(reductions.fill_context, name=name, context=context)
        return Entry("reduce", ("input", "dim", "keepdim"), tuple(places), context, fill)
    context = reductions.selection_of(name, PAIRS[name])
    fill = partial(reductions.fill_selection, name=name, context=context)
    return Entry("select", ("input", "dim", "keepdim"), tuple(places), context, fill)


def choice_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of a formula with numbers, of powers, or of a choice among elements."""
    if name == "power":
        power = choices.power_of()
        fill = partial(choices.fill_power, context=power)
        return Entry("power", ("input", "exponent"), tuple(places), power, fill)
    if name in choices.FORMULAS:
        context: Any = choices.parametric_of(name)
        fill = partial(choices.fill_parametric, name=name, context=context)
        parameters = tuple(choices.FORMULAS[name].arguments.split())
        return Entry("parametric", parameters, tuple(places), context, fill)
    operator, arguments = choices.CHOICES[name]
    context = described.described(OPS[operator])
    return Entry(name, tuple(arguments.split()), tuple(places), context)


def triple_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of a formula over three tensors."""
    context = triples.context_of(name)
    fill = partial(triples.fill, name=name, context=context)
    parameters = tuple(triples.TRIPLES[name.removesuffix("_")][0].split())
    return Entry(
        "triple_" if name[-1] == "_" else "triple", parameters, tuple(places), context, fill
    )


def created_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of a function that makes tensors."""
    if name in filled.FILLED:
        return Entry(name, tuple(filled.FILLED[name].split()), tuple(places))
    context = create.context_of(name)
    return Entry(name, tuple(create.DRAWN[name].split()), tuple(places), context)


def in_place_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of a call in place."""
    core, operator, parameters = IN_PLACE[name]
    context = inplace.context_of(operator, name)
    return Entry(core, tuple(parameters.split()), tuple(places), context)


def other_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of an operator that has a core of its own, or other arguments than its kind."""
    operator, parameters = OTHERS[name]
    op = OPS[operator]
    known = (("elementwise", elementwise), ("view", views))
    family: Any = dict(known).get(op.kind, fused)
    core = name.removesuffix("_in_type")
    if op.kind == "elementwise":
        core = "unary"
    return Entry(core, tuple(parameters.split()), tuple(places), family.context_of(op))


def resolved(module: Module) -> bool:
    """Whether this process has all functions that the module calls."""
    outside = set(module.declarations) - set(module.functions)
    return all(n.startswith("llvm.") or hasattr(ctypes.pythonapi, n) for n in outside)


def write(entries: Sequence[Entry], looped: Sequence[str], stepped: Sequence[Op]) -> Module:
    """The module of all entries, with the loops and the backward steps of these operators."""
    module = Module()
    for write_function in (
        *recording.SHARED,
        *described.SHARED,
        *reductions.SHARED,
        *choices.SHARED,
        *calls.SHARED,
        *elementwise.SHARED,
        *views.SHARED,
        *rearranged.SHARED,
        *fused.SHARED,
        *products.SHARED,
        *joins.SHARED,
        *lookups.SHARED,
        *losses.SHARED,
        *inplace.SHARED,
        *placed.SHARED,
        *scans.SHARED,
        *copies.SHARED,
        *triples.SHARED,
        *filled.SHARED,
        *create.SHARED,
        *conversions.SHARED,
        *gradients.SHARED,
    ):
        write_function(module)
    for name in looped:
        elementwise.write_loops(module, OPS[name])
    for op in stepped:
        gradients.write_steps(module, op)
    for entry in entries:
        for place in entry.places:
            calls.write_entry(module, place)
    return module


PRODUCTS: dict[str, tuple[str, Callable[[], Any]]] = {
    "matmul": ("input other", lambda: products.context_of("mm", "matmul")),
    "mm": ("input mat2", lambda: products.context_of("mm", "matmul")),
    "mv": ("input vec", lambda: products.context_of("mm", "matmul")),
    "dot": ("input tensor", lambda: products.context_of("mm", "matmul")),
    "bmm": ("input mat2", lambda: products.context_of("bmm", "bmm")),
    "linear": ("input weight bias", lambda: described.described(OPS["linear"])),
}


def product_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of a product."""
    parameters, context_of = PRODUCTS[name]
    return Entry(name, tuple(parameters.split()), tuple(places), context_of())


def joined_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of what joins tensors."""
    return Entry(name, ("tensors", "dim"), tuple(places), joins.context_of(OPS[name]))


def lookup_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of what reads at indices."""
    arguments, parameters = lookups.LOOKUPS[name]
    context = described.described(OPS[name], parameters.split())
    return Entry(name, tuple(arguments.split()), tuple(places), context)


def scan_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of a running sum or product, or of what picks elements along a dimension."""
    if name in scans.SCANS:
        context: Any = scans.scan_of(name)
        return Entry(name, tuple(scans.SCANS[name].split()), tuple(places), context)
    context = scans.picks_of(name, PAIRS.get(name))
    return Entry(name, tuple(scans.PICKS[name][0].split()), tuple(places), context)


def copy_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of a copy in which elements stand elsewhere."""
    operator, arguments, parameters = copies.COPIES[name]
    context = described.described(OPS[operator], parameters.split()) if operator else None
    return Entry(name, tuple(arguments.split()), tuple(places), context)


def placed_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of what moves elements to places."""
    arguments = placed.PLACED[name][1]
    return Entry(name, tuple(arguments.split()), tuple(places), placed.context_of(name))


def loss_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of a loss."""
    arguments, parameters = losses.LOSSES[name]
    context = described.described(OPS[name], parameters.split())
    return Entry(name, tuple(arguments.split()), tuple(places), context)


def conversion_entry(name: str, places: Sequence[Place]) -> Entry:
    """The entry of what reads a number, copies or converts."""
    if name in conversions.TARGETS:
        return Entry("convert", ("self",), tuple(places), conversions.context_of(name))
    context = conversions.clone_of() if name == "clone" else None
    return Entry(name, ("input",), tuple(places), context)


FAMILIES: dict[str, Callable[[str, Sequence[Place]], Entry]] = {
    "elementwise": elementwise_entry,
    "in place": in_place_entry,
    "reductions": reduction_entry,
    "views": view_entry,
    "choices": choice_entry,
    "products": product_entry,
    "joins": joined_entry,
    "lookups": lookup_entry,
    "placed": placed_entry,
    "scans": scan_entry,
    "copies": copy_entry,
    "triples": triple_entry,
    "losses": loss_entry,
    "conversions": conversion_entry,
    "created": created_entry,
    "others": other_entry,
}


def install(
    calls_of: dict[str, dict[str, Sequence[Place]]],
    returns: dict[str, Any],
    publish: Callable[[Place, Callable[[Any, Any], Any]], None],
) -> bool:
    """Compiles the calls and has each take its place; False where they cannot run: llvmlite is
    missing, or objects lie in memory otherwise than expected, or the process lacks a function.

    `calls_of` maps the names of families to the names of calls and the places where they are
    published; `returns` says what pairs of results are made into. `publish(place, make)` puts
    `make(python, owner)` into the place of the function `python` in its owner.
    """
    if not (runtime.available() and objects.known_layout()):
        return False
    PAIRS.update(returns)
    everything = [
        FAMILIES[family](*item) for family, listed in calls_of.items() for item in listed.items()
    ]
    everything.append(Entry("gradients", ("self", "g"), (("Node", "gradients"),)))
    operators = [OPS[name] for name in calls_of["elementwise"]]
    operators += [OPS[OTHERS[name][0]] for name in calls_of["others"]]
    pointwise = dict.fromkeys(op for op in operators if op.kind == "elementwise")
    looped = [op.name for op in pointwise if elementwise.has_loops(op)]
    stepped = [op for op in pointwise if gradients.known(op)]
    module = write(everything, looped, stepped)
    if not resolved(module):
        return False
    text = module.text()  # loops are short: more code would only take longer to compile
    decides = text, "short loops"
    code = runtime.load_by(decides, lambda: text, unroll=False, interleave=False)
    objects.fill_objects(code, module)
    create.fill_engine(code)
    for op in stepped:
        gradients.register(code, op)
    for name in looped:
        elementwise.fill_loops(code, OPS[name], [entry.context for entry in everything])
    for entry in everything:
        if entry.fill is not None:
            entry.fill(code)
        for place in entry.places:
            publish(place, partial(calls.builtin, code, entry, place))
    return True
