"""Runs flat programs by the interpreter, by LLVM, and as CUDA C compiled as plain C."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

from lampion.compiler.ir.interpret import interpret
from lampion.compiler.ir.linearize import linearize
from lampion.compiler.ir.render_cuda import render_cuda
from lampion.compiler.ir.render_llvm import render_llvm
from lampion.compiler.ir.simplify import simplify
from lampion.compiler.ir.specification import verify

SCALARS = {
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
}

# What CUDA has and C has not, for one thread.
C_SHIM = r"""
#include <math.h>
#include <stdbool.h>
#include <string.h>
#define __global__
#define __device__
#define __restrict__ restrict
static struct { int x; } blockIdx = {0}, blockDim = {1}, threadIdx = {0}, gridDim = {1};
#define BITS(name, from, to) static to name(from x) { to y; memcpy(&y, &x, sizeof y); return y; }
BITS(__float_as_int, float, int) BITS(__int_as_float, int, float)
BITS(__double_as_longlong, double, long long) BITS(__longlong_as_double, long long, double)
static float f16_to_f32(unsigned short x) { _Float16 h; memcpy(&h, &x, 2); return h; }
static unsigned short f32_to_f16(float x)
{ _Float16 h = (_Float16)x; unsigned short y; memcpy(&y, &h, 2); return y; }
"""


def native_arguments(program, arguments):
    """ctypes values for a program's arguments."""
    return [
        ctypes.c_void_p(a.ctypes.data) if dtype[0] == "*" else SCALARS[dtype](a)
        for dtype, a in zip(program.signature, arguments, strict=True)
    ]


def run_llvm(program, arguments):
    """Compiles the LLVM text for this machine, optimised, and calls it."""
    llvm = pytest.importorskip("llvmlite.binding", reason="llvmlite is not installed")
    _, engine = compile_llvm(llvm, render_llvm(program))
    values = native_arguments(program, arguments)
    function = ctypes.CFUNCTYPE(None, *map(type, values))
    function(engine.get_function_address(program.name))(*values)


def compile_llvm(llvm, text, features=None):
    """(assembly, engine) of LLVM text at -O3, for this CPU or for a set of features."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly(text)
    module.verify()
    target = llvm.Target.from_default_triple()
    cpu = "" if features else llvm.get_host_cpu_name()
    features = features or llvm.get_host_cpu_features().flatten()
    machine = target.create_target_machine(cpu=cpu, features=features, opt=3)
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = True
    passes = llvm.create_pass_builder(machine, tuning)
    passes.getModulePassManager().run(module, passes)
    optimised, assembly = str(module), machine.emit_assembly(module)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return (optimised, assembly), engine


def run_c(program, arguments, folder):
    """Compiles the CUDA text as C for one thread, and calls it."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    source, library = folder / "kernel.c", folder / f"kernel{len(list(folder.iterdir()))}.so"
    source.write_text(C_SHIM + render_cuda(program).replace('extern "C" ', ""))
    flags = [
        "-O1",
        "-ffp-contract=off",
        "-march=native",
        "-Wno-unused-function",
        "-shared",
        "-fPIC",
    ]
    subprocess.run(
        ["gcc", *flags, str(source), "-o", str(library), "-lm"], check=True, capture_output=True
    )
    function = ctypes.CDLL(str(library))[program.name]
    function(*native_arguments(program, arguments))


def compiled(root):
    """Graph to flat program, verified at each step."""
    verify(root)
    small = simplify(root)
    verify(small, "simplify")
    program = linearize(small)
    verify(program, "linearize")
    return program


def run_everywhere(root, arguments, folder):
    """{target: the arguments after the program ran there}; "unsimplified" is interpreted, too."""
    program, plain = compiled(root), linearize(root)
    verify(plain, "linearize")
    runs = {
        "interpreter": lambda arrays: interpret(program, arrays),
        "unsimplified": lambda arrays: interpret(plain, arrays),
        "llvm": lambda arrays: run_llvm(program, arrays),
        "c": lambda arrays: run_c(program, arrays, folder),
    }
    results = {}
    for name, run in runs.items():
        copies = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        run(copies)
        results[name] = copies
    return results
