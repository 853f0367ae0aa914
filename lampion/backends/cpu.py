"""The CPU's instructions: `torch.backends.cpu`. Imports NumPy."""

from numpy._core._multiarray_umath import __cpu_features__  # type: ignore[import-not-found]


def get_cpu_capability() -> str:
    """The widest vectors of this CPU, in PyTorch's words: `"AVX512"`, `"AVX2"` or `"DEFAULT"`."""
    if __cpu_features__.get("AVX512_SKX"):
        return "AVX512"
    return "AVX2" if __cpu_features__.get("AVX2") and __cpu_features__.get("FMA3") else "DEFAULT"
