"""The compiler: from what a function does to tensors to one native program.

The path of a program through the files, in order:

1. `ir` is the one node type for expressions, reductions, loops and whole programs, and the flat
   program that comes of them. `print(node)` writes text that `parse` reads back.
2. `specification` says what is legal in a graph and in a flat program. `verify` names what is not;
   with `lampion.config.flags.check` it runs after every pass.
3. `rewrite` applies rules bottom-up to a fixed point; `simplify` is the rules that change no bit.
4. `mathematics` writes exp, log, erf, sin ... as nodes, once, for every renderer, with the numbers
   of `coefficients`.
5. `linearize` puts each value once into the outermost loop it depends on: the flat program.
6. `interpret` runs a flat program slowly in Python. It is the definition of what programs mean.
7. `render_llvm` and `render_cuda` are tables that write a flat program as LLVM IR and as CUDA C.
8. `runtime` compiles and calls; `gemm` generates matrix products.
9. `kernels` is what `lower` makes of a graph. `placement` says what shares memory, `arena` where
   temporaries lie, `tasks` which kernels are one stage, and `assemble` compiles them together.
10. `program` runs it: `stages` takes the `pool`'s threads through all tiles. `gate` is the short
    way in from Python; `explain` shows what a program is made of and where its time goes.

Nothing here is imported by `import lampion`, and llvmlite only where text is compiled.

PyTorch's names (`disable`, `is_compiling`, `reset`) load on first use.
"""

from importlib import import_module

LATER = ("compile", "disable", "is_compiling", "is_dynamo_compiling", "reset")


def __getattr__(name: str) -> object:
    """What programs ask `torch.compiler` for."""
    if name in LATER:
        return getattr(import_module(f"{__name__}.compiled"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
