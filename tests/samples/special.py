"""Samples of `torch.special`. Golden values are SciPy's; polynomials are compared with NumPy's or
with their cosine form.
"""

import math

import numpy as np
from numpy.polynomial import hermite, hermite_e, laguerre, legendre

from tests.samples.common import FLOATS, A, Sample

POINTS = [0.25, 0.8, 1.5, 2.75]
X = A(4, values=POINTS)
ORDERS = A(4, values=[0.5, 1.0, 2.0, 4.0], grad=False)

GOLDEN = {
    "airy_ai": [0.2911639543485452, 0.1698463174443648, 0.07174949700810529, 0.01026920985501198],
    "bessel_j0": [0.9844359292958528, 0.8462873527504801, 0.5118276717359181, -0.1641414278085137],
    "bessel_j1": [0.1240259773227269, 0.36884204609417, 0.5579365079100997, 0.4259723029579023],
    "bessel_y0": [
        -0.9315730249300588,
        -0.08680227965660667,
        0.3824489237977589,
        0.4486587215691319,
    ],
    "bessel_y1": [-2.704105229315283, -0.9781441766833591, -0.4123086269739114, 0.246019001497384],
    "modified_bessel_i0": [
        1.015686141223608,
        1.166514922869803,
        1.646723189772891,
        3.995913107237656,
    ],
    "modified_bessel_i1": [
        0.1259791089454678,
        0.43286480262064,
        0.9816664285779079,
        3.155410138619003,
    ],
    "modified_bessel_k0": [
        1.541506751248303,
        0.5653471052658958,
        0.2138055626475256,
        0.04645490130876075,
    ],
    "modified_bessel_k1": [
        3.747025974440712,
        0.8617816344721801,
        0.2773878004568438,
        0.05431852275891984,
    ],
    "scaled_modified_bessel_k0": [
        1.979333848598568,
        1.258203121573991,
        0.9582100532948961,
        0.7266769203892358,
    ],
    "scaled_modified_bessel_k1": [
        4.811276588171025,
        1.917930298940972,
        1.243165873552553,
        0.8496846560106803,
    ],
    "spherical_bessel_j0": [
        0.9896158370180917,
        0.8966951136244035,
        0.6649966577360363,
        0.138785815291757,
    ],
    "erf": [0.2763263901682369, 0.7421009647076605, 0.9661051464753108, 0.9998993780778803],
    "erfc": [0.7236736098317631, 0.2578990352923395, 0.03389485352468927, 0.0001006219221196368],
    "erfcx": [0.770346547730997, 0.4891005892231149, 0.3215854164543176, 0.1936620962790687],
    "digamma": [-4.227453533376266, -0.9650085667061384, 0.03648997397857652, 0.8189010249754325],
    "gammaln": [1.288022524698077, 0.1520596783998375, -0.1207822376352453, 0.4752146669149372],
    "i0": [1.015686141223608, 1.166514922869803, 1.646723189772891, 3.995913107237656],
    "i0e": [0.7910171621397195, 0.5241489419203692, 0.3674336090541583, 0.2554501785135525],
    "i1": [0.1259791089454678, 0.43286480262064, 0.9816664285779079, 3.155410138619003],
    "i1e": [0.0981126286973682, 0.1944986933643377, 0.2190393874209257, 0.2017186213918735],
    "ndtr": [0.5987063256829237, 0.7881446014166034, 0.9331927987311419, 0.9970202367649454],
    "log_ndtr": [
        -0.5129840754094305,
        -0.2380737016233281,
        -0.06914345561223399,
        -0.00298421156837419,
    ],
    "entr": [0.3465735902799726, 0.1785148410513678, -0.6081976621622466, -2.78190250711582],
    "expit": [1 / (1 + math.exp(-x)) for x in POINTS],
    "psi": [-4.227453533376266, -0.9650085667061384, 0.03648997397857652, 0.8189010249754325],
}
CONSTANT = {n for n in GOLDEN if "bessel" in n or n == "airy_ai"}  # no derivative, as in PyTorch


def golden(values):
    """A reference that is a table."""
    return lambda *args, **kwargs: np.array(values)


SAMPLES = [
    Sample("special." + name, [X], golden(values), gradient=name not in CONSTANT)
    for name, values in GOLDEN.items()
]

# -- two operands and parameters ---------------------------------------------------------------

FRACTIONS = A(4, values=[0.1, 0.35, 0.6, 0.9])
NEGATIVE_ORDER = [([-1, A(2)], RuntimeError, "n >= 0"), ([1.5, A(2)], TypeError, "must be int")]
SAMPLES += [
    Sample(
        "special.erfinv",
        [FRACTIONS],
        golden([0.08885599049425769, 0.32085832171518147, 0.5951160814499948, 1.1630871536766743]),
    ),
    Sample(
        "special.ndtri",
        [FRACTIONS],
        golden([-1.2815515655446004, -0.38532046640756773, 0.2533471031357997, 1.2815515655446004]),
    ),
    Sample(
        "special.zeta",
        [A(4, values=[1.5, 2.0, 3.0, 4.0], grad=False), X],
        golden([10.213055360466601, 2.2994741375017003, 0.41439832211716005, 0.026769354581578232]),
    ),
    Sample("special.xlog1py", [A(4, values=[1.5, 0.5, 3.0, 4.0]), X], lambda a, b: a * np.log1p(b)),
    Sample("special.xlogy", [A(4, values=[1.5, 0.5, 3.0, 4.0]), X], lambda a, b: a * np.log(b)),
    Sample(
        "special.gammainc",
        [ORDERS, X],
        golden([0.5204998778130466, 0.5506710358827783, 0.4421745996289252, 0.2969600055314426]),
    ),
    Sample(
        "special.gammaincc",
        [ORDERS, X],
        golden([0.47950012218695337, 0.4493289641172217, 0.5578254003710748, 0.7030399944685575]),
    ),
    Sample("special.polygamma", [0, X], golden(GOLDEN["digamma"]), errors=NEGATIVE_ORDER),
    Sample(
        "special.polygamma",
        [1, X],
        golden([17.197329154507113, 2.2994741375017003, 0.9348022005446793, 0.4375712576489307]),
    ),
    Sample(
        "special.polygamma",
        [2, X],
        golden(
            [-129.32773993753688, -4.430115708421636, -0.8287966442343201, -0.18871463303130123]
        ),
    ),
    Sample(
        "special.multigammaln",
        [A(4, values=[x + 2 for x in POINTS]), 3],
        golden([1.6592935862241982, 2.3169032028071053, 3.895898482154039, 8.126938753393627]),
        errors=[([A(2), 0], RuntimeError, "p >= 1")],
    ),
]

# -- polynomials -------------------------------------------------------------------------------

DEGREE = 4


def series(evaluate):
    """The polynomial of the degree asked for, by NumPy's evaluation of a series."""
    return lambda x, n: evaluate(x, [0] * n + [1])


def cosines(formula, shifted):
    """A Chebyshev polynomial from the angle whose cosine is x (or 2 x - 1)."""
    return lambda x, n: formula(np.arccos(2 * x - 1 if shifted else x), n)


CHEBYSHEV = {
    "t": lambda angle, n: np.cos(n * angle),
    "u": lambda angle, n: np.sin((n + 1) * angle) / np.sin(angle),
    "v": lambda angle, n: np.cos((n + 0.5) * angle) / np.cos(angle / 2),
    "w": lambda angle, n: np.sin((n + 0.5) * angle) / np.sin(angle / 2),
}
POLYNOMIALS = {
    "hermite_polynomial_h": series(hermite.hermval),
    "hermite_polynomial_he": series(hermite_e.hermeval),
    "laguerre_polynomial_l": series(laguerre.lagval),
    "legendre_polynomial_p": series(legendre.legval),
}
for _kind, _formula in CHEBYSHEV.items():
    POLYNOMIALS["chebyshev_polynomial_" + _kind] = cosines(_formula, False)
    POLYNOMIALS["shifted_chebyshev_polynomial_" + _kind] = cosines(_formula, True)
SAMPLES += [
    Sample(
        "special." + name,
        [A(5, low=0.1, high=0.9), DEGREE],
        reference,
        dtypes=FLOATS,
        gradient=False,
    )
    for name, reference in POLYNOMIALS.items()
]
