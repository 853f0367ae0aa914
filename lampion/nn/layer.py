"""What layers have in common: the decorator that makes `__init__` and `repr` from declared fields,
and tuples.

Imports nothing of Lampion but Module. A layer that only hands its settings to a function declares
them like a dataclass, so that its whole text is its settings and its formula.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any, dataclass_transform

from .module import Module

REQUIRED = inspect.Parameter.empty


@dataclass_transform(eq_default=False)
def layer(
    cls: Any = None, *, shown: str = "", unnamed: bool = False, keyword_only: bool = False
) -> Any:
    """Makes `__init__`, with the declared fields as arguments, and `extra_repr` for a Module class.

    shown         the fields that `repr` prints, blanks between them; all if empty, none if "-"
    unnamed       whether it prints their values only
    keyword_only  whether arguments must be given by name

    A method `prepare` runs after the fields are set. `inplace` is printed only where it is true.

    >>> @layer
    ... class Scale(torch.nn.Module):
    ...     factor: float = 2.0
    ...
    ...     def forward(self, input):
    ...         return input * self.factor
    >>> Scale(3.0), Scale(3.0)(torch.ones(1))
    (Scale(factor=3.0), tensor([3.]))
    """
    if cls is None:
        return lambda c: layer(c, shown=shown, unnamed=unnamed, keyword_only=keyword_only)
    fields = {n: cls.__dict__.get(n, REQUIRED) for n in cls.__dict__.get("__annotations__", {})}
    for name in fields:
        if name in cls.__dict__:
            delattr(cls, name)  # a class attribute would hide a buffer of that name
    cls.__init__ = initializer(cls, fields, keyword_only)
    if "extra_repr" not in cls.__dict__ and (shown or cls.extra_repr is Module.extra_repr):
        names = shown.replace("-", "").split() if shown else list(fields)
        cls.extra_repr = extra_repr(names, unnamed)
    return cls


def initializer(cls: type, fields: dict[str, Any], keyword_only: bool) -> Callable:
    """An `__init__` that stores its arguments."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        Module.__init__(self)
        self.__dict__.update(bind(cls.__name__, fields, args, kwargs, keyword_only))
        if hasattr(cls, "prepare"):
            self.prepare()

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    kind = inspect.Parameter.KEYWORD_ONLY if keyword_only else own.kind
    parameters = [inspect.Parameter(n, kind, default=d) for n, d in fields.items()]
    __init__.__signature__ = inspect.Signature([own, *parameters])  # type: ignore[attr-defined]
    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    return __init__


def bind(
    name: str, fields: dict[str, Any], args: tuple, kwargs: dict[str, Any], keyword_only: bool
) -> dict[str, Any]:
    """Arguments by field; raises TypeError in Python's words where they do not fit."""
    call = f"{name}.__init__()"
    required = [n for n, default in fields.items() if default is REQUIRED]
    positional = 0 if keyword_only else len(fields)
    if len(args) > positional:
        most = positional + 1
        takes = f"from {len(required) + 1} to {most}" if len(required) + 1 < most else f"{most}"
        plural = "s" if most > 1 else ""
        raise TypeError(
            f"{call} takes {takes} positional argument{plural} but {len(args) + 1} were given"
        )
    values = dict(zip(fields, args, strict=False))
    for key, value in kwargs.items():
        if key not in fields:
            raise TypeError(f"{call} got an unexpected keyword argument '{key}'")
        if key in values:
            raise TypeError(f"{call} got multiple values for argument '{key}'")
        values[key] = value
    missing = [n for n in required if n not in values]
    if missing:
        names = " and ".join(map(repr, missing))
        plural = "s" if len(missing) > 1 else ""
        raise TypeError(
            f"{call} missing {len(missing)} required positional argument{plural}: {names}"
        )
    return {n: values.get(n, default) for n, default in fields.items()}


def extra_repr(names: list[str], unnamed: bool) -> Callable[[Any], str]:
    """A method that prints fields."""

    def extra_repr(self: Any) -> str:
        values = [(n, getattr(self, n)) for n in names]
        shown = [(n, v) for n, v in values if n != "inplace" or v]
        return ", ".join(str(v) if unnamed else f"{n}={v}" for n, v in shown)

    return extra_repr


def unlike(module: Module, defaults: dict[str, Any]) -> str:
    """The text ", name=value" of each setting of a module that is not the default."""
    values = {name: getattr(module, name) for name in defaults}
    shown = {n: repr(v) if isinstance(v, str) else v for n, v in values.items() if v != defaults[n]}
    return "".join(f", {name}={value}" for name, value in shown.items())


def ntuple(count: int) -> Callable[[Any], tuple]:
    """A function that repeats a number `count` times and makes tuples of sequences."""

    def parse(x: Any) -> tuple:
        return tuple(x) if isinstance(x, Iterable) else tuple(repeat(x, count))

    return parse


single, pair, triple, quadruple = map(ntuple, (1, 2, 3, 4))
