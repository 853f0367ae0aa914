"""Where in a model an error happened: `[linear] net.fc1 expects ...`. Imports nothing of Lampion.

Nothing is kept while modules run. When an error leaves the innermost module, the calls that are
still open on the stack are looked up, and their names, from the outermost module's on, go into the
message.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from types import FrameType
from typing import Any


def locate(error: Exception) -> None:
    """Adds the path of the failing module to the message, once; the class of the error stays.

    Called from `Module.__call__`. A message that begins with an operator, as in `[linear] expects`,
    gets the path behind it, any other error a note.
    """
    if getattr(error, "module_path", None) is not None:
        return
    caller = sys._getframe(1)
    path = module_path(caller)
    error.module_path = path  # type: ignore[attr-defined]
    message = error.args[0] if error.args else None
    if isinstance(message, str) and message.startswith("["):
        operator, bracket, rest = message.partition("] ")
        error.args = (f"{operator}{bracket}{path} {rest}", *error.args[1:])
    else:
        error.add_note(f"raised in the module {path}")


def module_path(call: FrameType) -> str:
    """The dotted name of the module of a `__call__` frame, from the outermost open call on."""
    modules: list[Any] = []
    outermost = call
    frame: FrameType | None = call
    while frame is not None:
        if frame.f_code is call.f_code:
            modules.append(frame.f_locals["self"])
            outermost = frame
        frame = frame.f_back
    modules.reverse()
    names = [name_in(outermost.f_back, modules[0]) or type(modules[0]).__name__]
    for parent, child in pairwise(modules):
        known = (name for name, module in parent.named_modules() if module is child and name)
        names.append(next(known, type(child).__name__))
    return ".".join(names)


def name_in(frame: FrameType | None, value: Any) -> str:
    """The variable that holds `value` where it was called, if there is one."""
    if frame is None:
        return ""
    variables = {**frame.f_globals, **frame.f_locals}
    return next((n for n, v in variables.items() if v is value and not n.startswith("_")), "")
