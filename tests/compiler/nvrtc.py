"""NVIDIA's run-time compiler through ctypes, where its library is installed: it needs no GPU."""

import ctypes
import ctypes.util
import importlib.util
from functools import cache
from pathlib import Path

OPTIONS = (b"--gpu-architecture=compute_70", b"--fmad=false")


@cache
def library() -> ctypes.CDLL | None:
    """The library, from the system or from the wheel nvidia-cuda-nvrtc; None: there is none."""
    found = ctypes.util.find_library("nvrtc")
    if importlib.util.find_spec("nvidia.cuda_nvrtc" if importlib.util.find_spec("nvidia") else "-"):
        (folder,) = importlib.util.find_spec("nvidia.cuda_nvrtc").submodule_search_locations
        found = next(map(str, sorted(Path(folder, "lib").glob("libnvrtc.so*"))), found)
    return ctypes.CDLL(found) if found else None


def compile_cuda(text: str) -> str:
    """The PTX of CUDA C; raises ValueError with the compiler's log."""
    nvrtc, program = library(), ctypes.c_void_p()
    assert (
        nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"k.cu", 0, None, None) == 0
    )
    try:
        options = (ctypes.c_char_p * len(OPTIONS))(*OPTIONS)
        failed = nvrtc.nvrtcCompileProgram(program, len(OPTIONS), options)
        if failed:
            raise ValueError(read(program, "ProgramLog"))
        return read(program, "PTX")
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def read(program: ctypes.c_void_p, what: str) -> str:
    """A text that belongs to a program."""
    size = ctypes.c_size_t()
    assert library()[f"nvrtcGet{what}Size"](program, ctypes.byref(size)) == 0
    text = ctypes.create_string_buffer(size.value)
    assert library()[f"nvrtcGet{what}"](program, text) == 0
    return text.value.decode()
