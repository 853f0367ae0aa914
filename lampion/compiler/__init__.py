"""The compiler: from what a function does to tensors to one native program.

The path of a call through the folders, in order:

1. `trace` runs it, watched, and writes down a graph: which operator, on what, in single-assignment
   form (`graph`), and what it relied on (`guards`). `execute` runs a graph operator by operator:
   the definition of what it means.
2. `lower` makes kernels of a graph: `expand`, `clean`, `fuse`; loops in IR, templates, host calls.
3. `ir` is the one node type for expressions, reductions, loops and whole programs, and the flat
   program that comes of them; `simplify` changes no bit, `mathematics` writes exp, log, erf ...
   once for every renderer, `render_llvm` and `render_cuda` are tables, `interpret` is the
   definition.
4. `kernels` are the templates: products, convolutions, attention, recurrent layers, rows, sums,
   optimizers. Eager operators call them too, on large arrays.
5. `native` compiles LLVM text, keeps objects on disk, and takes threads through stages of tiles.
6. `program` says what shares memory and which kernels are one stage, and runs them; `explain` shows
   what a program is made of and where its time goes.
7. `compiled` is `lampion.compile`: a function's programs, and the `gate`, the short way in.

`calls` are the eager calls on small tensors as built-ins; they stand apart.

Nothing here is imported by `import lampion`, and llvmlite only where text is compiled.

PyTorch's names (`disable`, `is_compiling`, `reset`) load on first use.
"""

from importlib import import_module

CONTROL = {
    "allow_in_graph", "assume_constant_result", "cudagraph_mark_step_begin", "disable",
    "is_compiling", "is_dynamo_compiling", "is_exporting", "list_backends", "nested_compile_region",
    "reset", "set_stance",
}  # fmt: skip


def __getattr__(name: str) -> object:
    """What programs ask `torch.compiler` for."""
    if name == "compile" or name in CONTROL:
        home = "control" if name in CONTROL else "function"
        return getattr(import_module(f"{__name__}.compiled.{home}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
