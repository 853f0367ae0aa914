"""exp, log, sin, erf, pow and their kin as straight-line nodes: range reduction, then a polynomial.

May import ir and coefficients. Written once for f32 and f64, without branches, so that LLVM
vectorises the loops around them. The reductions are the classical ones of Cody and Waite (Software
Manual for the Elementary Functions, 1980) and of fdlibm (log by s = f / (2 + f)). Each function
states its largest error in units in the last place.
"""

from __future__ import annotations

import math

from .coefficients import FORMATS, HALF_PI, ONE_TURN, Format
from .node import Node, constant, fma, where


def format_of(x: Node) -> Format:
    """The format of a value's type."""
    return FORMATS[x.dtype]


def polynomial(x: Node, coefficients: tuple[float, ...]) -> Node:
    """c0 + c1 x + c2 x^2 + ... by Horner's rule."""
    result = constant(coefficients[-1], x.dtype)
    for c in coefficients[-2::-1]:
        result = fma(result, x, c)
    return result


def copy_sign(magnitude: Node, sign: Node) -> Node:
    """A value that is not negative, with the sign of another."""
    f = format_of(sign)
    bit = sign.bitcast(f.bits) & (1 << (63 if f.bits == "i64" else 31))
    return (magnitude.bitcast(f.bits) | bit).bitcast(sign.dtype)


def round_to_integer(x: Node) -> tuple[Node, Node]:
    """The nearest integer, as float and as integer, by adding 1.5 * 2^mantissa."""
    f = format_of(x)
    magic = constant(1.5 * 2.0**f.mantissa, x.dtype)
    shifted = x + magic
    return shifted - magic, shifted.bitcast(f.bits) - magic.bitcast(f.bits)


def power_of_two(n: Node, dtype: str) -> Node:
    """2^n for an integer in the range of normal exponents."""
    f = FORMATS[dtype]
    return ((n + f.bias) << f.mantissa).bitcast(dtype)


def scale(x: Node, n: Node) -> Node:
    """x * 2^n in two steps, so that neither overflows and a subnormal result is rounded once."""
    half = n >> 1
    return x * power_of_two(half, x.dtype) * power_of_two(n - half, x.dtype)


def exp_reduction(x: Node) -> tuple[Node, Node]:
    """(n, e^r - 1) with x = n ln 2 + r, |r| <= ln 2 / 2."""
    f = format_of(x)
    whole, n = round_to_integer(x * (1 / math.log(2)))
    r = fma(whole, constant(-f.ln2[1], x.dtype), fma(whole, constant(-f.ln2[0], x.dtype), x))
    return n, fma(r * r, polynomial(r, f.expm1), r)


def clamp(x: Node, low: float, high: float) -> Node:
    """x between two bounds; nan becomes a bound, and is put back by `keep_nan`."""
    x = where(x > low, x, constant(low, x.dtype))
    return where(x < high, x, constant(high, x.dtype))


def keep_nan(x: Node, result: Node) -> Node:
    """The result, but nan where x is."""
    return where(x.differs(x), x, result)


def exp(x: Node) -> Node:
    """e^x, 1 ulp. What underflows to 0 is not computed: the processor is slow at underflows, and
    masked scores have many.
    """
    f = format_of(x)
    low, high = (constant(bound, x.dtype) for bound in f.exp_range)
    zero = constant(0.0, x.dtype)
    n, e = exp_reduction(where(x > low, where(x < high, x, high), zero))
    return keep_nan(x, where(x > low, scale(e + 1.0, n), zero))


def expm1(x: Node) -> Node:
    """e^x - 1 without cancellation near 0, 2 ulp."""
    f = format_of(x)
    n, e = exp_reduction(clamp(x, -0.75 * f.mantissa - 4, f.exp_range[1]))
    power = power_of_two(n - 1, x.dtype)  # 2^n itself may overflow
    result = fma(power, e, power - 0.5) * 2.0
    return where(x.equals(0.0), x, keep_nan(x, where(n.equals(0), e, result)))


def log_reduction(x: Node) -> tuple[Node, Node]:
    """(n, m) with x = 2^n m and sqrt(1/2) <= m < sqrt(2), for positive normal x; n as a float."""
    f = format_of(x)
    root = constant(math.sqrt(0.5), x.dtype).bitcast(f.bits)
    shifted = x.bitcast(f.bits) - root
    n = shifted >> f.mantissa
    return n.cast(x.dtype), (x.bitcast(f.bits) - (n << f.mantissa)).bitcast(x.dtype)


def log_assembly(n: Node, m1: Node, correction: Node) -> Node:
    """n ln 2 + log(1 + m1) + correction, the small parts first."""
    f = format_of(m1)
    s = m1 / (m1 + 2.0)
    z = s * s
    half = m1 * m1 * 0.5
    small = fma(n, constant(f.ln2[1], m1.dtype), correction)
    tail = fma(s, fma(z, polynomial(z, f.log), half), small)
    return fma(n, constant(f.ln2[0], m1.dtype), m1 - (half - tail))


def log_special(x: Node, result: Node) -> Node:
    """The logarithm of x where it is zero, infinite, negative or nan."""
    infinity = constant(math.inf, x.dtype)
    result = where(x < infinity, result, x)  # inf and nan are their own logarithms
    result = where(x.equals(0.0), -infinity, result)
    return where(x < 0.0, constant(math.nan, x.dtype), result)


def normalized(x: Node) -> tuple[Node, Node]:
    """(x or x * 2^k, -k or 0): no subnormal numbers."""
    f = format_of(x)
    tiny = x < constant(2.0 ** (1 - f.bias), x.dtype)
    k = f.mantissa + 1
    return where(tiny, x * 2.0**k, x), where(tiny, constant(-k, x.dtype), constant(0.0, x.dtype))


def log(x: Node) -> Node:
    """The natural logarithm, 1 ulp; -inf at 0, nan below."""
    y, offset = normalized(x)
    n, m = log_reduction(y)
    return log_special(x, log_assembly(n + offset, m - 1.0, constant(0.0, x.dtype)))


def log1p(x: Node) -> Node:
    """log(1 + x) without loss near 0, 2 ulp; what rounding 1 + x loses is put back at the end."""
    u = x + 1.0
    n, m = log_reduction(u)
    lost = where(x < 1.0, x - (u - 1.0), 1.0 - (u - x)) / u
    direct = n.equals(0.0)
    zero = constant(0.0, x.dtype)
    result = log_assembly(n, where(direct, x, m - 1.0), where(direct, zero, lost))
    return where(x.equals(0.0), x, log_special(u, result))


def tanh(x: Node) -> Node:
    """x + x^3 P(x^2) below 0.625, 1 - 2 / (e^2|x| + 1) above, 2 ulp."""
    f = format_of(x)
    size, z = abs(x), x * x
    near = fma(size * z, polynomial(z, f.tanh), size)
    bounded = where(size < float(f.mantissa), size, constant(float(f.mantissa), x.dtype))
    n, e = exp_reduction(bounded + bounded)
    far = 1.0 - 2.0 / (fma(power_of_two(n, x.dtype), e, power_of_two(n, x.dtype)) + 1.0)
    return keep_nan(x, copy_sign(where(size < 0.625, near, far), x))


def sigmoid(x: Node) -> Node:
    """1 / (1 + e^-x), 2 ulp, and never through an overflow."""
    e = exp(-abs(x))
    return where(x < 0.0, e, constant(1.0, x.dtype)) / (e + 1.0)


def erf(x: Node) -> Node:
    """The error function, 2 ulp: x + x P(x^2) below 1, 1 - exp(log(erfc(x))) above."""
    f = format_of(x)
    size = abs(x)
    square = x * x
    near = fma(x, polynomial(square, f.erf), x)
    n, e = exp_reduction(polynomial(clamp(size, 1.0, f.erf_one), f.erfc))
    far = 1.0 - scale(e + 1.0, n)
    return keep_nan(x, where(size < 1.0, near, copy_sign(far, x)))


def quarter_turns(x: Node) -> tuple[Node, Node]:
    """(n, r) with x = n pi/2 + r, |r| <= pi/4; f64 by pi/2 in three parts, nan from 2^50 on."""
    if x.dtype == "f32":
        return exact_quarter_turns(x)
    x = where(abs(x) < 2.0**50, x, constant(math.nan, x.dtype))
    whole, n = round_to_integer(x * (2 / math.pi))
    for part in HALF_PI:
        x = fma(whole, constant(-part, x.dtype), x)
    return n, x


def exact_quarter_turns(x: Node) -> tuple[Node, Node]:
    """The same for every f32: x / (2 pi) in exact products, whole turns dropped from each."""
    turns = constant(0.0, "f64")
    for part in reversed(ONE_TURN):
        product = x.cast("f64") * part
        turns = turns + (product - product.unary("round"))
    quarters = turns * 4.0
    whole, n = round_to_integer(quarters)
    return n.cast("i32"), ((quarters - whole) * (math.pi / 2)).cast("f32")


def sine_of_turn(n: Node, r: Node) -> Node:
    """sin(n pi/2 + r)."""
    f = format_of(r)
    z = r * r
    sine = fma(r * z, polynomial(z, f.sin), r)
    cosine = fma(z * z, polynomial(z, f.cos), fma(z, constant(-0.5, r.dtype), 1.0))
    value = where((n & 1).equals(0), sine, cosine)
    flipped = value.bitcast(f.bits) ^ ((n & 2) << (62 if f.bits == "i64" else 30))
    return flipped.bitcast(r.dtype)


def sin(x: Node) -> Node:
    """The sine, 2 ulp (f32 where it is above 2^-25); nan of inf, and of f64 from 2^50 on."""
    n, r = quarter_turns(x)
    return where(x.equals(0.0), x, sine_of_turn(n, r))


def cos(x: Node) -> Node:
    """The cosine, as exact as `sin`."""
    n, r = quarter_turns(x)
    return sine_of_turn(n + 1, r)


def sqrt(x: Node) -> Node:
    """The square root, rounded correctly: the machine has it."""
    return x.unary("sqrt")


def rsqrt(x: Node) -> Node:
    """1 / sqrt(x), 2 ulp."""
    return 1.0 / sqrt(x)


def two_sum(a: Node, b: Node) -> tuple[Node, Node]:
    """a + b and what its rounding lost, for |a| >= |b| or a = 0."""
    total = a + b
    return total, b - (total - a)


def log_pair(x: Node) -> tuple[Node, Node]:
    """log(x), x > 0, as an unevaluated sum with about ten more bits than the type has."""
    y, offset = normalized(x)
    n, m = log_reduction(y)
    f, m1 = format_of(x), m - 1.0
    n = n + offset
    t = m1 + 2.0  # rounded; the loss is m1 - (t - 2)
    s = m1 / t
    s_low = (fma(-s, t, m1) - s * (m1 - (t - 2.0))) / t
    z = s * s
    z_low = fma(s, s, -z) + s * s_low * 2.0
    third = constant(2 / 3, x.dtype)
    p = fma(z, polynomial(z, f.log[1:]), constant(f.log[0] - third.arg, x.dtype))
    cube, cube_low = z * third, fma(z, third, -(z * third)) + z_low * third
    high, low = two_sum(s + s, s * cube)
    low = (
        low + fma(s, cube, -(s * cube)) + fma(s, fma(z, p, cube_low), fma(s_low, cube, s_low * 2.0))
    )
    total, lost = two_sum(n * f.ln2[0], high)
    return two_sum(total, fma(n, constant(f.ln2[1], x.dtype), lost + low))


def exp_pair(high: Node, low: Node) -> Node:
    """e^(high + low) for a small correction `low`."""
    f = format_of(high)
    inside = (high > f.exp_range[0]) & (high < f.exp_range[1])
    n, e = exp_reduction(clamp(high, *f.exp_range))
    e = fma(e + 1.0, where(inside, low, constant(0.0, low.dtype)), e)
    return keep_nan(high, scale(e + 1.0, n))


def pow(x: Node, y: Node) -> Node:
    """x^y: f32 through f64, 1 ulp; f64 through a logarithm in two parts. Special values as in C."""
    if x.dtype == "f32":
        return pow(x.cast("f64"), y.cast("f64")).cast("f32")
    size, one = abs(x), constant(1.0, x.dtype)
    infinity = constant(math.inf, x.dtype)
    high, low = log_pair(size)
    product = high * y
    result = exp_pair(product, fma(high, y, -product) + low * y)
    extreme = size.equals(0.0) | size.equals(infinity)
    result = where(
        extreme, where(size.equals(0.0) ^ (y < 0.0), constant(0.0, x.dtype), infinity), result
    )
    huge = abs(y).equals(infinity)
    grows = (size > 1.0).equals(y > 0.0)
    result = where(huge, where(grows, infinity, constant(0.0, x.dtype)), result)
    result = where(huge & size.equals(1.0), one, result)
    whole = y.unary("trunc").equals(y)
    odd = whole & (y * 0.5).unary("trunc").differs(y * 0.5) & (abs(y) < 2.0**53)
    negative = x.bitcast("i64") < 0
    result = where(negative & odd, -result, result)
    undefined = (x < 0.0) & (whole ^ True) & (x > -infinity)
    result = where(undefined, constant(math.nan, x.dtype), result)
    result = where(x.differs(x) | y.differs(y), x + y, result)
    return where(x.equals(1.0) | y.equals(0.0), one, result)
