"""Libraries that PyTorch computes with, and their switches: `torch.backends`. Imports its own
files.

Lampion uses none of these libraries; programs may set the switches and ask, and get an honest
answer.
"""

from . import (
    cpu as cpu,
)
from . import (
    cuda as cuda,
)
from . import (
    cudnn as cudnn,
)
from . import (
    mkl as mkl,
)
from . import (
    mkldnn as mkldnn,
)
from . import (
    mps as mps,
)
from . import (
    openmp as openmp,
)
from . import (
    opt_einsum as opt_einsum,
)
