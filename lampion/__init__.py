"""Lampion: a small, see-through deep-learning framework that runs PyTorch programs.

The public, torch-like names and nothing else. Packages that not every program needs load on first use.
"""

import importlib as _importlib
import importlib.util as _importlib_util
import math as _math

import numpy as _numpy

_numpy.seterr(all="ignore")  # x / 0 is inf here, as in PyTorch, without a warning

from . import device as _device, dtypes as _dtypes, layout as _layout  # noqa: E402, F401
from .core import autograd as _autograd, modes as _modes, printing as _printing, tensor as _tensor  # noqa: E402, F401
from .errors import OutOfMemoryError as OutOfMemoryError  # noqa: E402
from .version import __version__ as __version__  # noqa: E402

from . import ops as _ops, settings as _settings  # noqa: E402, F401, I001  (ops defines what the rest exports)
from .ops.rules import EXPORTS as _EXPORTS  # noqa: E402

e, pi, inf, nan, newaxis = _math.e, _math.pi, _math.inf, _math.nan, None

_NAMES = {
    _device: "device",
    _dtypes: "dtype",
    _layout: """layout memory_format strided sparse_coo sparse_csr sparse_csc sparse_bsr sparse_bsc contiguous_format
        preserve_format channels_last channels_last_3d""",
    _modes: """no_grad enable_grad set_grad_enabled inference_mode is_grad_enabled is_inference_mode_enabled
        is_anomaly_enabled""",
    _printing: "set_printoptions",
    _tensor: "Tensor Size",
    _settings: " ".join(_settings.__all__),
}
for _module, _names in _NAMES.items():
    globals().update({_name: getattr(_module, _name) for _name in _names.split()})
globals().update(_dtypes.DTYPES)
globals().update(_dtypes.ALIASES)
globals().update(_EXPORTS["torch"])

from . import autograd as autograd, fft as fft, linalg as linalg, nn as nn, random as random, special as special  # noqa: E402, I001

_LATER = {  # names of packages that load on first use
    "save": "serialization",
    "load": "serialization",
    "vmap": "func",
}

__all__ = sorted([*(_name for _name in globals() if not _name.startswith("_")), *_LATER])  # noqa: PLE0605


def __getattr__(name: str) -> object:
    """Imports what a program mentions for the first time: `lampion.<name>`, or the package that has the name."""
    if name in _LATER:
        found = getattr(_importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
        globals()[name] = found
        return found
    if not name.startswith("_") and _importlib_util.find_spec(f"{__name__}.{name}") is not None:
        return _importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
