"""PyTorch's CPU random streams over NumPy arrays: same seed, same numbers, same state afterwards.

Imports NumPy and `errors` only.
"""

from .generator import (
    Generator,
    default_generator,
    fork_rng,
    initial_seed,
    manual_seed,
    seed,
)
from .integers import randint, randperm
from .normals import log_normal, normal, normal_of
from .rejection import (
    binomial,
    dirichlet,
    poisson,
    standard_gamma,
)
from .uniforms import (
    bernoulli,
    cauchy,
    dropout_mask,
    exponential,
    geometric,
    multinomial,
    uniform,
)

__all__ = [
    "Generator",
    "bernoulli",
    "binomial",
    "cauchy",
    "default_generator",
    "dirichlet",
    "dropout_mask",
    "exponential",
    "fork_rng",
    "geometric",
    "initial_seed",
    "log_normal",
    "manual_seed",
    "multinomial",
    "normal",
    "normal_of",
    "poisson",
    "randint",
    "randperm",
    "seed",
    "standard_gamma",
    "uniform",
]
