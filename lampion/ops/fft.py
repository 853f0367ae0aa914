"""Discrete Fourier transforms. May import rules, earlier families, core and the base.

Three records do all the work: complex to complex, real to half-complex and half-complex to real.
Each is linear, its gradient is the transform in the other direction, and `norm` is a factor, so
the rules do not mention it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.naming import named
from ..core.op import Op
from ..core.tensor import Tensor, normalize_dim
from ..errors import check
from .create import zeros
from .ranges import arange
from .rules import EXPORTS, batch_first, normalize_dims, public, shift_dims

# -- the records -------------------------------------------------------------------------------


def complex_kernel(x: ndarray, dim: tuple, scale: float, forward: bool) -> ndarray:
    """The unscaled transform over `dim` times `scale`."""
    if forward:
        return np.fft.fftn(x, axes=dim) * x.dtype.type(scale)
    return np.fft.ifftn(x, axes=dim, norm="forward") * x.dtype.type(scale)


def half_kernel(x: ndarray, dim: tuple, scale: float, forward: bool) -> ndarray:
    """The first half of the transform of a real array, along the last of `dim`."""
    y = np.fft.rfftn(x, axes=dim) * x.dtype.type(scale)
    return y if forward else y.conj()


def real_kernel(x: ndarray, dim: tuple, size: int, scale: float, forward: bool) -> ndarray:
    """The real array of `size` along the last of `dim` whose transform's first half is x."""
    sizes = [x.shape[d] for d in dim[:-1]] + [size]
    y = np.fft.irfftn(x.conj() if forward else x, s=sizes, axes=dim, norm="forward")
    return y * y.dtype.type(scale)


def half_gradient(g: Tensor, x_shape: tuple, dim: tuple, scale: float, forward: bool) -> Tensor:
    """The other half is no output: its gradient is zero."""
    return FFT_C2C(
        resize(g, dim[-1], x_shape[dim[-1]]), dim=dim, scale=scale, forward=not forward
    ).real


def real_gradient(g: Tensor, dim: tuple, size: int, scale: float, forward: bool) -> Tensor:
    """Each inner coefficient stands for two, itself and its mirror image."""
    half = FFT_R2C(g, dim=dim, scale=scale, forward=not forward)
    last, n = dim[-1], size // 2 + 1
    weight = np.full(n, 2.0, g.dtype.numpy)
    weight[0] = 1.0
    if size % 2 == 0:
        weight[-1] = 1.0
    shape = [1] * g.dim()
    shape[last] = n
    return half * g.new_tensor(weight).view(shape)


FFT_C2C: Op = Op(
    "fft_c2c",
    ("x",),
    complex_kernel,
    kind="linear",
    vjp={"x": lambda g, dim, scale, forward: FFT_C2C(g, dim=dim, scale=scale, forward=not forward)},
    jvp="linear",
    batch=batch_first(shift_dims),
)
FFT_R2C = Op(
    "fft_r2c",
    ("x",),
    half_kernel,
    kind="linear",
    vjp={"x": half_gradient},
    jvp="linear",
    batch=batch_first(shift_dims),
)
FFT_C2R = Op(
    "fft_c2r",
    ("x",),
    real_kernel,
    kind="linear",
    vjp={"x": real_gradient},
    jvp="linear",
    batch=batch_first(shift_dims),
)

# -- arguments ---------------------------------------------------------------------------------


def resize(x: Tensor, dim: int, size: int) -> Tensor:
    """x cut, or padded with zeros at its end, to `size` along a dimension."""
    have = x.shape[dim]
    if have > size:
        return x.narrow(dim, 0, size)
    if have < size:
        shape = list(x.shape)
        shape[dim] = size - have
        return EXPORTS["torch"]["cat"]([x, zeros(shape, dtype=x.dtype)], dim)
    return x


def scaling(norm: str | None, count: int, forward: bool) -> float:
    """The factor of a transform of `count` elements:
    `norm` says which direction carries 1 / count.
    """
    norm = norm or "backward"
    check(norm in ("backward", "ortho", "forward"), lambda: f'Invalid normalization mode: "{norm}"')
    if norm == "ortho":
        return 1 / math.sqrt(count)
    return 1 / count if (norm == "forward") == forward else 1.0


def floating(x: Tensor, name: str, want_complex: bool) -> Tensor:
    """Integers as the default float; complex if the transform wants it."""
    check(
        x.dtype not in (dtypes.float16, dtypes.bfloat16),
        lambda: f"[{name}] does not support {x.dtype} on the CPU; convert with .float() first",
    )
    if x.dtype.category < dtypes.FLOAT:
        x = x.to(dtypes.get_default_dtype())
    return x.to(x.dtype.to_complex()) if want_complex and not x.is_complex() else x


def sizes_and_dims(x: Tensor, s: Any, dim: Any, name: str) -> tuple[list, tuple]:
    """`s` and `dim` of the n-dimensional transforms, completed as PyTorch does."""
    if s is not None:
        s = [s] if isinstance(s, int) else list(s)
        check(
            dim is not None or len(s) <= x.dim(),
            f"Got shape with {len(s)} values but input tensor only has {x.dim()} dimensions.",
        )
    if dim is None:
        dim = tuple(range(x.dim() - len(s), x.dim())) if s is not None else tuple(range(x.dim()))
    dims = (
        normalize_dims(dim, x.dim()) if not isinstance(dim, int) else (normalize_dim(dim, x.dim()),)
    )
    sizes = [-1] * len(dims) if s is None else s
    check(len(sizes) == len(dims), "When given, dim and shape arguments must have the same length")
    return sizes, dims


def fit(x: Tensor, sizes: list, dims: tuple, name: str) -> Tensor:
    """x with the sizes asked for (-1: its own); raises RuntimeError for sizes below 1."""
    for n, d in zip(sizes, dims, strict=True):
        n = x.shape[d] if n == -1 else n
        check(n >= 1, lambda: f"Invalid number of data points ({n}) specified")
        x = resize(x, d, n)
    return x


def transform(
    x: Tensor, sizes: list, dims: tuple, norm: str | None, forward: bool, name: str
) -> Tensor:
    """Complex to complex."""
    x = fit(floating(x, name, want_complex=True), sizes, dims, name)
    if not dims:
        return x.clone()
    count = math.prod(x.shape[d] for d in dims)
    return FFT_C2C(x, dim=dims, scale=scaling(norm, count, forward), forward=forward)


def to_half(
    x: Tensor, sizes: list, dims: tuple, norm: str | None, forward: bool, name: str
) -> Tensor:
    """Real to half-complex."""
    check(not x.is_complex(), f"{name} expects a real input tensor, but got {x.dtype}")
    check(len(dims) > 0, f"{name} must transform at least one axis")
    x = fit(floating(x, name, want_complex=False), sizes, dims, name)
    count = math.prod(x.shape[d] for d in dims)
    return FFT_R2C(x, dim=dims, scale=scaling(norm, count, forward), forward=forward)


def to_real(
    x: Tensor, sizes: list, dims: tuple, norm: str | None, forward: bool, name: str
) -> Tensor:
    """Half-complex to real; the last size is that of the result."""
    check(len(dims) > 0, f"{name} must transform at least one axis")
    x = floating(x, name, want_complex=True)
    size = 2 * (x.shape[dims[-1]] - 1) if sizes[-1] == -1 else sizes[-1]
    check(size >= 1, lambda: f"Invalid number of data points ({size}) specified")
    x = fit(x, [*sizes[:-1], size // 2 + 1], dims, name)
    count = math.prod([x.shape[d] for d in dims[:-1]]) * size
    return FFT_C2R(x, dim=dims, size=size, scale=scaling(norm, count, forward), forward=forward)


# -- the public functions ----------------------------------------------------------------------

KINDS = {  # name: (how, forward direction)
    "fft": (transform, True),
    "ifft": (transform, False),
    "rfft": (to_half, True),
    "irfft": (to_real, False),
    "hfft": (to_real, True),
    "ihfft": (to_half, False),
}


def publish(name: str, kind: Any, forward: bool) -> None:
    """The one-, two- and n-dimensional forms of a transform."""
    direction = "forward" if forward else "inverse"

    def one(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
        dims = (normalize_dim(dim, input.dim()),)
        check(input.dim() > 0, "Dimension specified as -1 but tensor has no dimensions", IndexError)
        return kind(input, [-1 if n is None else n], dims, norm, forward, name)

    def two(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
        return kind(input, *sizes_and_dims(input, s, dim, name + "2"), norm, forward, name + "2")

    def many(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
        return kind(input, *sizes_and_dims(input, s, dim, name + "n"), norm, forward, name + "n")

    made = ((one, "", "one dimension"), (two, "2", "two"), (many, "n", "all, or over `dim`"))
    for function, suffix, over in made:
        doc = f"The {direction} discrete Fourier transform `{name}` over {over}."
        public(named(function, name + suffix, doc), spaces=("fft",), method=False, out=True)


for _name, (_kind, _forward) in KINDS.items():
    publish(_name, _kind, _forward)


def fftfreq(n: int, d: float = 1.0, **options: Any) -> Tensor:
    """The frequencies of the bins of an `fft` of n samples, d apart: [0, 1, ..., -1] / (d n)."""
    k = arange(n, dtype=options.pop("dtype", None) or dtypes.get_default_dtype(), **options)
    return (k - (k >= (n + 1) // 2).to(k.dtype) * n) * (1.0 / (n * d))


def rfftfreq(n: int, d: float = 1.0, **options: Any) -> Tensor:
    """The frequencies of the bins of an `rfft` of n samples, d apart."""
    k = arange(
        n // 2 + 1, dtype=options.pop("dtype", None) or dtypes.get_default_dtype(), **options
    )
    return k * (1.0 / (n * d))


EXPORTS["fft"].update(fftfreq=fftfreq, rfftfreq=rfftfreq)


@public(spaces=("fft",), method=False)
def fftshift(input: Tensor, dim: Any = None) -> Tensor:
    """The zero frequency moved to the middle."""
    dims = normalize_dims(dim, input.dim())
    return input.roll([input.shape[d] // 2 for d in dims], dims)


@public(spaces=("fft",), method=False)
def ifftshift(input: Tensor, dim: Any = None) -> Tensor:
    """The inverse of `fftshift`."""
    dims = normalize_dims(dim, input.dim())
    return input.roll([(input.shape[d] + 1) // 2 for d in dims], dims)
