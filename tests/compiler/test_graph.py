"""Graphs: their text, and what `verify` refuses."""

import numpy as np
import pytest

import lampion  # noqa: F401  (defines the operators)
from lampion.compiler.trace.graph import Graph, Input, Step, Value, contiguous_strides
from lampion.core.op import OPS

F32 = np.dtype(np.float32)


def add_graph() -> Graph:
    x, w, y = (Value((2, 3), F32, name) for name in ("x", "w", "y"))
    step = Step(OPS["add"], (x, w), {}, (y,))
    return Graph([Input(x, "argument"), Input(w, "state")], [step], [y], [(w, y)])


def test_text():
    assert str(add_graph()) == (
        "graph:\n"
        "  argument %x: f32[2, 3]\n"
        "  state %w: f32[2, 3]\n"
        "  %y: f32[2, 3] = add(%x, %w)\n"
        "  write %w <- %y\n"
        "  return (%y)"
    )


def test_strides_of_empty_and_scalar():
    assert contiguous_strides(()) == ()
    assert contiguous_strides((0, 3)) == (3, 1)


def test_verify_accepts():
    add_graph().verify()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda g: g.steps.append(g.steps[0]), "defined twice"),
        (lambda g: g.inputs.pop(0), "before it is made"),
        (lambda g: g.outputs.append(Value((), F32, "z")), "before it is made"),
        (lambda g: g.writes.append((g.outputs[0], g.outputs[0])), "is no state"),
        (lambda g: g.inputs.append(Input(Value((), F32, "z"), "guess")), "no role"),
    ],
)
def test_verify_names_what_is_wrong(spoil, message):
    graph = add_graph()
    spoil(graph)
    with pytest.raises(RuntimeError, match=message):
        graph.verify()
