"""Samples of random tensors and dropout; their numbers are checked in tests/test_random.py."""

import lampion as torch

from .common import A, Sample


def drawn(name, inputs, **options):
    """A sample of a function that draws: it is run, and its errors are checked."""
    return Sample(name, inputs, gradient=False, batch=False, **options)


PROBABILITIES = A(3, 4, low=0.1, high=0.9)

SAMPLES = [
    drawn("rand", [2, 3], errors=[([2], {"dtype": torch.int64}, NotImplementedError, "floating")]),
    drawn("randn", [2, 3]),
    drawn(
        "randint",
        [3, (2, 3)],
        errors=[
            ([5, 2], TypeError, "tuple of ints"),
            ([5, 5, (2,)], RuntimeError, "from < to"),
            ([0.5, (2,)], TypeError, "must be int"),
        ],
    ),
    drawn("randperm", [5], errors=[([2.0], TypeError, "must be int")]),
    drawn("rand_like", [A(2, 3)]),
    drawn("randn_like", [A(2, 3)]),
    drawn("randint_like", [A(2, 3), 4]),
    drawn(
        "normal",
        [A(2, 1), A(3, low=0.5, high=1.0)],
        errors=[
            ([0.0, 1.0], TypeError, "needs a size"),
            ([A(2), A(3, low=0.5, high=1.0)], RuntimeError, "do not broadcast"),
        ],
    ),
    drawn("normal", [0.0, 1.0, (2, 3)]),
    drawn("bernoulli", [PROBABILITIES]),
    drawn("poisson", [A(3, low=0.5, high=20.0)]),
    drawn("binomial", [A(3, low=1.0, high=20.0), A(3, low=0.1, high=0.9)]),
    drawn(
        "multinomial",
        [PROBABILITIES, 2],
        errors=[([A(3, low=0.1, high=1.0), 4], RuntimeError, "without replacement")],
    ),
    drawn("Tensor.uniform_", [A(2, 3), -1.0, 1.0]),
    drawn("Tensor.normal_", [A(2, 3)]),
    drawn("Tensor.random_", [A(2, 3), 5]),
    drawn("Tensor.bernoulli_", [A(2, 3), 0.5]),
    drawn("Tensor.exponential_", [A(2, 3)]),
    drawn("Tensor.cauchy_", [A(2, 3)]),
    drawn("Tensor.geometric_", [A(2, 3), 0.5], errors=[([A(2), 0.0], RuntimeError, "p in")]),
    drawn("Tensor.log_normal_", [A(2, 3)]),
    drawn(
        "nn.functional.dropout",
        [A(2, 3)],
        errors=[([A(2), 1.5], ValueError, "between 0 and 1")],
    ),
    drawn("nn.functional.dropout1d", [A(2, 3, 4)], errors=[([A(2)], RuntimeError, "2D or 3D")]),
    drawn("nn.functional.dropout2d", [A(2, 3, 4, 4)]),
    drawn("nn.functional.dropout3d", [A(2, 3, 2, 2, 2)]),
    drawn("nn.functional.alpha_dropout", [A(2, 3), 0.3, True]),
    drawn("nn.functional.feature_alpha_dropout", [A(2, 3), 0.3, True]),
]
