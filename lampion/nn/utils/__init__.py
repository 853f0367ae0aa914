"""Helpers around modules: clipping, sequences, parametrizations, pruning, fusion. May import nn."""

# ruff: noqa: I001  (names side by side)

from . import (
    clip_grad as clip_grad, convert_parameters as convert_parameters, fusion as fusion,
    init as init, parametrizations as parametrizations, parametrize as parametrize,
    rnn as rnn,
)  # fmt: skip
from .clip_grad import (
    clip_grad_norm as clip_grad_norm, clip_grad_norm_ as clip_grad_norm_,
    clip_grad_value_ as clip_grad_value_, clip_grads_with_norm_ as clip_grads_with_norm_,
    get_total_norm as get_total_norm,
)  # fmt: skip
from .convert_parameters import (
    parameters_to_vector as parameters_to_vector, vector_to_parameters as vector_to_parameters,
)  # fmt: skip
from .fusion import (
    fuse_conv_bn_eval as fuse_conv_bn_eval, fuse_conv_bn_weights as fuse_conv_bn_weights,
    fuse_linear_bn_eval as fuse_linear_bn_eval, fuse_linear_bn_weights as fuse_linear_bn_weights,
)  # fmt: skip
from .init import skip_init as skip_init
from .spectral_norm import (
    remove_spectral_norm as remove_spectral_norm, spectral_norm as spectral_norm,
)  # fmt: skip
from .weight_norm import remove_weight_norm as remove_weight_norm, weight_norm as weight_norm
