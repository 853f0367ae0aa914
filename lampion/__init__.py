"""Lampion: a small, see-through deep-learning framework that runs PyTorch programs.

The public, torch-like names and nothing else.
"""

import numpy as _numpy

_numpy.seterr(all="ignore")  # x / 0 is inf here, as in PyTorch, without a warning

from .core import autograd as _autograd, inplace as _inplace  # noqa: E402
from .core.modes import (  # noqa: E402
    enable_grad as enable_grad,
    inference_mode as inference_mode,
    is_grad_enabled as is_grad_enabled,
    is_inference_mode_enabled as is_inference_mode_enabled,
    no_grad as no_grad,
    set_grad_enabled as set_grad_enabled,
)
from .core.tensor import Size as Size, Tensor as Tensor  # noqa: E402
from .device import device as device  # noqa: E402
from .dtypes import *  # noqa: E402, F403
from .dtypes import DTYPES as _DTYPES, ALIASES as _ALIASES, bool as bool  # noqa: E402
from . import ops as ops  # noqa: E402
from .ops.rules import EXPORTS as _EXPORTS  # noqa: E402

globals().update(_DTYPES)
globals().update(_ALIASES)
globals().update(_EXPORTS["torch"])
from . import fft as fft, linalg as linalg, nn as nn, special as special  # noqa: E402
