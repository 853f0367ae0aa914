"""The numbers behind `mathematics`: per floating type its layout, constants in parts, polynomials.

Imports nothing. The polynomials are our own: Chebyshev fits (mpmath's `chebyfit` at 60 digits) and,
for f32's `expm1` and both `erf`, weighted ones whose largest relative error in the result is least
(Lawson's reweighted least squares); the coefficients then rounded to the type.
"""

from __future__ import annotations

from typing import NamedTuple


class Format(NamedTuple):
    """What the reductions need to know of a floating type."""

    bits: str  # the integer type of its size
    mantissa: int
    bias: int
    ln2: tuple[float, float]  # high part exact in products with an exponent, and the rest
    exp_range: tuple[float, float]  # exp is 0 below and inf above
    exp_normal: float  # up to this |x|, e^x and e^-x are normal numbers
    expm1: tuple[float, ...]  # (e^r - 1 - r) / r^2, |r| <= 0.35
    log: tuple[float, ...]  # (log((1 + s) / (1 - s)) / s - 2) / z, z = s^2 <= 0.03
    sin: tuple[float, ...]  # (sin(r) / r - 1) / z, z = r^2 <= 0.63
    cos: tuple[float, ...]  # (cos(r) - 1 + z / 2) / z^2
    erf: tuple[float, ...]  # log(1 - erf(x)) / x + 1, 0 <= x <= erf_one
    erf_one: float  # erf is 1 from here
    tanh_one: float  # tanh is 1 from here


# fmt: off
HALF_PI = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)  # add up to pi/2
# 1 / (2 pi) in parts of 28 bits, so that a product with an f32 number is exact in f64.
ONE_TURN = (
    0.15915494225919247, 8.327028684640414e-10, 5.69002511952534e-19, 6.3170650472507054e-27,
    4.170716914254881e-35, 2.8971783207221377e-44, 1.763489793601074e-52,
)
FORMATS = {
    "f32": Format(
        bits="i32",
        mantissa=23,
        bias=127,
        ln2=(0.693145751953125, 1.4286068203094173e-06),
        exp_range=(-104.0, 89.0),
        exp_normal=87.0,
        expm1=(0.49999994, 0.166665196, 0.0416683964, 0.0083687976, 0.00138144242),
        log=(0.6666667, 0.4000013, 0.2854997, 0.23353428),
        sin=(-0.16666667, 0.008333332, -0.00019840039, 2.7243811e-06),
        cos=(0.041666668, -0.0013888888, 2.480056e-05, -2.7295857e-07),
        erf=(
            -0.12837917, -0.636619389, -0.102777831, 0.0191530678, 0.000160390482, -0.00166702224,
            0.000632834213, -0.000117640564, 9.25618951e-06,
        ),
        erf_one=3.93,
        tanh_one=9.1,
    ),
    "f64": Format(
        bits="i64",
        mantissa=52,
        bias=1023,
        ln2=(0.6931471805598903, 5.497923018708371e-14),
        exp_range=(-746.0, 710.0),
        exp_normal=708.0,
        expm1=(
            0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333325544,
            0.0013888888888883327, 0.00019841269876864356, 2.4801587327007187e-05,
            2.755725283351691e-06, 2.75572718102198e-07, 2.5106274733573296e-08,
            2.0915442297780116e-09,
        ),
        log=(
            0.6666666666666666, 0.40000000000001007, 0.2857142857072325, 0.22222222409750114,
            0.18181793732111753, 0.15386342449645143, 0.13266048812203002, 0.131148348695975,
        ),
        sin=(
            -0.16666666666666666, 0.008333333333333331, -0.0001984126984126457,
            2.755731921895673e-06, -2.5052106100926675e-08, 1.605851097953535e-10,
            -7.58549250782124e-13,
        ),
        cos=(
            0.041666666666666664, -0.0013888888888888887, 2.480158730158437e-05,
            -2.75573192211902e-07, 2.0876755717957296e-09, -1.147044941240971e-11,
            4.745202155702359e-14,
        ),
        erf=(
            -0.1283791670955126, -0.6366197723675836, -0.10277260330178878, 0.019128447005070843,
            0.00020919469483661606, -0.001696206385705452, 0.0005901255527234037,
            -2.5878603777113076e-05, -6.449186192111753e-05, 2.97240478846791e-05,
            -3.407267650888935e-06, -2.8351382080875835e-06, 1.7415462285502103e-06,
            -3.3636439654069203e-07, -1.371817216632058e-07, 1.4176145365137445e-07,
            -6.573317409956755e-08, 2.0962520876202796e-08, -4.9976659163784215e-09,
            9.082147630261771e-10, -1.2483984274652598e-10, 1.2610890983843773e-11,
            -8.84551440260323e-13, 3.8505123084926265e-14, -7.834192961799063e-16,
        ),
        erf_one=5.95,
        tanh_one=19.1,
    ),
}
# fmt: on
