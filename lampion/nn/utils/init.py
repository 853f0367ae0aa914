"""`skip_init`: modules whose parameters are not drawn. May import core."""

from __future__ import annotations

import inspect
from typing import Any

from ...errors import check
from ..module import Module


def skip_init(module_cls: type[Module], *args: Any, **kwargs: Any) -> Module:
    """The module with parameters that have a shape but no values; for those that are loaded next.

    Draws nothing from the generator. Raises RuntimeError for a class whose constructor takes no
    `device`.
    """
    check(
        isinstance(module_cls, type) and issubclass(module_cls, Module),
        lambda: f"Expected a Module; got {module_cls}",
    )
    check(
        "device" in inspect.signature(module_cls).parameters,
        "Module must support a 'device' arg to skip initialization",
    )
    quiet = type(
        module_cls.__name__, (module_cls,), {"reset_parameters": leave, "_reset_parameters": leave}
    )
    made = quiet(*args, **kwargs)
    made.__class__ = module_cls
    return made


def leave(module: Module) -> None:
    """A `reset_parameters` that leaves the parameters alone."""
