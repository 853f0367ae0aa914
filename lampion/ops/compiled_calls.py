"""Which public functions get compiled calls, and when. May import the families and core; the
compiler is imported at the first need, since llvmlite takes its time to load.

A compiled call stands in the place of the Python function and hands it every call that it does not
know, so nothing but the cost of small calls changes. `LAMPION_NATIVE=0` in the environment keeps
the Python functions, `LAMPION_NATIVE=1` installs the compiled calls at once; else that happens when
a program makes an optimizer, or has changed its recording mode a hundred times.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from ..core import graph
from ..core.op import TENSOR_NAMES
from ..core.tensor import Tensor
from ..random import normals
from .extremes import RESULTS
from .large import LARGE, prefer_compiled
from .sort import Sorted, TopK

PACKAGE = __name__.split(".")[0]
CLASSES = {"Tensor": Tensor, "Node": graph.Node}
MODULES = {"torch": PACKAGE, "functional": f"{PACKAGE}.nn.functional",
           "linalg": f"{PACKAGE}.linalg"}  # fmt: skip


def both(*names: str) -> list[tuple[str, str]]:
    """The places of names that are functions and methods."""
    return [(space, name) for name in names for space in ("torch", "Tensor")]


# Operator -> where its function is published.
ELEMENTWISE: dict[str, list[tuple[str, str]]] = (
    {
        "add": [*both("add"), ("Tensor", "__add__"), ("Tensor", "__radd__")],
        "sub": [*both("sub"), ("Tensor", "__sub__")],
        "rsub": [("Tensor", "__rsub__")],
        "mul": [*both("mul"), ("Tensor", "__mul__"), ("Tensor", "__rmul__")],
        "div": [*both("div"), ("Tensor", "__truediv__")],
        "neg": [*both("neg"), ("Tensor", "__neg__")],
        "relu": [*both("relu")],
    }
    | {
        name: both(name)
        for name in (
            "exp",
            "log",
            "sin",
            "cos",
            "tanh",
            "sqrt",
            "rsqrt",
            "abs",
            "maximum",
            "minimum",
            "floor",
            "ceil",
            "round",
            "sign",
            "reciprocal",
            "log1p",
            "expm1",
        )
    }
    | {name: [*both(name), ("functional", name)] for name in ("sigmoid",)}
    | {
        name: [*both(name), ("Tensor", f"__{name}__")]
        for name in ("eq", "ne", "lt", "le", "gt", "ge")
    }
    | {name: [("functional", name)] for name in ("logsigmoid", "hardswish")}
)
IN_PLACE: dict[str, list[tuple[str, str]]] = {
    "add_": [("Tensor", "add_"), ("Tensor", "__iadd__")],
    "sub_": [("Tensor", "sub_"), ("Tensor", "__isub__")],
    "mul_": [("Tensor", "mul_"), ("Tensor", "__imul__")],
    "div_": [("Tensor", "div_")],
} | {name: [("Tensor", name)] for name in ("fill_", "zero_", "copy_")}
REDUCED: dict[str, list[tuple[str, str]]] = {
    name: both(name)
    for name in ("sum", "mean", "prod", "any", "all", "amax", "amin", "argmax", "argmin",
                 "max", "min", "var", "std")
}  # fmt: skip
NORMS = {"norm": both("norm"), "vector_norm": [("linalg", "vector_norm")]}
VIEWS: dict[str, list[tuple[str, str]]] = {
    name: both(name)
    for name in ("transpose", "t", "permute", "squeeze", "unsqueeze", "flatten", "detach",
                 "unbind", "split", "chunk")
} | {name: [("Tensor", name)] for name in ("expand", "expand_as")}  # fmt: skip
CHOICES: dict[str, list[tuple[str, str]]] = {
    "clamp": both("clamp", "clip"),
    "power": [*both("pow"), ("Tensor", "__pow__")],
    "clamp_": [("Tensor", "clamp_")],
    "masked_fill": both("masked_fill"),
    "where": [("torch", "where")],
} | {name: [("functional", name)] for name in ("leaky_relu", "elu", "selu", "softplus",
                                                     "relu6")}  # fmt: skip
TRIPLES = {name: both(name) for name in ("addcmul", "addcdiv", "lerp")} | {
    name: [("Tensor", name)] for name in ("addcmul_", "addcdiv_", "lerp_")
}
# Core of the compiler's -> where the function is published that it computes.
OTHERS: dict[str, list[tuple[str, str]]] = {
    "sized": [("Tensor", "view"), *both("reshape")],
    "item": [("Tensor", "__getitem__")],
    "square": both("square"),
    "silu": [("functional", "silu")],
    "gelu": [("functional", "gelu")],
    "softmax": [("functional", "softmax")],
    "log_softmax": [("functional", "log_softmax")],
    "softmax_in_type": both("softmax"),
    "log_softmax_in_type": both("log_softmax"),
    "layer_norm": [("functional", "layer_norm")],
    "cross_entropy": [("functional", "cross_entropy")],
    "functional_relu": [("functional", "relu")],
}
PRODUCTS: dict[str, list[tuple[str, str]]] = {
    "matmul": [*both("matmul"), ("Tensor", "__matmul__")],
    **{name: both(name) for name in ("mm", "mv", "dot", "bmm")},
    "linear": [("functional", "linear")],
}
JOINS = {name: [("torch", name)] for name in ("cat", "stack")}
LOOKUPS: dict[str, list[tuple[str, str]]] = {
    "embedding": [("functional", "embedding")],
    "index_select": both("index_select"),
}
SCANS = {name: both(name) for name in ("cumsum", "cumprod", "topk", "sort", "argsort")}
COPIES = {name: both(name) for name in ("tril", "triu", "flip", "roll")} | {
    name: [("functional", name)] for name in ("pad", "one_hot")
}
PLACED = {name: both(name) for name in ("gather", "scatter", "scatter_add", "index_add")} | {
    name: [("Tensor", name)] for name in ("scatter_", "scatter_add_", "index_add_")
}
LOSSES = {
    name: [("functional", name)]
    for name in ("nll_loss", "mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
                 "binary_cross_entropy_with_logits")
}  # fmt: skip
CONVERSIONS = {
    "clone": both("clone"),
    "read_item": [("Tensor", "item")],
    "read_float": [("Tensor", "__float__")],
} | {name: [("Tensor", name)] for name in ("float", "double", "long", "bool")}
CREATED = {
    name: [("torch", name)]
    for name in ("zeros", "ones", "empty", "full", "zeros_like", "ones_like", "empty_like",
                 "full_like", "arange", "linspace", "eye", "tensor", "rand", "randn", "rand_like",
                 "randn_like", "randint", "randperm")
} | {
    name: [("Tensor", name)]
    for name in ("new_zeros", "new_ones", "new_empty", "new_full", "normal_", "uniform_")
} | {
    "dropout": [("functional", "dropout")],
}  # fmt: skip
CALLS = {
    "elementwise": ELEMENTWISE, "in place": IN_PLACE, "reductions": REDUCED | NORMS, "views": VIEWS,
    "choices": CHOICES, "products": PRODUCTS, "joins": JOINS, "lookups": LOOKUPS,
    "placed": PLACED, "scans": SCANS, "copies": COPIES, "triples": TRIPLES,
    "losses": LOSSES, "conversions": CONVERSIONS,
    "created": CREATED, "others": OTHERS,
}  # fmt: skip
ORDERED = {"topk": TopK, "sort": Sorted}  # what these return
REPLACED: dict[tuple[str, str], Any] = {}  # place -> the Python function that was there


def install() -> bool:
    """Puts compiled calls in the place of the public functions; False where they cannot run."""
    graph.KNOWN[2] = 0  # not again after many changes of mode
    builtins = importlib.import_module(f"{PACKAGE}.compiler.calls.builtins")
    installed = builtins.install(CALLS, RESULTS | ORDERED, publish)
    if installed:
        prefer_compiled()
        importlib.import_module(f"{PACKAGE}.compiler.native.launch").prepare_memory()
    return installed


def expect_training() -> None:
    """Compiles the calls now and not after the first hundred changes of mode: a program that trains
    makes many, and how a step rounds must not depend on how many steps came before it.
    """
    if graph.KNOWN[2] > 0:
        graph.KNOWN[2] = 0
        graph.State.often()


def publish(place: tuple[str, str], make: Callable[[Any, Any], Any]) -> None:
    """Replaces what is published at a place, and what gradients and layers know by that name."""
    space, name = place
    owner: Any = CLASSES.get(space) or sys.modules[MODULES[space]]
    python = REPLACED.setdefault(place, getattr(owner, name))
    made = make(python, owner)
    setattr(owner, name, made)
    if space == "torch":
        for names in (TENSOR_NAMES, vars(sys.modules[f"{PACKAGE}.nn.names"].torch)):
            if name in names:
                names[name] = made


def compiled_normals(words: Any, out: Any, mean: float, std: float) -> bool:
    """Makes normals of random words by compiled code: of many, or once calls are compiled."""
    if words.size < LARGE and not REPLACED or setting() == "0":
        return False
    if not importlib.import_module(f"{PACKAGE}.compiler.native.runtime").available():
        return False
    importlib.import_module(f"{PACKAGE}.compiler.calls.normals").fill(words, out, mean, std)
    return True


normals.compiled = compiled_normals


def setting() -> str:
    """What the environment says: "0" never, "1" at once, "" when it pays."""
    return os.environ.get("LAMPION_NATIVE", "")


if setting() != "0":
    graph.State.often = staticmethod(install)
