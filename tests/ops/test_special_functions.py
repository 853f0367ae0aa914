"""Special functions against mpmath, PyTorch's answers at odd points, and their own identities.

The values come from parity/golden/special_functions.py.
"""

import functools
import pathlib

import ml_dtypes
import numpy as np
import pytest

from lampion.ops import special_common, special_functions as special

GOLDEN = np.load(pathlib.Path(__file__).parent.parent / "golden" / "special_functions.npz")
NAMES = sorted(key.split("/")[0] for key in GOLDEN.files if key.endswith("/values"))
ODD_NAMES = sorted(key.split("/")[1] for key in GOLDEN.files if key.startswith("odd/"))
PARAMETERISED = {
    **{f"polygamma{n}": functools.partial(special.polygamma, n) for n in (1, 2, 5)},
    **{f"multigammaln{p}": functools.partial(special.multigammaln, p=p) for p in (1, 3)},
}
# Relative and absolute errors in float64; functions not named keep 4e-15 and 4e-16. Near a zero
# only the absolute one can be small; the exponential of a large argument shows its rounding.
TOLERANCES = {
    "ndtr": (1e-13, 0),
    "erfcx": (1e-14, 0),
    "log_ndtr": (1e-14, 0),
    "lgamma": (1e-14, 4e-15),
    "digamma": (1e-13, 4e-15),
    "polygamma1": (1e-13, 1e-15),
    "polygamma2": (1e-12, 1e-13),
    "polygamma5": (1e-13, 1e-15),
    "multigammaln1": (1e-14, 4e-15),
    "multigammaln3": (1e-14, 1e-14),
    "i0": (1e-14, 0),
    "i1": (1e-14, 0),
    "modified_bessel_k0": (2e-14, 0),
    "modified_bessel_k1": (2e-14, 0),
    "scaled_modified_bessel_k0": (1e-14, 0),
    "scaled_modified_bessel_k1": (1e-14, 0),
    "airy_ai": (3e-14, 1e-14),
    "bessel_j0": (4e-15, 2e-15),
    "bessel_j1": (4e-15, 2e-15),
    "bessel_y0": (4e-15, 4e-15),
    "bessel_y1": (4e-15, 4e-15),
    "gammainc": (1e-13, 0),
    "gammaincc": (1e-13, 0),
}
POLYNOMIAL_TOLERANCE = (1e-12, 1e-12)  # the recurrences add up rounding errors


def function_named(name):
    return PARAMETERISED[name] if name in PARAMETERISED else getattr(special, name)


def golden(name, dtype):
    arguments = [GOLDEN[key] for key in sorted(GOLDEN.files) if key.startswith(name + "/")][:-1]
    return [argument.astype(dtype) for argument in arguments], GOLDEN[name + "/values"]


@pytest.mark.parametrize("name", NAMES)
def test_float64_values(name):
    arguments, values = golden(name, np.float64)
    result = function_named(name)(*arguments)
    relative, absolute = TOLERANCES.get(name, (4e-15, 4e-16))
    if "polynomial" in name:
        relative, absolute = POLYNOMIAL_TOLERANCE
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, values, rtol=relative, atol=absolute)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_float32_values(name):
    arguments, values = golden(name, np.float32)
    result = function_named(name)(*arguments)
    assert result.dtype == np.float32
    if "polynomial" in name:
        np.testing.assert_allclose(result, values, rtol=1e-4, atol=1e-3)
    else:
        tiny = np.finfo(np.float32).tiny  # below it float32 has few digits
        absolute = 1e-7 if name == "logit" else tiny  # the rounding of 1 - x
        np.testing.assert_allclose(result, values.astype(np.float32), rtol=5e-7, atol=absolute)


def agrees_on_purpose(name, grid):
    """False where PyTorch's answer is an accident that we do not repeat."""
    if name == "polygamma1":  # its poles are finite in PyTorch, by rounding of sin(pi x)
        return (grid[0] >= 0) | ~np.isfinite(grid[0])
    if name == "zeta":  # the sum underflows to 0, for which PyTorch has NaN
        return ~((grid[0] >= 1e300) & (grid[1] > 1))
    if "polynomial" in name:  # the recurrence stops at NaN before its result is set
        return ~np.isnan(grid[0])
    return np.full(grid[0].shape, True)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_points_give_what_pytorch_gives(name):
    expected = GOLDEN["odd/" + name]
    grid = np.meshgrid(*[GOLDEN["odd_points"]] * expected.ndim, indexing="ij")
    result = function_named(name)(*grid)
    compared = agrees_on_purpose(name, grid)
    np.testing.assert_allclose(result[compared], expected[compared], rtol=1e-6, atol=1e-7)


def test_poles_of_trigamma_are_infinite():
    assert np.isposinf(special.polygamma(1, np.array([0.0, -1.0, -3.0]))).all()


X = np.random.default_rng(3).uniform(0.1, 30.0, 2000)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (lambda x: special.erf(-x), lambda x: -special.erf(x)),
        (lambda x: special.erf(x) + special.erfc(x), np.ones_like),
        (lambda x: special.erfinv(special.erf(x / 30)), lambda x: x / 30),
        (lambda x: special.ndtri(special.ndtr(-x)), np.negative),
        (lambda x: special.lgamma(x + 1), lambda x: special.lgamma(x) + np.log(x)),
        (lambda x: special.digamma(x + 1), lambda x: special.digamma(x) + 1 / x),
        (
            lambda x: special.gammainc(x, x[::-1]) + special.gammaincc(x, x[::-1]),
            np.ones_like,
        ),
        (lambda x: special.gammaincc(np.full_like(x, 0.5), x * x), special.erfc),
        (
            lambda x: (
                special.bessel_j1(x) * special.bessel_y0(x)
                - special.bessel_j0(x) * special.bessel_y1(x)
            ),
            lambda x: 2 / (np.pi * x),
        ),
        (
            lambda x: (
                special.i0(x) * special.modified_bessel_k1(x)
                + special.i1(x) * special.modified_bessel_k0(x)
            ),
            lambda x: 1 / x,
        ),
        (
            lambda x: special.zeta(x + 1.1, x) - special.zeta(x + 1.1, x + 1),
            lambda x: x ** -(x + 1.1),
        ),
    ],
)
def test_identities(left, right):
    np.testing.assert_allclose(left(X), right(X), rtol=3e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("function", "derivative"),
    [
        (special.lgamma, special.digamma),
        (special.digamma, lambda x: special.polygamma(1, x)),
        (special.bessel_j0, lambda x: -special.bessel_j1(x)),
        (special.modified_bessel_k0, lambda x: -special.modified_bessel_k1(x)),
        (special.i0, special.i1),
        (special.erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x)),
    ],
)
def test_derivatives_by_finite_differences(function, derivative):
    step = 1e-5 * X
    slope = (function(X + step) - function(X - step)) / (2 * step)
    np.testing.assert_allclose(slope, derivative(X), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3, 5)])
def test_shapes_are_kept(shape):
    array = np.full(shape, 0.3, np.float32)
    result = special.erf(array)
    assert isinstance(result, np.ndarray) and result.shape == shape
    assert special.zeta(array + 2, array).shape == shape


def test_arguments_broadcast_and_promote():
    a = np.array([[1.0], [2.0]], np.float32)
    x = np.array([0.5, 1.0, 2.0], np.float64)
    result = special.gammainc(a, x)
    assert result.shape == (2, 3) and result.dtype == np.float64
    np.testing.assert_allclose(result[0], 1 - np.exp(-x), rtol=1e-14)


def test_blocks_and_strides_do_not_show():
    x = np.random.default_rng(4).standard_normal((3, special_common.BLOCK))
    whole = special.erfc(x.T[::2])
    parts = np.stack([special.erfc(row[::2]) for row in x], axis=1)
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.parametrize("name", sorted(set(NAMES) & set(dir(special))))
def test_arguments_are_not_written_to(name):
    arguments, _ = golden(name, np.float64)
    copies = [argument.copy() for argument in arguments]
    function_named(name)(*arguments)
    for argument, copy in zip(arguments, copies, strict=True):
        np.testing.assert_array_equal(argument, copy)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halves_are_rounded_once(dtype):
    x = np.linspace(-2, 2, 41).astype(dtype)
    for function in (special.erf, special.lgamma, special.sinc):
        result = function(x)
        assert result.dtype == dtype
        expected = function(x.astype(np.float64))
        np.testing.assert_allclose(
            result.astype(np.float64),
            expected.astype(dtype).astype(np.float64),
            rtol=0.01,
            atol=1e-7,
        )


def test_integers_are_refused():
    with pytest.raises(TypeError, match=r"\[erf\] expects floating-point arrays, got int64"):
        special.erf(np.arange(3))


def test_bad_orders_are_refused():
    with pytest.raises(RuntimeError, match=r"\[polygamma\] expects n >= 0, got -1"):
        special.polygamma(-1, X)
    with pytest.raises(RuntimeError, match=r"\[multigammaln\] expects p >= 1, got 0"):
        special.multigammaln(X, 0)


def test_logit_clamps():
    x = np.array([-1.0, 0.0, 0.3, 1.0, 2.0])
    clamped = np.clip(x, 0.1, 0.9)
    np.testing.assert_allclose(special.logit(x, eps=0.1), np.log(clamped / (1 - clamped)))
    assert np.isnan(special.logit(x)[[0, 4]]).all()


def test_polynomials_outside_their_domain():
    n = np.array([-1.0, 0.0, 1.9, np.nan, np.inf])
    x = np.full_like(n, 0.4)
    np.testing.assert_array_equal(special.legendre_polynomial_p(x, n), [0, 1, 0.4, 0, 0])
    assert np.isnan(special.hermite_polynomial_h(np.array([0.1]), np.array([513.0])))
    assert np.isnan(special.hermite_polynomial_he(np.float32([0.1]), np.float32([129.0])))
    assert np.isnan(special.legendre_polynomial_p(np.array([np.nan]), np.array([1e9])))
