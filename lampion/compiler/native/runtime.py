"""From IR text to callable machine code, through llvmlite. Imports cache and the version.

llvmlite is imported at the first need, never by `import lampion`. Objects are cached on disk by
content, machine and version; code that was loaded stays loaded for the life of the process.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

from ...version import __version__
from . import cache as disk


class Target(NamedTuple):
    """A machine to make code for: LLVM's names, and what kernels are sized by."""

    triple: str
    cpu: str
    features: str
    bytes: int  # of a vector register
    registers: int  # vector registers
    fused: bool  # has a fused multiply-add
    matrix: bool  # has matrix units that multiply bfloat16 (Intel AMX)


# LLVM's processor name and features per level, then width, registers, fused multiply-add, matrix
# units.
LEVELS: dict[str, tuple[str, str, str, int, int, bool, bool]] = {
    "amx": ("x86_64", "sapphirerapids", "", 64, 32, True, True),
    "avx512": ("x86_64", "skylake-avx512", "", 64, 32, True, False),
    "avx2": ("x86_64", "haswell", "", 32, 16, True, False),
    "sse": ("x86_64", "x86-64", "", 16, 16, False, False),
    "neon": ("aarch64", "generic", "+neon", 16, 32, True, False),
}

# Linux gives a process tiles where it asks (arch_prctl, since 5.16): the number of the call on
# x86-64, ARCH_REQ_XCOMP_PERM, and XFEATURE_XTILEDATA.
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18


def available() -> bool:
    """Whether llvmlite is installed (it is not imported)."""
    return importlib.util.find_spec("llvmlite") is not None


@cache
def llvm() -> ModuleType:
    """llvmlite's binding, ready to compile for this machine."""
    import llvmlite.binding as binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


@cache
def host() -> Target:
    """This machine."""
    binding = llvm()
    triple = binding.get_process_triple()
    features = binding.get_host_cpu_features()
    level = next((name for name in LEVELS if runs(name)), "neon")
    return Target(triple, binding.get_host_cpu_name(), features.flatten(), *LEVELS[level][3:])


def runs(level: str) -> bool:
    """Whether this machine can run code of the level."""
    machine, *_ = LEVELS[level]
    binding = llvm()
    if not binding.get_process_triple().startswith((machine, machine.replace("aarch64", "arm64"))):
        return False
    features = binding.get_host_cpu_features()
    vectors = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")
    need = {
        "amx": (*vectors, "amx-tile", "amx-bf16"),
        "avx512": vectors,
        "avx2": ("avx2", "fma", "bmi2"),
    }
    has = all(features.get(name, False) for name in need.get(level, ()))
    return has and (level != "amx" or tiles_permitted())


@cache
def tiles_permitted() -> bool:
    """Whether the system lets this process use matrix units; it is asked once."""
    if not sys.platform.startswith("linux") or os.environ.get("LAMPION_AMX") == "0":
        return False
    return ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA) == 0


def level(name: str) -> Target:
    """A level of an instruction set (see LEVELS), on the system this process runs on.

    >>> level("avx2").bytes
    32
    """
    machine, cpu, features, *numbers = LEVELS[name]
    triple = llvm().get_process_triple()
    width, registers, fused, matrix = numbers
    name = machine + triple[triple.index("-") :]
    return Target(name, cpu, features, width, registers, bool(fused), bool(matrix))


LOADED: list[Native] = []  # addresses of code are handed out freely, so none is ever unloaded


class Native:
    """Loaded machine code."""

    def __init__(self, binary: bytes) -> None:
        binding = llvm()
        empty = binding.parse_assembly("")
        self.engine = binding.create_mcjit_compiler(empty, machine(host(), jit=True))
        self.engine.add_object_file(binding.object_file.ObjectFileRef.from_data(binary))
        self.engine.finalize_object()
        LOADED.append(self)

    def address(self, name: str) -> int:
        """Where a function or a global is; raises KeyError where there is none of that name."""
        found = self.engine.get_function_address(name)
        if not found:
            raise KeyError(name)
        return found

    def fill(self, name: str, pointer: int) -> None:
        """Sets a global pointer (`Module.pointer`)."""
        ctypes.c_void_p.from_address(self.engine.get_global_value_address(name)).value = pointer

    def function(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        """The function through ctypes, which releases the GIL."""
        return ctypes.CFUNCTYPE(result, *arguments)(self.address(name))


def machine(target: Target, jit: bool = False) -> Any:
    """LLVM's machine for the target."""
    kind = llvm().Target.from_triple(target.triple)
    return kind.create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", jit=jit, codemodel="default"
    )


def optimised(
    text: str, target: Target, unroll: bool = True, interleave: bool = True
) -> tuple[Any, Any]:
    """The parsed, checked and optimised module, and the machine. Unrolling loops beyond what
    vectors need makes loop nests seven times as long to compile; without interleaving, loops do a
    vector at a time, and short ones leave less to do by single numbers.
    """
    binding = llvm()
    module = binding.parse_assembly(text)
    module.triple = target.triple
    module.verify()
    made = machine(target, jit=True)
    options = binding.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    options.loop_unrolling, options.loop_interleaving = unroll, interleave
    builder = binding.create_pass_builder(made, options)
    builder.getModulePassManager().run(module, builder)
    return module, made


def assembly(text: str, target: Target) -> str:
    """The machine's instructions as text, for reading and for tests."""
    llvm().initialize_all_targets()
    llvm().initialize_all_asmprinters()
    module, made = optimised(text, target)
    return made.emit_assembly(module)


def build(text: str, target: Target, unroll: bool = True, interleave: bool = True) -> bytes:
    """The object file."""
    module, made = optimised(text, target, unroll, interleave)
    return made.emit_object(module)


def load(text: str, target: Target | None = None, interleave: bool = True) -> Native:
    """Compiles and loads IR for this machine, or for a level of it; from disk where it was built
    before.
    """
    decides = (text,) if interleave else (text, "no interleaving")
    return load_by(decides, lambda: text, target, interleave=interleave)


def load_by(
    decides: Sequence[str], text: Callable[[], str], target: Target | None = None,
    unroll: bool = True, interleave: bool = True,
) -> Native:  # fmt: skip
    """`load` for IR that is written only where nothing is stored: `decides` says what it is."""
    target = target or host()
    version = importlib.import_module("llvmlite").__version__
    name = disk.key(__version__, version, "pic", *map(str, target), *decides)
    return Native(disk.fetch(name, lambda: build(text(), target, unroll, interleave)))
