"""Where PyTorch keeps its layers: `torch.nn.modules.conv` and so on name what `nn`'s files hold.

Imports nothing but `nn`'s own files.
"""

# ruff: noqa: I001  (names side by side)

import sys
from types import ModuleType, SimpleNamespace

from .. import (
    activation, adaptive, attention, batchnorm, container, conv, distance, dropout, hooks, layer,
    lazy, linear, linear_cross_entropy, loss, module, normalization, padding, pooling, recurrent,
    sparse, state, transformer, vision,
)  # fmt: skip

tuples = SimpleNamespace(
    _ntuple=layer.ntuple,
    _single=layer.single,
    _pair=layer.pair,
    _triple=layer.triple,
    _quadruple=layer.quadruple,
    consume_prefix_in_state_dict_if_present=state.consume_prefix_in_state_dict_if_present,
)

FILES = {
    "linear_cross_entropy_options": (linear_cross_entropy,),
    "activation": (activation, attention), "adaptive": (adaptive,), "batchnorm": (batchnorm, lazy),
    "channelshuffle": (vision,), "container": (container,), "conv": (conv, lazy),
    "distance": (distance,), "dropout": (dropout,), "flatten": (vision,), "fold": (conv,),
    "instancenorm": (batchnorm, lazy), "lazy": (lazy,), "linear": (linear, lazy),
    "loss": (loss, linear_cross_entropy), "module": (hooks, state, module),
    "normalization": (normalization,), "padding": (padding,), "pixelshuffle": (vision,),
    "pooling": (pooling,), "rnn": (recurrent,), "sparse": (sparse,), "transformer": (transformer,),
    "upsampling": (vision,), "utils": (tuples,),
}  # fmt: skip

for _name, _sources in FILES.items():
    _file = ModuleType(f"{__name__}.{_name}", "PyTorch's name for a file of `lampion.nn`.")
    for _source in _sources:
        _file.__dict__.update({k: v for k, v in vars(_source).items() if not k.startswith("__")})
    sys.modules[_file.__name__] = globals()[_name] = _file
globals().update(
    {k: v for _file in FILES for k, v in vars(globals()[_file]).items()
     if isinstance(v, type) and issubclass(v, module.Module)}
)  # fmt: skip
