"""PyTorch's CPU random streams over NumPy arrays: same seed, same numbers, same state afterwards.

Imports NumPy and `errors` only.
"""

from .generator import (
    Generator as Generator,
    default_generator as default_generator,
    fork_rng as fork_rng,
    initial_seed as initial_seed,
    manual_seed as manual_seed,
    seed as seed,
)
from .integers import randint as randint, randperm as randperm
from .normals import log_normal as log_normal, normal as normal, normal_of as normal_of
from .rejection import (
    binomial as binomial,
    dirichlet as dirichlet,
    poisson as poisson,
    standard_gamma as standard_gamma,
)
from .uniforms import (
    bernoulli as bernoulli,
    cauchy as cauchy,
    dropout_mask as dropout_mask,
    exponential as exponential,
    geometric as geometric,
    multinomial as multinomial,
    uniform as uniform,
)
