"""Code for ARM processors (NEON), run by qemu where it and a cross compiler are installed:
`apt-get install qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross`.
"""

import math
import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="the compiler needs llvmlite")

from lampion.compiler.ir import mathematics
from lampion.compiler.ir.linearize import linearize
from lampion.compiler.ir.node import loop, loop_range, parameter, program, store
from lampion.compiler.ir.render_llvm import render_llvm
from lampion.compiler.ir.simplify import simplify
from lampion.compiler.kernels import attention, attention_code
from lampion.compiler.kernels.gemm import JOB, kernels
from lampion.compiler.kernels.gemm_pack import shape_for
from lampion.compiler.kernels.plan import write_plan
from lampion.compiler.kernels.product_jobs import descriptions
from lampion.compiler.native import pool, runtime
from lampion.compiler.native.stages import Layout

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
pytestmark = pytest.mark.skipif(
    not (shutil.which(COMPILER) and shutil.which(EMULATOR)),
    reason=f"{COMPILER} and {EMULATOR} are not installed",
)

# Reads numbers and the operands of one call from standard input, and writes the last operand.
MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
%s
int main(void) {
    long sizes[4];
    char *operands[4];
    int count = 0;
    if (fread(sizes, 8, 4, stdin) != 4) return 1;
    for (; count < 4 && sizes[count]; count++) {
        operands[count] = aligned_alloc(64, (sizes[count] + 127) / 64 * 64);
        if (fread(operands[count], 1, sizes[count], stdin) != (size_t)sizes[count]) return 1;
    }
    run((void **)operands);
    return fwrite(operands[count - 1], 1, sizes[count - 1], stdout) != (size_t)sizes[count - 1];
}
"""

PRODUCT = """
void plan(void *job);
void tile(void *job, long tile, void *workspace);
void run(void **x) {
    long *job = x[0], state[%(state)d] = {0};
    state[%(limit)d] = 1;
    job[%(pool)d] = (long)state, job[%(a)d] = (long)x[1], job[%(b)d] = (long)x[2];
    job[%(c)d] = (long)x[3];
    plan(job);
    void *workspace = aligned_alloc(64, %(share)d);
    for (long i = 0; i < job[%(total)d]; i++) tile(job, i, workspace);
}
"""


ATTENTION = """
void forward(void *job, long tile, void *workspace);
void run(void **x) {
    long *job = x[0];
    float *qkv = x[1];
    job[%(q)d] = (long)qkv, job[%(k)d] = (long)(qkv + %(size)d);
    job[%(v)d] = (long)(qkv + 2 * %(size)d), job[%(y)d] = (long)x[3];
    job[%(largest)d] = (long)x[2], job[%(total)d] = (long)((float *)x[2] + %(size)d);
    void *workspace = aligned_alloc(64, %(share)d);
    for (long i = 0; i < %(tiles)d; i++) forward(job, i, workspace);
}
"""


class Arm:
    """A program of compiled IR and a C function `run`, for ARM."""

    def __init__(self, folder, text, source):
        runtime.llvm().initialize_all_targets()
        runtime.llvm().initialize_all_asmprinters()
        (folder / "code.o").write_bytes(runtime.build(text, runtime.level("neon")))
        (folder / "main.c").write_text(MAIN % source)
        self.program = folder / "program"
        files = [str(folder / "main.c"), str(folder / "code.o")]
        command = [COMPILER, "-static", "-O1", "-o", str(self.program), *files, "-lm"]
        subprocess.run(command, check=True, capture_output=True)

    def __call__(self, *operands):
        """The last of the operands after the call."""
        sizes = [x.nbytes for x in operands] + [0] * (4 - len(operands))
        given = np.array(sizes, np.int64).tobytes() + b"".join(x.tobytes() for x in operands)
        made = subprocess.run(
            [EMULATOR, str(self.program)], input=given, stdout=subprocess.PIPE, check=True
        ).stdout
        return np.frombuffer(made, operands[-1].dtype).reshape(operands[-1].shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products(tmp_path, dtype):
    shape = shape_for(runtime.level("neon"), dtype)
    module = kernels(shape)
    write_plan(module, shape)
    fields = {name: JOB.index(name) for name in ("pool", "a", "b", "c", "total")}
    sizes = {"state": pool.STATE_BYTES // 8, "share": pool.SHARE}
    limit = {"limit": pool.FIELDS["limit"] // 8}
    multiply = Arm(tmp_path, module.text(), PRODUCT % (fields | sizes | limit))
    rng = np.random.default_rng(0)
    for m, k, n in ((1, 1, 1), (5, 7, 3), (17, 33, 20), (64, 300, 100), (130, 150, 70)):
        for turned in (False, True):
            a = rng.standard_normal((m, k)).astype(dtype)
            b = rng.standard_normal((n, k) if turned else (k, n)).astype(dtype)
            strides = (1, k) if turned else (n, 1)
            layouts = (
                Layout((m, k), (k, 1), dtype),
                Layout((k, n), strides, dtype),
                Layout((m, n), (n, 1), dtype),
            )
            (fields,) = descriptions(*layouts)
            job = np.array([fields[name] for name in JOB], np.int64)
            found = multiply(job, a, b, np.full((m, n), np.nan, dtype))
            expected = a.astype(float) @ (b.T if turned else b).astype(float)
            unit = np.finfo(dtype).eps
            np.testing.assert_allclose(found, expected, rtol=0, atol=unit * 8 * k**0.5 * 10)


@pytest.mark.parametrize("causal", [False, True])
def test_attention(tmp_path, causal):
    shape = shape_for(runtime.level("neon"), "float32")
    module = kernels(shape)
    attention_code.write_forward(module, shape)
    batches, length, width = 3, 150, 24
    size = batches * length * width
    layout = Layout((batches, length, width), (length * width, width, 1), "float32")
    fields = attention.describe(dict.fromkeys("qkvy", layout), None, 0.3, causal)
    blocks = -(-length // fields["step"])
    fields |= {"blocks": blocks}
    names = attention_code.JOB
    numbers = {name: names.index(name) for name in ("q", "k", "v", "y", "largest", "total")}
    sizes = {"size": size, "share": pool.SHARE, "tiles": batches * blocks}
    attend = Arm(tmp_path, module.text(), ATTENTION % (numbers | sizes))
    rng = np.random.default_rng(2)
    q, k, v = rng.standard_normal((3, batches, length, width)).astype(np.float32)
    job = np.array([fields.get(name, 0) for name in names], np.int64)
    rows = np.zeros((2, size), np.float32)
    found = attend(job, np.stack([q, k, v]), rows, np.zeros_like(q))
    scores = (q @ k.swapaxes(1, 2)).astype(float) * 0.3
    if causal:
        scores[:, np.triu(np.ones((length, length), bool), 1)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = weights / weights.sum(-1, keepdims=True) @ v
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sigmoid", "erf", "sin", "cos"])
def test_mathematics(tmp_path, name):
    signature = ["*f32", "*f32", "i64"]
    x, y, size = (parameter(i, kind) for i, kind in enumerate(signature))
    i = loop_range(0, size, 0, "vector")
    value = getattr(mathematics, name)(x.load(i))
    kernel = linearize(simplify(program("kernel", signature, loop(i, store(y, i, value)))))
    numbers = np.random.default_rng(1).standard_normal(1001).astype(np.float32) * 4
    numbers = np.abs(numbers) if name == "log" else numbers
    source = f"""
        void kernel(float *, float *, long);
        void run(void **x) {{ kernel(x[0], x[1], {numbers.size}); }}
    """
    found = Arm(tmp_path, render_llvm(kernel, 128), source)(numbers, np.zeros_like(numbers))
    wide = numbers.astype(np.float64)
    expected = {
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "erf": np.vectorize(math.erf),
    }.get(name, getattr(np, name, None))(wide)
    np.testing.assert_allclose(found, expected, rtol=4e-7, atol=1e-7)
