"""Comparing tensors in tests: `torch.testing`. May import core, ops and the base.

`assert_close` walks nested sequences and mappings pair by pair; each pair is compared by the first
rule that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from . import dtypes
from .core.tensor import Tensor, wrap
from .ops.create import empty
from .ops.data import from_numpy
from .ops.random import randint
from .ops.rules import EXPORTS

__all__ = ["assert_allclose", "assert_close", "make_tensor"]

TOLERANCES = {  # dtype: (rtol, atol)
    dtypes.float16: (1e-3, 1e-5),
    dtypes.bfloat16: (1.6e-2, 1e-5),
    dtypes.float32: (1.3e-6, 1e-5),
    dtypes.float64: (1e-7, 1e-7),
    dtypes.complex64: (1.3e-6, 1e-5),
    dtypes.complex128: (1e-7, 1e-7),
}
NUMBERS = (bool, int, float, complex, np.number, np.bool_)


@dataclass
class Options:
    """What `assert_close` was told."""

    allow_subclasses: bool
    rtol: float | None
    atol: float | None
    equal_nan: bool
    check_device: bool
    check_dtype: bool
    check_layout: bool
    check_stride: bool

    def tolerances(self, *types: dtypes.dtype) -> tuple[float, float]:
        """(rtol, atol): those given, else the loosest of these types."""
        if self.rtol is not None and self.atol is not None:
            return self.rtol, self.atol
        pairs = [TOLERANCES.get(t, (0.0, 0.0)) for t in types]
        return max(p[0] for p in pairs), max(p[1] for p in pairs)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: str | Callable[[str], str] | None = None,
) -> None:
    """Raises AssertionError unless `|actual - expected| <= atol + rtol * |expected|` for all
    elements.

    Takes tensors, arrays, numbers, None, and nested sequences and mappings of them. Without
    tolerances those of the types hold. `msg` replaces the message, or is called with it.

    >>> torch.testing.assert_close(torch.ones(2), torch.ones(2) + 1e-7)
    """
    if (rtol is None) != (atol is None):
        which = "rtol" if rtol is None else "atol"
        raise ValueError(
            f"Both 'rtol' and 'atol' must be either specified or omitted, but got no {which}."
        )
    options = Options(
        allow_subclasses,
        rtol,
        atol,
        equal_nan,
        check_device,
        check_dtype,
        check_layout,
        check_stride,
    )
    problem = first_problem(actual, expected, options, ())
    if problem is not None:
        raise AssertionError(msg if isinstance(msg, str) else msg(problem) if msg else problem)


def first_problem(actual: Any, expected: Any, options: Options, place: tuple) -> str | None:
    """What is wrong with the first pair that differs, None if none does."""
    pairs: Iterator[tuple]
    if is_sequence(actual) and is_sequence(expected):
        if len(actual) != len(expected):
            return located(
                f"The length of the sequences mismatch: {len(actual)} != {len(expected)}", place
            )
        pairs = ((i, a, e) for i, (a, e) in enumerate(zip(actual, expected, strict=True)))
    elif isinstance(actual, Mapping) and isinstance(expected, Mapping):
        problem = compare_keys(set(actual), set(expected))
        if problem:
            return located(problem, place)
        pairs = ((key, actual[key], expected[key]) for key in actual)
    else:
        problem = compare(actual, expected, options)
        return problem and located(problem, place)
    found = (first_problem(a, e, options, (*place, key)) for key, a, e in pairs)
    return next((problem for problem in found if problem), None)


def is_sequence(value: Any) -> bool:
    """Whether a value is compared item by item."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def compare_keys(actual: set, expected: set) -> str | None:
    """Names the keys that only one mapping has."""
    if actual == expected:
        return None
    lines = ["The keys of the mappings do not match:"]
    if expected - actual:
        lines.append(f"Missing keys in the actual mapping: {sorted(expected - actual)}")
    if actual - expected:
        lines.append(f"Additional keys in the actual mapping: {sorted(actual - expected)}")
    return "\n".join(lines)


def located(problem: str, place: tuple) -> str:
    """The message, with the item it is about."""
    where = "".join(f"[{key!r}]" for key in place)
    return f"{problem}\n\nThe failure occurred for item {where}" if place else problem


def compare(actual: Any, expected: Any, options: Options) -> str | None:
    """Compares two values that are no containers; raises TypeError for values that cannot be
    compared.
    """
    if actual is None or expected is None:
        return None if actual is expected else f"None mismatch: {actual} is not {expected}"
    if isinstance(actual, (bool, np.bool_)) and isinstance(expected, (bool, np.bool_)):
        return None if actual == expected else f"Booleans mismatch: {actual} is not {expected}"
    if isinstance(actual, NUMBERS) and isinstance(expected, NUMBERS):
        return compare_numbers(actual, expected, options)
    if isinstance(actual, ndarray) and isinstance(expected, ndarray):
        return compare_tensors(from_numpy(actual), from_numpy(expected), options)
    both = isinstance(actual, Tensor) and isinstance(expected, Tensor)
    if both and (options.allow_subclasses or type(actual) is type(expected)):
        return compare_tensors(actual.detach(), expected.detach(), options)
    raise TypeError(
        f"No comparison pair was able to handle inputs of type {type(actual)} and {type(expected)}."
    )


def compare_numbers(actual: Any, expected: Any, options: Options) -> str | None:
    """Compares Python numbers in their widest types."""
    kinds = [
        dtypes.PYTHON_TYPES[type(v.item() if isinstance(v, np.generic) else v)]
        for v in (actual, expected)
    ]
    if options.check_dtype and kinds[0] is not kinds[1]:
        return f"The (d)types do not match: {type(actual)} != {type(expected)}."
    rtol, atol = options.tolerances(*kinds)
    if close(np.asarray(actual), np.asarray(expected), rtol, atol, options.equal_nan):
        return None
    return scalar_message(actual, expected, rtol, atol)


def compare_tensors(actual: Tensor, expected: Tensor, options: Options) -> str | None:
    """Compares attributes, then values."""
    checked = {
        "shape": True,
        "layout": options.check_layout,
        "stride()": options.check_stride,
        "device": options.check_device,
        "dtype": options.check_dtype,
    }
    for name, wanted in checked.items():
        a, e = (getattr(t, name.removesuffix("()")) for t in (actual, expected))
        a, e = (a(), e()) if name.endswith("()") else (a, e)
        if wanted and a != e:
            return f"The values for attribute '{name}' do not match: {a} != {e}."
    rtol, atol = options.tolerances(actual.dtype, expected.dtype)
    common = dtypes.promote_types(actual.dtype, expected.dtype)
    a, e = actual.to(common)._data, expected.to(common)._data
    if close(a, e, rtol, atol, options.equal_nan):
        return None
    if a.ndim == 0:
        return scalar_message(wrap(a).item(), wrap(e).item(), rtol, atol)
    return tensor_message(a, e, ~matches(a, e, rtol, atol, options.equal_nan), rtol, atol)


def wide(x: ndarray) -> ndarray:
    """The array in a type that differences fit in."""
    return (
        x.astype(np.int64)
        if x.dtype.kind in "bui"
        else x.astype(np.float32)
        if x.dtype.itemsize < 4
        else x
    )


def matches(
    actual: ndarray, expected: ndarray, rtol: float, atol: float, equal_nan: bool
) -> ndarray:
    """Which elements are close, equal (where no tolerance is), or both nan if that counts."""
    a, e = wide(actual), wide(expected)
    same = a == e
    if rtol or atol:
        near = abs(a - e) <= atol + rtol * abs(e)
        same |= near & np.isfinite(a) & np.isfinite(e)
    return same | (np.isnan(a) & np.isnan(e)) if equal_nan else same


def close(actual: ndarray, expected: ndarray, rtol: float, atol: float, equal_nan: bool) -> bool:
    """Whether all elements are close."""
    return bool(np.all(matches(actual, expected, rtol, atol, equal_nan)))


def allowed(tolerance: float, exact: bool) -> str:
    """How much was allowed, for a message."""
    return "" if exact else f" (up to {tolerance} allowed)"


def scalar_message(actual: Any, expected: Any, rtol: float, atol: float) -> str:
    """What differs about two numbers."""
    exact = not (rtol or atol)
    difference = abs(actual - expected)
    relative = difference / abs(expected) if expected else float("inf")
    return (
        f"Scalars are not {'equal' if exact else 'close'}!\n\nExpected {expected} but got "
        f"{actual}.\nAbsolute difference: {difference}{allowed(atol, exact)}\n"
        f"Relative difference: {relative}{allowed(rtol, exact)}"
    )


def tensor_message(a: ndarray, e: ndarray, wrong: ndarray, rtol: float, atol: float) -> str:
    """How many elements differ, where most, and by how much."""
    exact, count = not (rtol or atol), int(wrong.sum())
    difference = abs(wide(a) - wide(e))
    magnitude = abs(wide(e))
    if difference.dtype.kind == "i":
        relative = (difference.astype(np.float32) / magnitude.astype(np.float32)).astype(np.float32)
    else:
        relative = difference / magnitude
    lines = [
        f"Tensor-likes are not {'equal' if exact else 'close'}!\n",
        f"Mismatched elements: {count} / {a.size} ({count / a.size:.1%})",
    ]
    for kind, values, tolerance in (("absolute", difference, atol), ("relative", relative, rtol)):
        shown = np.where(wrong, values, 0)  # only elements that do not match count
        at = np.unravel_index(int(shown.argmax()), a.shape)
        index = tuple(int(i) for i in at)
        lines.append(
            f"Greatest {kind} difference: {shown[at].item()} at index "
            f"{index}{allowed(tolerance, exact)}"
        )
    return "\n".join(lines)


def assert_allclose(
    actual: Any,
    expected: Any,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = True,
    msg: str = "",
) -> None:
    """The older form of `assert_close`: nan equals nan, types and devices may differ."""
    make = EXPORTS["torch"]["as_tensor"]
    assert_close(
        make(actual),
        make(expected),
        rtol=rtol,
        atol=atol,
        equal_nan=equal_nan,
        check_device=False,
        check_dtype=False,
        msg=msg or None,
    )


def make_tensor(
    *shape: Any,
    dtype: dtypes.dtype,
    device: Any = None,
    low: float | None = None,
    high: float | None = None,
    requires_grad: bool = False,
    noncontiguous: bool = False,
    exclude_zero: bool = False,
    memory_format: Any = None,
) -> Tensor:
    """A random tensor of [low, high): by default of [-9, 9), of [0, 10) for unsigned types and {0,
    1} for bool.
    """
    sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
    lowest, highest = (0, 2) if dtype is dtypes.bool else (-9, 9) if dtype.is_signed else (0, 10)
    low, high = lowest if low is None else low, highest if high is None else high
    stored = (*sizes[:-1], 2 * sizes[-1]) if noncontiguous and sizes else sizes
    if dtype.category <= dtypes.INTEGER:
        made = randint(int(np.ceil(low)), int(np.ceil(high)), stored, dtype=dtype)
    else:
        part = dtype.to_real()
        parts = (*stored, 2) if dtype.is_complex else stored
        made = wrap(
            empty(parts, dtype=part).uniform_(low, high)._data.view(dtype.numpy).reshape(stored)
        )
    made = made[..., ::2] if stored != sizes else made
    if exclude_zero:
        made[made == 0] = dtypes.finfo(dtype).tiny if dtype.category > dtypes.INTEGER else 1
    if memory_format is not None:
        made = made.contiguous(memory_format=memory_format)
    return made.requires_grad_(requires_grad)
