"""Samples of arithmetic, comparison, powers, trigonometry, rounding and bits."""

import math

import numpy as np

from tests.samples.common import ALL, BOOL, COMPLEX, FLOATS, INTS, LOW, NUMBERS, A, Sample

NAN, INF = math.nan, math.inf
WIDE = NUMBERS + LOW
SPECIAL_VALUES = A(6, values=[NAN, INF, -INF, 0.0, -0.0, 1.5], grad=False)
NONZERO = A(3, 2, values=[[1.0, -2.0], [3.0, -1.0], [2.0, 5.0]])


def both(call):
    """A reference of two operands as one that also takes the keyword arguments of the sample."""
    return lambda a, b, **kwargs: call(a, b)


# -- one operand: name, reference, range, types ------------------------------------------------

WORDS = ("int32", "int64")  # of smaller integers NumPy makes float16
ANY = FLOATS + COMPLEX
UNARY = [
    ("abs", np.abs, -2, 2, WIDE + COMPLEX),
    ("acos", np.arccos, -0.9, 0.9, ANY),
    ("acosh", np.arccosh, 1.2, 4, FLOATS),
    ("asin", np.arcsin, -0.9, 0.9, ANY),
    ("asinh", np.arcsinh, -2, 2, ANY + WORDS),
    ("atan", np.arctan, -2, 2, ANY + WORDS),
    ("atanh", np.arctanh, -0.8, 0.8, ANY),
    ("ceil", np.ceil, -3, 3, WIDE),
    ("cos", np.cos, -3, 3, ANY + WORDS),
    ("cosh", np.cosh, -2, 2, ANY + WORDS),
    ("deg2rad", np.deg2rad, -90, 90, FLOATS + WORDS),
    ("exp", np.exp, -2, 2, ANY + WORDS + LOW),
    ("exp2", np.exp2, -2, 2, ANY + WORDS),
    ("expm1", np.expm1, -2, 2, ANY + WORDS),
    ("floor", np.floor, -3, 3, WIDE),
    ("frac", lambda x: x - np.trunc(x), -3, 3, FLOATS),
    ("log", np.log, 0.3, 3, ANY + LOW),
    ("log10", np.log10, 0.3, 3, ANY),
    ("log1p", np.log1p, -0.5, 3, ANY),
    ("log2", np.log2, 0.3, 3, ANY),
    ("neg", np.negative, -2, 2, NUMBERS + COMPLEX),
    ("positive", np.positive, -2, 2, NUMBERS),
    ("rad2deg", np.rad2deg, -2, 2, FLOATS + WORDS),
    ("reciprocal", lambda x: 1 / x, 0.5, 3, ANY + LOW),
    ("round", np.round, -3, 3, WIDE),
    ("rsqrt", lambda x: 1 / np.sqrt(x), 0.3, 3, ANY + LOW),
    ("sigmoid", lambda x: 1 / (1 + np.exp(-x)), -3, 3, ANY + LOW),
    ("sign", np.sign, -2, 2, ALL[1:]),
    ("sin", np.sin, -3, 3, ANY + WORDS),
    ("sinc", np.sinc, -2, 2, FLOATS + LOW),
    ("sinh", np.sinh, -2, 2, ANY + WORDS),
    ("sqrt", np.sqrt, 0.3, 3, ANY),
    ("square", np.square, -2, 2, NUMBERS + COMPLEX),
    ("tan", np.tan, -1, 1, ANY),
    ("tanh", np.tanh, -2, 2, ANY + WORDS + LOW),
    ("trunc", np.trunc, -3, 3, WIDE),
]
SAMPLES = [
    Sample(name, [A(*shape, low=low, high=high)], reference, dtypes=dtypes)
    for name, reference, low, high, dtypes in UNARY
    for shape in ((2, 3), ())
]

# -- two operands: name, reference, ranges, types ----------------------------------------------

BINARY = [
    ("add", np.add, (-2, 2), (-2, 2), ALL + COMPLEX),
    ("atan2", np.arctan2, (0.5, 2), (0.5, 2), FLOATS + WORDS),
    ("copysign", np.copysign, (-2, 2), (-2, 2), FLOATS + WORDS),
    ("div", np.divide, (-2, 2), (0.5, 2), FLOATS + COMPLEX + LOW),
    ("float_power", np.float_power, (0.5, 2), (-2, 2), FLOATS),
    ("floor_divide", np.floor_divide, (-9, 9), (1, 3), WIDE),
    ("fmax", np.fmax, (-2, 2), (-2, 2), ALL),
    ("fmin", np.fmin, (-2, 2), (-2, 2), ALL),
    ("fmod", np.fmod, (-9, 9), (1, 3), NUMBERS),
    ("hypot", np.hypot, (0.5, 2), (0.5, 2), FLOATS),
    ("ldexp", lambda a, b: a * 2.0**b, (-2, 2), (-2, 2), FLOATS),
    ("logaddexp", np.logaddexp, (-2, 2), (-2, 2), FLOATS),
    ("logaddexp2", np.logaddexp2, (-2, 2), (-2, 2), FLOATS),
    ("maximum", np.maximum, (-2, 2), (-2, 2), ALL),
    ("minimum", np.minimum, (-2, 2), (-2, 2), ALL),
    ("mul", np.multiply, (-2, 2), (-2, 2), ALL + COMPLEX),
    ("pow", np.power, (0.5, 2), (0, 3), NUMBERS + COMPLEX),
    ("remainder", np.remainder, (-9, 9), (1, 3), NUMBERS),
    ("rsub", lambda a, b: b - a, (-2, 2), (-2, 2), NUMBERS + COMPLEX),
    ("sub", np.subtract, (-2, 2), (-2, 2), NUMBERS + LOW + COMPLEX),
    ("xlogy", lambda a, b: a * np.log(b), (-2, 2), (0.5, 2), FLOATS),
]
CLASH = [([A(2), A(3)], RuntimeError, "must match")]
SAMPLES += [
    Sample(
        name,
        [A(2, 1, low=a[0], high=a[1]), A(3, low=b[0], high=b[1])],
        reference,
        dtypes=dtypes,
        errors=CLASH,
    )
    for name, reference, a, b, dtypes in BINARY
]
SAMPLES += [
    Sample(name, [A(2, 3, low=a[0], high=a[1]), b[1]], reference)
    for name, reference, a, b, _ in BINARY
    if name not in ("float_power", "ldexp", "hypot", "logaddexp", "logaddexp2", "rsub")
]

WHOLE = [
    ("bitwise_and", np.bitwise_and, BOOL + INTS),
    ("bitwise_or", np.bitwise_or, BOOL + INTS),
    ("bitwise_xor", np.bitwise_xor, BOOL + INTS),
    ("gcd", np.gcd, INTS),
    ("lcm", np.lcm, INTS),
]
TRUTH = [
    ("eq", np.equal, ALL + COMPLEX),
    ("ne", np.not_equal, ALL + COMPLEX),
    ("lt", np.less, ALL),
    ("le", np.less_equal, ALL),
    ("gt", np.greater, ALL),
    ("ge", np.greater_equal, ALL),
    ("logical_and", np.logical_and, ALL + COMPLEX),
    ("logical_or", np.logical_or, ALL + COMPLEX),
    ("logical_xor", np.logical_xor, ALL + COMPLEX),
]
NOT_COMPLEX = [([A(2, dtype="complex64"), A(2, dtype="complex64")], RuntimeError, "ComplexFloat")]
SAMPLES += [
    Sample(
        name,
        [A(2, 3), A(3)],
        reference,
        dtypes=dtypes,
        gradient=False,
        errors=NOT_COMPLEX if name in ("lt", "le", "gt", "ge") else CLASH,
    )
    for name, reference, dtypes in WHOLE + TRUTH
]
SHIFTS = A(4, values=[0, 3, 40, -1])
SAMPLES += [
    Sample(
        "bitwise_left_shift",
        [A(4, values=[1, -3, 5, 7]), SHIFTS],
        lambda a, b: np.array([1, -24, 0, 0]),
        dtypes=("int32",),
        gradient=False,
        errors=[([A(2, dtype="float32"), 1], RuntimeError, "Float")],
    ),
    Sample(
        "bitwise_right_shift",
        [A(4, values=[1, -30, -5, 7]), SHIFTS],
        lambda a, b: np.array([1, -4, -1, 0]),
        dtypes=("int32",),
        gradient=False,
    ),
    Sample("bitwise_not", [A(2, 3)], np.bitwise_not, dtypes=BOOL + INTS, gradient=False),
    Sample("logical_not", [A(2, 3)], np.logical_not, dtypes=ALL, gradient=False),
]

# -- tests of values ---------------------------------------------------------------------------

SAMPLES += [
    Sample(name, [x], reference, dtypes=dtypes, gradient=False)
    for name, reference in (
        ("isnan", np.isnan),
        ("isinf", np.isinf),
        ("isfinite", np.isfinite),
        ("isposinf", np.isposinf),
        ("isneginf", np.isneginf),
        ("isreal", np.isreal),
        ("signbit", np.signbit),
    )
    for x, dtypes in ((SPECIAL_VALUES, FLOATS + LOW), (A(2, 3), INTS))
]
SAMPLES += [
    Sample(
        "isclose",
        [A(3, values=[1.0, 2.0, NAN]), A(3, values=[1.0 + 1e-6, 2.1, NAN])],
        np.isclose,
        kwargs=kwargs,
        gradient=False,
        errors=errors,
    )
    for kwargs, errors in (
        ({}, [([A(2), A(2, dtype="int64")], RuntimeError, "did not match")]),
        ({"rtol": 0.1, "atol": 0.0}, [([A(2), A(2)], {"rtol": -1}, RuntimeError, "rtol")]),
        ({"equal_nan": True}, [([A(2), 1.0], TypeError, "Tensor")]),
    )
]

# -- sums with factors, division, clamping -----------------------------------------------------

NO_BOOL = [
    ([A(2, dtype="bool"), A(2, dtype="bool")], RuntimeError, "bool"),
    ([A(2), A(2, dtype="bool")], RuntimeError, "bool tensor"),
]
SAMPLES += [
    Sample(
        "add",
        [A(2, 3), A(3)],
        lambda a, b, alpha: a + alpha * b,
        kwargs={"alpha": 3},
        dtypes=NUMBERS + COMPLEX,
        errors=[
            ([A(2, dtype="int64"), 1], {"alpha": 1.5}, RuntimeError, "floating point number"),
            ([A(2), 1], {"alpha": True}, RuntimeError, "Boolean alpha"),
            ([A(2), 1], {"alpha": 1j}, RuntimeError, "complex"),
            ([A(2), "a"], TypeError, "Number"),
        ],
    ),
    Sample(
        "sub",
        [A(2, 3), A(3)],
        lambda a, b, alpha: a - alpha * b,
        kwargs={"alpha": -0.5},
        errors=NO_BOOL,
    ),
    Sample(
        "rsub",
        [A(2, 3), 2.0],
        lambda a, b, alpha: b - alpha * a,
        kwargs={"alpha": 2},
        errors=NO_BOOL,
    ),
    Sample(
        "addcmul",
        [A(2, 3), A(3), A(2, 1)],
        lambda a, b, c, value: a + value * b * c,
        kwargs={"value": 2},
        dtypes=NUMBERS,
    ),
    Sample(
        "addcdiv",
        [A(2, 3), A(3), A(2, 1, low=0.5)],
        lambda a, b, c, value: a + value * b / c,
        kwargs={"value": -0.5},
        errors=[([A(2, dtype="int64")] * 3, RuntimeError, "Integer division")],
    ),
    Sample("lerp", [A(2, 3), A(3), 0.3], lambda a, b, w: a + w * (b - a), dtypes=FLOATS + COMPLEX),
    Sample(
        "lerp",
        [A(2, 3), A(3), A(2, 3, low=-0.5, high=1.5)],
        lambda a, b, w: a + w * (b - a),
        errors=[
            ([A(2), A(2, dtype="int64"), 0.5], RuntimeError, "expected dtype"),
            ([A(2, dtype="int64"), A(2, dtype="int64"), 0.5], RuntimeError, "not implemented"),
        ],
    ),
    Sample("neg", [A(2)], np.negative, errors=[([A(2, dtype="bool")], RuntimeError, "Bool")]),
    Sample("positive", [A(2)], np.positive, errors=[([A(2, dtype="bool")], RuntimeError, "bool")]),
    Sample(
        "div",
        [NONZERO, A(3, 2, low=1, high=3)],
        lambda a, b, rounding_mode: np.trunc(a / b),
        kwargs={"rounding_mode": "trunc"},
        dtypes=NUMBERS,
        op="div_trunc",
        errors=[
            ([A(2), 2], {"rounding_mode": "up"}, RuntimeError, "rounding_mode"),
            (
                [A(2, dtype="int64"), 0],
                {"rounding_mode": "trunc"},
                RuntimeError,
                "ZeroDivisionError",
            ),
        ],
    ),
    Sample(
        "div",
        [A(3, 2, low=-9, high=9), A(2, low=1, high=3)],
        lambda a, b, rounding_mode: a // b,
        kwargs={"rounding_mode": "floor"},
        dtypes=NUMBERS,
        op="div_floor",
    ),
    *[
        Sample(
            name,
            [A(3, low=2, high=5), 3],
            reference,
            dtypes=INTS,
            gradient=False,
            errors=[
                ([A(2, dtype="int64"), 0], RuntimeError, "ZeroDivisionError"),
                ([A(2, dtype="bool"), A(2, dtype="bool")], RuntimeError, "Bool"),
            ],
        )
        for name, reference in (
            ("remainder", np.remainder),
            ("fmod", np.fmod),
            ("floor_divide", np.floor_divide),
        )
    ],
    Sample(
        "round",
        [A(2, 3, low=-3, high=3)],
        lambda x, decimals: np.round(x, decimals),
        kwargs={"decimals": 2},
        op="round_decimals",
    ),
    Sample(
        "round",
        [A(2, 3, low=-300, high=300)],
        lambda x, decimals: np.round(x, decimals),
        kwargs={"decimals": -1},
        op="round_decimals",
    ),
    Sample(
        "clamp",
        [A(3, 4), -0.5, 0.5],
        np.clip,
        dtypes=FLOATS + LOW,
        errors=[
            ([A(2)], RuntimeError, "At least one"),
            ([A(2, dtype="complex64"), 0], RuntimeError, "Complex"),
        ],
    ),
    Sample("clamp", [A(3, 4), A(4, low=-1.5, high=-0.5), A(3, 1, low=0.5, high=1.0)], np.clip),
    Sample("clamp", [A(3, 4), A(4, low=-0.5, high=0.5)], np.maximum),
    Sample("clamp", [A(3, 4), 1, 3], np.clip, dtypes=INTS, gradient=False),
    Sample("clamp_min", [A(3, 4), 0.2], np.maximum),
    Sample("clamp_max", [A(3, 4), A(4)], np.minimum),
    Sample(
        "nan_to_num",
        [SPECIAL_VALUES, 2.0, 9.0, -9.0],
        lambda x, nan, high, low: np.nan_to_num(x, nan=nan, posinf=high, neginf=low),
        gradient=False,
    ),
    Sample("nan_to_num", [A(2, 3)], np.nan_to_num, dtypes=FLOATS + INTS),
]

# -- powers ------------------------------------------------------------------------------------

SAMPLES += [
    Sample("pow", [A(2, 3, low=0.5, high=2), n], np.power, dtypes=FLOATS + COMPLEX)
    for n in (-2, -1, -0.5, 0, 0.5, 1, 2, 3, 2.5)
]
SAMPLES += [
    Sample("pow", [2.0, A(2, 3)], np.power),
    Sample(
        "pow",
        [A(4, values=[1, -1, 0, 2]), A(4, values=[-1, -1, -2, -3])],
        lambda a, b: np.array([1, -1, 0, 0]),
        dtypes=("int64",),
        gradient=False,
    ),
    Sample(
        "pow",
        [A(3, low=1, high=4), 3],
        np.power,
        dtypes=INTS,
        gradient=False,
        errors=[
            ([A(2), -1], RuntimeError, "negative integer powers"),
            ([A(2, dtype="uint8"), 300], RuntimeError, "overflow"),
            ([A(2, dtype="bool"), A(2, dtype="bool")], RuntimeError, "Bool"),
        ],
    ),
    Sample("logit", [A(2, 3, low=0.1, high=0.9)], lambda x: np.log(x / (1 - x))),
    Sample(
        "logit",
        [A(4, values=[0.05, 0.3, 0.6, 0.95])],
        lambda x, eps: np.log(np.clip(x, eps, 1 - eps) / (1 - np.clip(x, eps, 1 - eps))),
        kwargs={"eps": 0.1},
    ),
]

# -- choice and parts of numbers ---------------------------------------------------------------

MASK = A(2, 3, values=[[True, False, True], [False, False, True]], dtype="bool")
SAMPLES += [
    Sample(
        "where",
        [MASK, A(2, 3), A(3)],
        np.where,
        dtypes=ALL + COMPLEX,
        errors=[([A(2, dtype="int64"), A(2), A(2)], RuntimeError, "boolean tensor")],
    ),
    Sample("where", [MASK, A(2, 3), 0.0], np.where),
    Sample("where", [MASK], np.where, gradient=False, batch=False),
    Sample("nextafter", [A(2, 3), A(3)], np.nextafter, gradient=False),
    Sample(
        "heaviside",
        [A(4, values=[-1.0, 0.0, 2.0, 0.0]), A(4)],
        np.heaviside,
        dtypes=NUMBERS,
        gradient=False,
        errors=[
            ([A(2), A(2, dtype="int64")], RuntimeError, "different dtypes"),
            ([A(2), 1.0], TypeError, "Tensor"),
        ],
    ),
    Sample(
        "frexp",
        [A(2, 3, low=0.6, high=0.9)],
        np.frexp,
        errors=[([A(2, dtype="int64")], RuntimeError, "Long")],
    ),
]
