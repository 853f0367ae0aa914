"""The CUDA C of every operator's kernels through NVIDIA's own compiler, to PTX."""

import pytest

from lampion.compiler.ir.linearize import linearize
from lampion.compiler.ir.render_cuda import PRELUDE, render_cuda
from lampion.compiler.ir.simplify import simplify
from lampion.compiler.lower.kernels import Generated, Library
from lampion.compiler.lower.pipeline import lower
from tests.compiler import nvrtc
from tests.compiler.lowering import graph_of
from tests.compiler.test_lower import FAMILIES, LEAVES, call_of

pytestmark = pytest.mark.skipif(
    nvrtc.library() is None, reason="NVRTC is not installed (pip install nvidia-cuda-nvrtc-cu12)"
)


def programs_of(sample, dtype):
    """The IR of the kernels that a sample is lowered to; nothing where it writes in place."""
    try:
        call, leaves = call_of(sample, dtype)
        graph, _ = graph_of(call, *leaves)
    except RuntimeError:
        return
    for kernel in lower(graph).kernels:
        work = kernel.work.epilogue if isinstance(kernel.work, Library) else kernel.work
        if work is not None and isinstance(kernel.work, (Generated, Library)):
            yield work.program


@pytest.mark.parametrize("family", FAMILIES)
def test_kernels_become_ptx(family):
    first = {}
    for sample in LEAVES:
        if sample.name.rsplit(".", 1)[-1][0] == family:
            first.setdefault(sample.name, sample)
    texts = []
    for sample in first.values():
        for dtype in dict.fromkeys((sample.dtypes[0], "bfloat16", "float16", "float64")):
            for root in programs_of(sample, dtype) if dtype in sample.dtypes else ():
                program = linearize(simplify(root))._replace(name=f"kernel{len(texts)}")
                texts.append(render_cuda(program).removeprefix(PRELUDE))
    if not texts:
        pytest.skip("no generated kernels")
    assert all(PRELUDE not in text for text in texts)
    ptx = nvrtc.compile_cuda(PRELUDE + "\n".join(texts))
    assert ptx.count(".visible .entry") == len(texts)


def test_errors_carry_the_log():
    with pytest.raises(ValueError, match="undefined"):
        nvrtc.compile_cuda('extern "C" __global__ void f() { unknown(1); }')
