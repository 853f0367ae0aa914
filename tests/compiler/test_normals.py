"""Normal numbers by compiled code: the same bits as NumPy's, which are PyTorch's."""

import numpy as np
import pytest

from lampion import random
from lampion.compiler.calls import normals
from lampion.compiler.native import runtime
from lampion.random import normals as sampler

pytestmark = pytest.mark.skipif(not runtime.available(), reason="needs llvmlite")


@pytest.mark.parametrize("count", [16, 48, 32768])
@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (-3.5, 0.1), (1e-3, 1e4)])
def test_same_bits(count, mean, std, monkeypatch):
    words = np.random.default_rng(count).integers(0, 1 << 32, count, np.uint32)
    words[:4] = 0, 0xFFFFFF, 0xFFFFFFFF, 0x1000000
    words[8:12] = 0, 0xFFFFFF, 0x800000, 0x400000
    out = np.empty(count, np.float32)
    normals.fill(words.copy(), out, mean, std)
    wanted = sampler._normals_of(sampler.uniforms_of(words.copy()), mean, std, np.float32)
    np.testing.assert_array_equal(out, wanted)


def test_either_way_takes_as_many_words(monkeypatch):
    def drawn(compiled):
        monkeypatch.setattr(sampler, "compiled", compiled)
        generator = random.Generator().manual_seed(7)
        numbers = random.normal((5, 13), 1.0, 2.0, generator=generator)
        return numbers, generator.words(3)

    def always(words, out, mean, std):
        normals.fill(words, out, mean, std)
        return True

    for made, wanted in zip(drawn(always), drawn(None), strict=True):
        np.testing.assert_array_equal(made, wanted)
