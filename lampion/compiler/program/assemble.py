"""The generated kernels of a program as one object: kernels that are equal once, stages that call
them, on disk by the kernels' IR. Imports kernels, emit, the IR's passes and renderer.

A stage's function reads the addresses of its operands from its job. Small kernels that follow one
another are one stage, where LLVM optimises across them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

from ..ir.linearize import linearize
from ..ir.node import Node, parameter, program, to_text
from ..ir.render_llvm import attributes, render_llvm
from ..ir.rewrite import substitute
from ..ir.simplify import simplify
from ..native import runtime
from ..native.emit import Function, Module, Value
from ..native.stages import LINE

# Files whose change makes other code of the same IR.
GENERATORS = (
    "assemble", "emit", "interpret", "ir", "linearize", "render_llvm", "rewrite", "simplify",
    "specification",
)  # fmt: skip


Memory = TypeVar("Memory", bound=Hashable)
METADATA = re.compile(r"!(\d+)")


class Place(NamedTuple):
    """Where a stage finds an operand: kind "job" (a slot of its job holds the address), "stack"
    (an own buffer, so many bytes) or "workspace" (bytes from the thread's scratch).
    """

    kind: str
    number: int
    size: int = 0


class Part(NamedTuple):
    """A kernel run by a stage: its number, its operands, and how many iterations it does; none
    where the job says.
    """

    kernel: int
    places: tuple[Place, ...]
    extent: int | None


class Epilogue(NamedTuple):
    """A kernel that finishes parts of products: its number, and how many operands it has."""

    kernel: int
    operands: int


@cache
def generation() -> str:
    """A digest of the code that makes code."""
    digest = hashlib.sha256()
    for name in GENERATORS:
        path = Path(__file__).with_name(f"{name}.py")
        digest.update(path.read_bytes() if path.exists() else b"")  # else the version tells
    return digest.hexdigest()


def pattern_of(operands: Sequence[Hashable]) -> tuple[int, ...]:
    """For each operand the number of the first one that is the same memory."""
    first: dict[Hashable, int] = {}
    return tuple(first.setdefault(memory, i) for i, memory in enumerate(operands))


def canonical(code: Node, pattern: tuple[int, ...]) -> Node:
    """The program under a common name, with one parameter for operands that are the same memory.
    Parameters after the operands stay.
    """
    signature: tuple[str, ...] = code.arg[1]
    kept = [i for i, first in enumerate(pattern) if i == first]
    rest = range(len(pattern), len(signature))
    new_number = [kept.index(first) for first in pattern]
    new_number += [len(kept) + i for i in range(len(rest))]
    types = [signature[i] for i in (*kept, *rest)]
    replaced = {
        parameter(i, dtype): parameter(new_number[i], dtype)
        for i, dtype in enumerate(signature)
        if new_number[i] != i
    }
    statements = [substitute(s, replaced) for s in code.src] if replaced else code.src
    return program("kernel", types, *statements)


class Assembly:
    """Collects kernels and stages, then compiles them."""

    def __init__(self) -> None:
        self.kernels: dict[Node, int] = {}
        self.canonical: dict[tuple[Node, tuple[int, ...]], Node] = {}
        self.stages: dict[tuple[Part, ...], str] = {}
        self.epilogues: dict[Epilogue, str] = {}

    def kernel(self, code: Node, memories: Sequence[Memory]) -> tuple[int, list[Memory]]:
        """The number of a kernel that works on these memories, and which it takes, each once."""
        pattern = pattern_of(memories)
        made = self.canonical.get((code, pattern))
        if made is None:
            made = self.canonical[code, pattern] = canonical(code, pattern)
        kept = [memory for i, memory in enumerate(memories) if pattern[i] == i]
        return self.kernels.setdefault(made, len(self.kernels)), kept

    def stage(self, parts: tuple[Part, ...]) -> str:
        """The name of the stage that runs the parts."""
        return self.stages.setdefault(parts, f"stage_{len(self.stages)}")

    def epilogue(self, kernel: int, operands: int) -> str:
        """The name of an epilogue that runs the kernel."""
        made = Epilogue(kernel, operands)
        return self.epilogues.setdefault(made, f"epilogue_{len(self.epilogues)}")

    def text(self) -> str:
        """The module."""
        width = 8 * runtime.host().bytes
        heads: dict[str, None] = {}  # declarations, each once
        body: list[str] = []
        hints: list[str] = []
        for code, number in self.kernels.items():
            named = program(f"kernel_{number}", code.arg[1], *code.src)
            flat = linearize(simplify(named))
            for line in numbered(render_llvm(flat, width), len(hints)).splitlines():
                if line.startswith("declare"):
                    heads[line] = None
                elif line.startswith("!"):
                    hints.append(line)
                else:
                    body.append(line.replace("define void", "define internal void"))
        module = Module()
        for parts, name in self.stages.items():
            write_stage(module, name, parts)
        for made, name in self.epilogues.items():
            write_epilogue(module, name, made)
        return "\n".join([*heads, *body, module.text(), *hints]) + "\n"

    def load(self) -> runtime.Native:
        """The compiled stages; from disk where the same ones were built before."""
        stages = repr((list(self.stages.items()), list(self.epilogues.items())))
        kernels = [to_text(code) for code in self.kernels]
        return runtime.load_by((generation(), stages, *kernels), self.text, unroll=False)


def numbered(text: str, start: int) -> str:
    """A rendered module with its metadata numbered from `start`."""
    if start == 0 or "!" not in text:
        return text
    return METADATA.sub(lambda found: f"!{int(found[1]) + start}", text)


def wide() -> str:
    """The attribute that lets a function use the widest vectors, kernels inlined in it too."""
    return attributes(8 * runtime.host().bytes)


def write_stage(module: Module, name: str, parts: tuple[Part, ...]) -> None:
    """Writes `name(job, tile, workspace)`, which runs the parts. The job of a part whose extent is
    None: an address per operand, then the extent and how much of it a tile does.
    """
    f = module.function(name, job="ptr", tile="i64", workspace="ptr")
    f.head += wide()
    found: dict[Place, Value] = {}
    for part in parts:
        for place in part.places:
            if place not in found:
                found[place] = find(f, place)
        pointers = [found[place] for place in part.places]
        if part.extent is None:
            slots = sum(p.kind == "job" for p in set(part.places))
            extent, piece = f.load("i64", f["job"], slots), f.load("i64", f["job"], slots + 1)
            begin = f["tile"] * piece
            end = f.minimum(begin + piece, extent)
        else:
            begin, end = f.constant("i64", 0), f.constant("i64", part.extent)
        f.call("void", Value(f, "ptr", f"@kernel_{part.kernel}"), *pointers, begin, end)
    f.ret()


def find(f: Function, place: Place) -> Value:
    """The address of an operand."""
    if place.kind == "stack":
        return f.buffer(max(place.size, 1), LINE)
    if place.kind == "workspace":
        return f.at(f["workspace"], place.number)
    return f.load("ptr", f["job"], place.number)


def write_epilogue(module: Module, name: str, made: Epilogue) -> None:
    """Writes `name(job, batch, row0, row1, col0, col1)`; the job holds the operands' addresses."""
    numbers = ("batch", "row0", "row1", "col0", "col1")
    f = module.function(name, job="ptr", **dict.fromkeys(numbers, "i64"))
    f.head += wide()
    pointers = [f.load("ptr", f["job"], i) for i in range(made.operands)]
    kernel = Value(f, "ptr", f"@kernel_{made.kernel}")
    f.call("void", kernel, *pointers, *(f[n] for n in numbers))
    f.ret()
