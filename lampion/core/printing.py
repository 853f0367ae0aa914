"""How a tensor looks as text: `tensor([[1., 2.]], grad_fn=<AddBackward0>)`, as PyTorch prints it.

Imports NumPy only. A large array is first cut down to its corners, then one number format is chosen
for all that is shown, then the nested brackets are laid out. The rules are PyTorch 2.13's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np


@dataclass
class PrintOptions:
    """What `set_printoptions` changes; `sci_mode=None` lets the values decide."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


PROFILES = {
    "default": PrintOptions(),
    "short": PrintOptions(precision=2, edgeitems=2),
    "full": PrintOptions(threshold=math.inf),
}
options = PrintOptions()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Changes how tensors are printed; None leaves as is, but `sci_mode=None` means automatic.

    Args:
        precision: digits after the decimal point (4).
        threshold: tensors with more elements than this are summarised with `...` (1000).
        edgeitems: elements shown at both ends of a summarised dimension (3).
        linewidth: characters a line may have (80).
        profile: "default", "short" or "full"; sets the four above before they are applied.
        sci_mode: True or False to force scientific notation on or off.

    Raises:
        ValueError: an unknown profile.
    """
    if profile is not None:
        if profile not in PROFILES:
            raise ValueError(
                f"[set_printoptions] expects profile in {list(PROFILES)}, got {profile!r}"
            )
        vars(options).update(asdict(PROFILES[profile]))
    given = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    vars(options).update({name: value for name, value in given.items() if value is not None})
    options.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    """Returns the current options as a dictionary that `set_printoptions(**it)` accepts."""
    return asdict(options)


@contextmanager
def printoptions(**changes: Any) -> Iterator[None]:
    """Applies `set_printoptions(**changes)` in a `with` block and restores the options after it."""
    before = get_printoptions()
    set_printoptions(**changes)
    try:
        yield
    finally:
        set_printoptions(**before)


class NumberFormat(NamedTuple):
    """Writes one number as text; `width` is the room that a column of such numbers takes."""

    write: Callable[[Any], str]
    width: int


def padded(text: Callable[[Any], str], numbers: list[Any]) -> NumberFormat:
    """The format that writes with `text`, as wide as the widest of `numbers`."""
    width = max((len(text(number)) for number in numbers), default=1)
    return NumberFormat(lambda value: text(value).rjust(width), width)


def fixed_text(value: float) -> str:
    """As in `3.1416`."""
    return f"{value:.{options.precision}f}"


def scientific_text(value: float) -> str:
    """As in `3.1416e+00`."""
    return f"{value:.{options.precision}e}"


def whole_text(value: float) -> str:
    """A float without fraction: `3.`, but `inf` and `nan` without the point."""
    return f"{value:.0f}." if math.isfinite(value) else str(value)


def decisive_values(values: np.ndarray) -> np.ndarray:
    """Returns as float64 those that have a say in the format: finite and not zero."""
    wide = values.astype(np.float64)
    has_say = np.isfinite(wide) & (wide != 0)
    if values.dtype.name == "float8_e8m0fnu":
        has_say = wide != 2.0**-127  # PyTorch takes its least value for zero, its NaN for finite
    decisive: np.ndarray = wide[has_say]
    return decisive


def choose_format(values: np.ndarray) -> NumberFormat:
    """Picks one format for all `values`: whole, fixed-point or scientific, wide enough for each.

    Scientific when the largest magnitude is above 1e8 or above 1000 times the smallest, or the
    smallest is below 1e-4. Zeros, infinities and NaNs change neither choice nor width.
    """
    if values.dtype.kind in "biu":
        return padded(str, values.ravel().tolist())
    decisive = decisive_values(values)
    if decisive.size == 0:
        return padded(whole_text, [])
    magnitude = np.abs(decisive)
    smallest, largest = float(magnitude.min()), float(magnitude.max())
    scientific = options.sci_mode
    if scientific is None:
        scientific = largest > 1000.0 * smallest or largest > 1e8 or smallest < 1e-4
    if scientific:
        text = scientific_text
    elif np.all(decisive == np.ceil(decisive)):
        text = whole_text
    else:
        text = fixed_text
    return padded(text, decisive.tolist())


def complex_format(values: np.ndarray) -> NumberFormat:
    """The format of complex `values`; real and imaginary parts each have their own."""
    real, imaginary = choose_format(values.real), choose_format(values.imag)

    def write(value: complex) -> str:
        imaginary_text = imaginary.write(value.imag).lstrip()
        sign = "" if imaginary_text.startswith("-") else "+"
        return f"{real.write(value.real)}{sign}{imaginary_text}j"

    return NumberFormat(write, real.width + imaginary.width + 1)


def corners(array: np.ndarray) -> tuple[np.ndarray, list[bool]]:
    """Cuts the middle out of each long dimension of a large array; says which ones were cut."""
    edge = options.edgeitems
    cut = [array.size > options.threshold and length > 2 * edge for length in array.shape]
    kept = [
        [*range(edge), *range(length - edge, length)] if is_cut else range(length)
        for length, is_cut in zip(array.shape, cut, strict=True)
    ]
    return (array[np.ix_(*kept)] if any(cut) else array), cut


def layout(array: np.ndarray, cut: list[bool], indent: int, number: NumberFormat) -> str:
    """Writes nested brackets around the numbers, with `...` where a dimension was cut."""
    if array.ndim == 0:
        return number.write(array.item())
    if array.ndim == 1:
        parts = [number.write(value) for value in array.tolist()]
        dots = " ..." if parts else "..."
    else:
        parts = [layout(row, cut[1:], indent + 1, number) for row in array]
        dots = "..."
    if cut[0]:
        parts.insert(options.edgeitems, dots)
    line_break = "\n" + " " * (indent + 1)
    if array.ndim > 1:
        return "[" + ("," + "\n" * (array.ndim - 2) + line_break).join(parts) + "]"
    per_line = max(1, (options.linewidth - indent) // (number.width + 2))
    lines = [", ".join(parts[i : i + per_line]) for i in range(0, len(parts), per_line)]
    return "[" + ("," + line_break).join(lines) + "]"


def format_array(array: np.ndarray, indent: int = 0) -> str:
    """Returns the numbers in brackets; following lines are indented by `indent` plus the depth.

    >>> print(format_array(np.array([[1.5, 2.0], [3.0, -4.0]])))
    [[ 1.5000,  2.0000],
     [ 3.0000, -4.0000]]
    """
    if array.size == 0:
        return "[]"
    shown, cut = corners(array)
    if shown.dtype.kind == "c":
        return layout(shown, cut, indent, complex_format(shown))
    number = choose_format(shown)
    if shown.dtype.kind not in "biu":
        shown = shown.astype(np.float64)
    return layout(shown, cut, indent, number)


def append_suffixes(text: str, suffixes: list[str], indent: int) -> str:
    """Appends each as `, suffix`, on a new line where the current one gets too long, then `)`."""
    column = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if column + len(suffix) + 2 > options.linewidth:
            text += ",\n" + " " * indent + suffix
            column = indent + len(suffix)
        else:
            text += ", " + suffix
            column += len(suffix) + 2
    return text + ")"


def format_tensor(
    array: np.ndarray,
    *,
    dtype_name: str,
    default_float: str = "float32",
    device: str = "cpu",
    requires_grad: bool = False,
    grad_fn: str | None = None,
    tangent: str | None = None,
    prefix: str = "tensor(",
) -> str:
    """Returns what `repr(tensor)` prints for a strided tensor whose values are `array`.

    The dtype is named unless it is bool, int64, the default float or its complex partner; the
    device unless it is the CPU. On device "meta" there are no values to show, so `array` only lends
    its shape. `tangent` is the text of the tangent of a dual tensor.

    >>> format_tensor(np.array([1.0, 2.5], np.float64), dtype_name="float64", requires_grad=True)
    'tensor([1.0000, 2.5000], dtype=torch.float64, requires_grad=True)'
    """
    is_meta, is_empty = device == "meta", array.size == 0
    unnamed = {default_float}
    if not (is_meta or is_empty):  # then the values show the dtype
        unnamed |= {"complex128" if default_float == "float64" else "complex64", "int64", "bool"}
    suffixes = []
    if device != "cpu":
        suffixes.append(f"device='{device}'")
    if is_meta or (array.ndim != 1 if is_empty else options.edgeitems == 0):
        suffixes.append(f"size={array.shape}")
    if dtype_name not in unnamed:
        suffixes.append(f"dtype=torch.{dtype_name}")
    if grad_fn is not None:
        suffixes.append(f"grad_fn=<{grad_fn}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    if tangent is not None:
        suffixes.append(f"tangent={tangent}")
    contents = "..." if is_meta else format_array(array, len(prefix))
    return append_suffixes(prefix + contents, suffixes, len(prefix))
