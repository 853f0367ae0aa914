"""Lampion: a small, see-through deep-learning framework that runs PyTorch programs.

The public, torch-like names and nothing else. Packages that not every program needs load on use.
May import everything but the jobs and the command line.
"""

# ruff: noqa: E402, I001  (NumPy's warnings go first; ops defines what the rest exports)

import importlib as _importlib
import math as _math

import numpy as _numpy

_numpy.seterr(all="ignore")  # x / 0 is inf here, as in PyTorch, without a warning

from . import device as _device, dtypes as _dtypes, layout as _layout, settings as _settings
from .core import modes as _modes, printing as _printing, tensor as _tensor
from .errors import OutOfMemoryError as OutOfMemoryError
from .ops import compiled_calls as _compiled_calls
from .ops.rules import EXPORTS as _EXPORTS
from .version import __version__ as __version__

e, pi, inf, nan, newaxis = _math.e, _math.pi, _math.inf, _math.nan, None

_MODES = [
    "no_grad",
    "enable_grad",
    "set_grad_enabled",
    "inference_mode",
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "is_anomaly_enabled",
]
_NAMES = {
    _device: ["device"],
    _dtypes: ["dtype"],
    _layout: _layout.__all__,
    _modes: _MODES,
    _printing: ["set_printoptions"],
    _tensor: ["Tensor", "Size"],
    _settings: _settings.__all__,
}
for _module, _names in _NAMES.items():
    globals().update({_name: getattr(_module, _name) for _name in _names})
globals().update(_dtypes.DTYPES)
globals().update(_dtypes.ALIASES)
globals().update(_EXPORTS["torch"])

from . import autograd as autograd, fft as fft, linalg as linalg, nn as nn, random as random
from . import special as special

_LATER = {  # names of packages that load on first use
    "save": "serialization",
    "load": "serialization",
    "vmap": "func",
    "compile": "compiler.compiled.function",
    "GradScaler": "amp",
    "autocast": "amp",
    "is_autocast_enabled": "amp.autocast",
    "get_autocast_dtype": "amp.autocast",
}

_OURS = {"config", "core", "dtypes", "errors", "ops", "settings"}  # not among PyTorch's names
if _compiled_calls.setting() == "1":
    _compiled_calls.install()

__all__ = sorted({_name for _name in globals() if _name[0] != "_"} - _OURS | _LATER.keys())


def __getattr__(name: str) -> object:
    """Imports what a program mentions for the first time: `lampion.<name>`, or the package that has
    the name.
    """
    if name in _LATER:
        found = getattr(_importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
        globals()[name] = found
        return found
    module = f"{__name__}.{name}"
    try:
        if not name.startswith("_") or name == "_dynamo":
            return _importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:  # it is there, and imports something that is not
            raise
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
