"""Which steps are calls of a template: one small table per family. May import lower_program,
kernels and the templates.
"""

from __future__ import annotations

from collections.abc import Callable

from .graph import Step, Value
from .kernels import Buffer, Kernel
from .lower_program import Definitions

Buffers = Callable[[Value], Buffer]
Template = Callable[[Definitions, Step, Buffers], list[Kernel] | None]

TEMPLATES: dict[str, Template] = {}  # by the operator's name


def library(program: Definitions, step: Step, buffer: Buffers) -> list[Kernel] | None:
    """The kernels of a step's template; None where there is none for it."""
    template = TEMPLATES.get(step.op.name)
    return None if template is None else template(program, step, buffer)
