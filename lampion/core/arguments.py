"""What is said of arguments of the wrong type. May import tensor.

Nothing is checked before a call. When one fails, its arguments are held against the annotations of
the function's signature, and the first that does not fit is named, as PyTorch's argument parser
does.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral, Number
from typing import Any

import numpy as np

from .tensor import Tensor

SCALAR = (
    Number,
    np.bool_,
    Tensor,
)  # what stands for a number: a Python one, NumPy's, a 0-dim tensor
ACCEPTED: dict[str, tuple] = {  # an annotation -> the classes it takes
    "Tensor": (Tensor,),
    "int": (Integral, np.bool_, Tensor),
    "float": SCALAR,
    "bool": SCALAR,
    "str": (str,),
    "None": (type(None),),
    "Sequence[int]": (Sequence, np.ndarray, Tensor),
    "Sequence[Tensor]": (Sequence, Iterator),
}
SIZES = "int | Sequence[int] | None"  # what `Any` means for an argument of one of these names
NAMED = dict.fromkeys(
    [
        "dim",
        "s",
        "kernel_size",
        "stride",
        "dilation",
        "output_size",
        "normalized_shape",
        "pad",
    ],
    SIZES,
) | {"tensors": "Sequence[Tensor]"}
WORDS = {
    "Sequence[int]": "tuple of ints",
    "Sequence[Tensor]": "tuple of Tensors",
    "float": "Number",
}
HINTS = {"Tensor": "make one with torch.tensor", "int": "convert it with int()"}


def guarded(function: Callable) -> Callable:
    """The function; where it fails on an argument of the wrong type,
    it raises TypeError that says which.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            explain(error, function, args, kwargs)
            raise

    call.guarded = True  # type: ignore[attr-defined]
    return call


def explain(error: Exception, function: Callable, args: tuple, kwargs: dict) -> None:
    """Raises TypeError in place of `error` if an argument is not what the signature says."""
    try:
        signature = inspect.signature(function)
        bound = signature.bind(*args, **kwargs)
    except (TypeError, ValueError):  # Python's own message says what is missing or unknown
        return
    for position, (name, value) in enumerate(bound.arguments.items(), 1):
        parameter = signature.parameters[name]
        if parameter.kind is parameter.VAR_KEYWORD:
            continue
        annotation = str(parameter.annotation)
        if parameter.kind is parameter.VAR_POSITIONAL:
            annotation = "Sequence[Tensor]" if name in ("tensors", "matrices") else "Any"
        kinds = (NAMED.get(name, annotation) if annotation == "Any" else annotation).split(" | ")
        if all(kind in ACCEPTED for kind in kinds) and not any(fits(k, value) for k in kinds):
            reality = f"{function.__name__}(): argument '{name}' (position {position})"
            raise TypeError(f"{reality} {mismatch(kinds, value)}") from None


def fits(kind: str, value: Any) -> bool:
    """Whether an annotation takes a value; a tensor stands for a number only if it has one
    element.
    """
    if not isinstance(value, ACCEPTED[kind]):
        return False
    if kind.startswith("Sequence"):
        return not isinstance(value, (str, bytes)) and stranger(kind, value) is None
    return (
        kind in ("Tensor", "str", "None") or not isinstance(value, Tensor) or value._data.size == 1
    )


def stranger(kind: str, values: Any) -> int | None:
    """The place of the first element that an annotation of a sequence does not take."""
    if not isinstance(values, Sequence):
        return None
    inner = kind[len("Sequence[") : -1]
    return next((i for i, v in enumerate(values) if not fits(inner, v)), None)


def mismatch(kinds: list[str], value: Any) -> str:
    """What was wanted, and what is there instead."""
    known = [k for k in kinds if k != "None"]
    wanted = " or ".join(WORDS.get(k, k) for k in known)
    listed = known[-1].startswith("Sequence") and not isinstance(value, str)
    place = stranger(known[-1], value) if listed else None
    if place is not None:
        inner = "Tensor" if "Tensor" in known[-1] else "int"
        found = type(value[place]).__name__
        return (
            f"must be {wanted}: expected {inner} as element {place} in argument 0, but got {found}"
        )
    hint = f"; {HINTS[known[0]]}" if known[0] in HINTS and value is not None else ""
    return f"must be {wanted}, not {type(value).__name__}{hint}"


def takes_tensors(function: Any, least: int) -> bool:
    """Whether a Python function's signature says `Tensor` for at least so many of its arguments."""
    if not inspect.isfunction(function) or hasattr(function, "guarded"):
        return False
    notes = {n: str(kind) for n, kind in function.__annotations__.items() if n != "return"}
    return (
        sum("Tensor" in kind or n in ("tensors", "matrices") for n, kind in notes.items()) >= least
    )
