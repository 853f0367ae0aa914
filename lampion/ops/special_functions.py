"""All special functions of arrays under one roof, and those that are a line of NumPy each.

Imports the special_* files. Arrays in, arrays out: the operators that use them are in special.py.
"""

from __future__ import annotations

import math

import numpy as np

from lampion.ops.special_bessel import (
    airy_ai as airy_ai,
    bessel_j0 as bessel_j0,
    bessel_j1 as bessel_j1,
    bessel_y0 as bessel_y0,
    bessel_y1 as bessel_y1,
    i0 as i0,
    i0e as i0e,
    i1 as i1,
    i1e as i1e,
    modified_bessel_i0 as modified_bessel_i0,
    modified_bessel_i1 as modified_bessel_i1,
    modified_bessel_k0 as modified_bessel_k0,
    modified_bessel_k1 as modified_bessel_k1,
    scaled_modified_bessel_k0 as scaled_modified_bessel_k0,
    scaled_modified_bessel_k1 as scaled_modified_bessel_k1,
    spherical_bessel_j0 as spherical_bessel_j0,
)
from lampion.ops.special_common import Array, by_blocks
from lampion.ops.special_error import (
    erf as erf,
    erfc as erfc,
    erfcx as erfcx,
    erfinv as erfinv,
    log_ndtr as log_ndtr,
    ndtr as ndtr,
    ndtri as ndtri,
)
from lampion.ops.special_gamma import (
    digamma as digamma,
    gammainc as gammainc,
    gammaincc as gammaincc,
    lgamma as lgamma,
    multigammaln as multigammaln,
    polygamma as polygamma,
    zeta as zeta,
)
from lampion.ops.special_polynomials import (
    chebyshev_polynomial_t as chebyshev_polynomial_t,
    chebyshev_polynomial_u as chebyshev_polynomial_u,
    chebyshev_polynomial_v as chebyshev_polynomial_v,
    chebyshev_polynomial_w as chebyshev_polynomial_w,
    hermite_polynomial_h as hermite_polynomial_h,
    hermite_polynomial_he as hermite_polynomial_he,
    laguerre_polynomial_l as laguerre_polynomial_l,
    legendre_polynomial_p as legendre_polynomial_p,
    shifted_chebyshev_polynomial_t as shifted_chebyshev_polynomial_t,
    shifted_chebyshev_polynomial_u as shifted_chebyshev_polynomial_u,
    shifted_chebyshev_polynomial_v as shifted_chebyshev_polynomial_v,
    shifted_chebyshev_polynomial_w as shifted_chebyshev_polynomial_w,
)


@by_blocks(native=True)
def entr(x: Array) -> Array:
    """Entropy of one outcome, -x log(x): 0 at 0, minus infinity below."""
    return np.select([x > 0, x == 0, x < 0], [-x * np.log(x), 0.0, -np.inf], np.nan)


@by_blocks(native=True)
def xlogy(x: Array, y: Array) -> Array:
    """x log(y), which is 0 where x is 0, unless y is NaN."""
    return np.where((x == 0) & ~np.isnan(y), 0.0, x * np.log(y))


@by_blocks(native=True)
def xlog1py(x: Array, y: Array) -> Array:
    """x log(1 + y), which is 0 where x is 0, unless y is NaN."""
    return np.where((x == 0) & ~np.isnan(y), 0.0, x * np.log1p(y))


@by_blocks(native=True)
def sinc(x: Array) -> Array:
    """sin(pi x) / (pi x), which is 1 at 0."""
    angle = math.pi * x
    return np.where(x == 0, 1.0, np.sin(angle) / angle)


@by_blocks(native=True)
def logit(x: Array, *, eps: float | None = None) -> Array:
    """log(x / (1 - x)) with x clamped to [eps, 1 - eps]; without eps, NaN outside of [0, 1].

    >>> logit(np.array([0.5, 1.0]))
    array([ 0., inf])
    """
    if eps is not None:
        x = np.where(x < eps, eps, np.where(x > 1 - eps, 1 - eps, x))
    return np.log(x / (1 - x))
