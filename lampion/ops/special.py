"""`torch.special` as operators: kernels from special_functions.py, derivatives as formulas. May
import earlier operators, core and the base.

Where PyTorch has no derivative (with respect to an order, and of the Bessel functions it added
last), neither have we: the results do not require a gradient.
"""

from __future__ import annotations

import math
from typing import Any

from ..core.op import ARRAY_NAMES, TENSOR_NAMES
from ..core.tensor import Tensor
from ..errors import check
from . import special_functions as kernels
from .elementwise import PRIVATE, excluding
from .powers import FLOAT, FLOAT32, SPECIAL
from .rules import EXPORTS, elementwise, in_float32, make_inplace, public, with_out

ONLY_SPECIAL: dict[str, Any] = {
    "spaces": ("special",),
    "method": False,
    "inplace": False,
    "promote": "float",
}
TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)
ROOT_2_PI = math.sqrt(2 * math.pi)
ROOT_HALF = math.sqrt(0.5)


def real_kernel(name: str) -> Any:
    """The kernel of this name, refusing complex numbers."""
    return excluding("c", getattr(kernels, name))


def undefined(name: str) -> Any:
    """Stands for a derivative that PyTorch does not have either: raises NotImplementedError."""
    raise NotImplementedError(
        f"[{name}] the derivative with respect to the first argument is not implemented"
    )


ARRAY_NAMES["undefined"] = TENSOR_NAMES["undefined"] = undefined
ARRAY_NAMES.update(
    {
        n: getattr(kernels, n)
        for n in ("digamma", "polygamma", "zeta", "lgamma", "erfcx", "i0", "i0e", "i1", "i1e")
    }
)

# -- the error function and the normal distribution --------------------------------------------

for _name, _partial, _options in (
    ("erf", f"{TWO_OVER_ROOT_PI} * exp(-x * x)", FLOAT),
    ("erfc", f"-{TWO_OVER_ROOT_PI} * exp(-x * x)", FLOAT),
    ("erfinv", f"{1 / TWO_OVER_ROOT_PI} * exp(y * y)", FLOAT32),
    ("lgamma", "digamma(x)", FLOAT32),
    ("digamma", "polygamma(1, x)", FLOAT32),
    ("i0", "i1(x)", FLOAT),
):
    elementwise(
        _name,
        f"{_name}(x)",
        numpy=real_kernel(_name),
        partials={"x": _partial},
        **SPECIAL,
        **_options,
    )
for _name, _partial, _grad_name in (
    ("erfcx", f"2 * x * y - {TWO_OVER_ROOT_PI}", "Erfcx"),
    ("ndtr", f"exp(-0.5 * x * x) * {1 / ROOT_2_PI}", "Ndtr"),
    ("ndtri", f"exp(0.5 * y * y) * {ROOT_2_PI}", "Ndtri"),
    ("log_ndtr", f"{2 / ROOT_2_PI} / erfcx(x * -{ROOT_HALF})", "LogNdtr"),
    ("entr", "-log(x) - 1", "Entr"),
    ("i0e", "i1e(x) - sgn(x) * y", "I0E"),
    ("i1", "where(x == 0, 0.5 + 0 * x, i0(x) - y / x)", "I1"),
    ("i1e", "where(x == 0, 0.5 + 0 * x, i0e(x) - y * (sgn(x) + 1 / x))", "I1E"),
):
    elementwise(
        _name,
        f"{_name}(x)",
        numpy=real_kernel(_name),
        partials={"x": _partial},
        grad_name=f"Special{_grad_name}Backward0",
        **ONLY_SPECIAL,
    )

# -- Bessel functions and polynomials ----------------------------------------------------------

for _name in (
    "airy_ai",
    "bessel_j0",
    "bessel_j1",
    "bessel_y0",
    "bessel_y1",
    "modified_bessel_i0",
    "modified_bessel_i1",
    "modified_bessel_k0",
    "modified_bessel_k1",
    "scaled_modified_bessel_k0",
    "scaled_modified_bessel_k1",
    "spherical_bessel_j0",
):
    elementwise(_name, f"{_name}(x)", numpy=real_kernel(_name), **ONLY_SPECIAL)
for _name in (
    "chebyshev_polynomial_t",
    "chebyshev_polynomial_u",
    "chebyshev_polynomial_v",
    "chebyshev_polynomial_w",
    "hermite_polynomial_h",
    "hermite_polynomial_he",
    "laguerre_polynomial_l",
    "legendre_polynomial_p",
    "shifted_chebyshev_polynomial_t",
    "shifted_chebyshev_polynomial_u",
    "shifted_chebyshev_polynomial_v",
    "shifted_chebyshev_polynomial_w",
):
    elementwise(
        _name, f"{_name}(x, n)", numpy=real_kernel(_name), inputs=("x", "n"), **ONLY_SPECIAL
    )

# -- gamma and zeta functions ------------------------------------------------------------------

zeta = elementwise(
    "zeta",
    "zeta(s, q)",
    numpy=real_kernel("zeta"),
    inputs=("s", "q"),
    partials={"s": "undefined('zeta')", "q": "-s * zeta(s + 1, q)"},
    grad_name="SpecialZetaBackward0",
    **ONLY_SPECIAL,
)
xlog1py = elementwise(
    "xlog1py",
    "a * log1p(b)",
    numpy=real_kernel("xlog1py"),
    partials={"a": "xlog1py(where(a == 0, 0 * a, 0 * a + 1), b)", "b": "a / (1 + b)"},
    grad_name="SpecialXlog1PyBackward0",
    **ONLY_SPECIAL,
)
ARRAY_NAMES["xlog1py"] = kernels.xlog1py

GAMMA_DENSITY = "exp((a - 1) * log(b) - b - lgamma(a))"
igamma = elementwise(
    "igamma",
    "igamma(a, b)",
    numpy=excluding("biuc", kernels.gammainc),
    partials={"a": "undefined('igamma')", "b": GAMMA_DENSITY},
)
igammac = elementwise(
    "igammac",
    "igammac(a, b)",
    numpy=excluding("biuc", kernels.gammaincc),
    partials={"a": "undefined('igammac')", "b": f"-{GAMMA_DENSITY}"},
)
_polygamma = elementwise(
    "polygamma",
    "polygamma(n, x)",
    numpy=lambda x, n: kernels.polygamma(n, x),
    partials={"x": "polygamma(n + 1, x)"},
    parameters={"n": 0},
    **PRIVATE,
    **FLOAT32,
).op
_mvlgamma = elementwise(
    "mvlgamma",
    "multigammaln(x, p)",
    numpy=in_float32(kernels.multigammaln),
    vjp={"x": lambda g, x, p: g * sum((x - 0.5 * j).digamma() for j in range(p))},
    parameters={"p": 1},
    **PRIVATE,
    **FLOAT32,
).op


def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of the digamma function, elementwise."""
    check(
        isinstance(n, int),
        lambda: f"polygamma(): argument 'n' (position 1) must be int, not {type(n).__name__}",
        TypeError,
    )
    return _polygamma(input, n=n)


def polygamma_method(self: Tensor, n: int) -> Tensor:
    """The n-th derivative of the digamma function, elementwise."""
    return polygamma(n, self)


@public(inplace=True, out=True)
def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The logarithm of the multivariate gamma function of dimension p, elementwise."""
    return _mvlgamma(input, p=p)


TENSOR_NAMES["polygamma"] = polygamma
EXPORTS["torch"]["polygamma"] = EXPORTS["special"]["polygamma"] = with_out(polygamma, "polygamma")
Tensor.polygamma = polygamma_method
Tensor.polygamma_ = make_inplace(polygamma_method, "polygamma_")

# -- the namespace's own names -----------------------------------------------------------------

for _name, _source in (
    ("expit", "sigmoid"),
    ("gammaln", "lgamma"),
    ("psi", "digamma"),
    ("multigammaln", "mvlgamma"),
    ("gammainc", "igamma"),
    ("gammaincc", "igammac"),
    ("logsumexp", "logsumexp"),
):
    EXPORTS["special"][_name] = EXPORTS["torch"][_source]
