"""Libraries that PyTorch computes with, and their switches: `torch.backends`. Imports its own
files.

Lampion uses none of these libraries; programs may set the switches and ask, and get an honest
answer.
"""

from . import (
    cpu as cpu,
    cuda as cuda,
    cudnn as cudnn,
    mkl as mkl,
    mkldnn as mkldnn,
    mps as mps,
    openmp as openmp,
    opt_einsum as opt_einsum,
)
