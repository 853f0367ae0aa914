"""The version, in this one place: packaging and `lampion.__version__` read it. Imports nothing."""

__version__ = "0.1.0"

# What programs ask of PyTorch's build: there is no CUDA, ROCm or XPU in it.
cuda = hip = rocm = xpu = None
debug = False
git_version = "unknown"
