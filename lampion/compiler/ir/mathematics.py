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


def magic(x: Node) -> Node:
    """1.5 * 2^mantissa: added to a number it leaves the nearest integer, in its last bits too."""
    return constant(1.5 * 2.0 ** format_of(x).mantissa, x.dtype)


def round_to_integer(x: Node) -> tuple[Node, Node]:
    """The nearest integer, as float and as integer."""
    shifted, bits = x + magic(x), format_of(x).bits
    return shifted - magic(x), shifted.bitcast(bits) - magic(x).bitcast(bits)


def power_of_two(n: Node, dtype: str) -> Node:
    """2^n for an integer in the range of normal exponents; only the last bits of n count."""
    f = FORMATS[dtype]
    return ((n << f.mantissa) + (f.bias << f.mantissa)).bitcast(dtype)


def times_power(x: Node, n: Node) -> Node:
    """x * 2^n for normal x and result; only the last bits of n count."""
    f = format_of(x)
    return (x.bitcast(f.bits) + (n << f.mantissa)).bitcast(x.dtype)


def scale(x: Node, n: Node) -> Node:
    """x * 2^n in two steps, so that neither overflows and a subnormal result is rounded once."""
    half = n >> 1
    return times_power(x, half) * power_of_two(n - half, x.dtype)


def bounded(x: Node, low: float | None = None, high: float | None = None) -> Node:
    """x between two bounds; nan stays (an instruction each, since nan fails the comparison)."""
    if low is not None:
        x = where(x < low, constant(low, x.dtype), x)
    return x if high is None else where(x > high, constant(high, x.dtype), x)


def exp_reduction(x: Node) -> tuple[Node, Node]:
    """(n, r) with x = n ln 2 + r, |r| <= ln 2 / 2; n in the last bits of an integer."""
    f = format_of(x)
    shifted = fma(x, constant(1 / math.log(2), x.dtype), magic(x))
    whole = shifted - magic(x)
    r = fma(whole, constant(-f.ln2[1], x.dtype), fma(whole, constant(-f.ln2[0], x.dtype), x))
    return shifted.bitcast(f.bits), r


def exp_of_rest(r: Node) -> Node:
    """e^r, |r| <= ln 2 / 2."""
    return polynomial(r, (1.0, 1.0, *format_of(r).expm1))


def one_minus_exp(x: Node, factor: float) -> Node:
    """1 - e^(factor x) where factor x <= 0, without cancellation near 0; factor is a power of two.

    ln 2 in one part is enough: what the rest loses, n times, e^-n makes small.
    """
    f = format_of(x)
    shifted = fma(x, constant(factor / math.log(2), x.dtype), magic(x))
    r = fma(shifted - magic(x), constant(-math.log(2) / factor, x.dtype), x)
    coefficients = (c * factor**k for k, c in enumerate(f.expm1, 2))
    e = fma(r * r, polynomial(r, tuple(coefficients)), r * factor)
    power = power_of_two(shifted.bitcast(f.bits), x.dtype)
    return fma(power, -e, 1.0 - power)


def exp(x: Node) -> Node:
    """e^x, 1 ulp. The exponent is added short of the limits, and a product does the rest, which
    overflows or is rounded once. What underflows to 0 is not computed: the processor is slow at
    underflows, and masked scores have many.
    """
    f = format_of(x)
    low, high = f.exp_range
    inside = bounded(x, low, high)
    n, r = exp_reduction(inside)
    margin = (f.bias + 1) // 2
    negative = x < 0.0
    bits = where(
        negative,
        constant(margin << f.mantissa, f.bits),
        constant(-margin << f.mantissa, f.bits),
    )
    near = (exp_of_rest(r).bitcast(f.bits) + ((n << f.mantissa) + bits)).bitcast(x.dtype)
    rest = where(negative, constant(2.0**-margin, x.dtype), constant(2.0**margin, x.dtype))
    return near * where(x > low, rest, inside - low)  # 0 or nan


def expm1(x: Node) -> Node:
    """e^x - 1 without cancellation near 0, 2 ulp."""
    f = format_of(x)
    n, r = exp_reduction(bounded(x, -0.75 * f.mantissa - 4, f.exp_range[1]))
    e = fma(r * r, polynomial(r, f.expm1), r)
    power = power_of_two(n - 1, x.dtype)  # 2^n itself may overflow
    return where(x.equals(0.0), x, fma(power, e, power - 0.5) * 2.0)


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
    """(1 - e) / (1 + e) with e = e^-2|x|, 2.5 ulp."""
    part = one_minus_exp(bounded(abs(x), high=format_of(x).tanh_one), -2.0)
    return copy_sign(part / (2.0 - part), x)


def sigmoid(x: Node) -> Node:
    """1 / (1 + e^-x), 2.5 ulp; 0 where that is hardly a normal number."""
    f = format_of(x)
    n, r = exp_reduction(-bounded(x, high=f.exp_normal))
    e = times_power(exp_of_rest(r), n)
    return 1.0 / (where(x > -f.exp_normal, e, x * -(2.0**f.bias)) + 1.0)  # inf or nan


def erf(x: Node) -> Node:
    """The error function, 2 ulp: 1 - e^(|x| P(|x|) - |x|)."""
    f = format_of(x)
    size = bounded(abs(x), high=f.erf_one)
    return copy_sign(one_minus_exp(fma(size, polynomial(size, f.erf), -size), 1.0), x)


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
    """The square root, rounded correctly; in wide loops below 2^-100, 1 ulp (`Renderer.root`)."""
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
    n, r = exp_reduction(bounded(high, *f.exp_range))
    e = fma(r * r, polynomial(r, f.expm1), r)
    e = fma(e + 1.0, where(inside, low, constant(0.0, low.dtype)), e)
    return scale(e + 1.0, n)


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
