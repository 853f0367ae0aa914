"""Simplification keeps every bit and leaves less to do."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from lampion.compiler.ir.interpret import evaluate, interpret
from lampion.compiler.ir.linearize import linearize
from lampion.compiler.ir.node import (
    NUMPY,
    Node,
    constant,
    fma,
    loop,
    loop_range,
    parameter,
    program,
    reduce,
    store,
    where,
)
from lampion.compiler.ir.rewrite import Rules, rewrite, substitute
from lampion.compiler.ir.simplify import bounds, simplify

X, Y, Z = (parameter(k, "f32") for k in range(3))
N, M = parameter(3, "i64"), parameter(4, "i32")
P = parameter(5, "bool")
I, J, K = (loop_range(0, size, k) for k, size in enumerate((4, 6, 5)))  # noqa: E741
OUT = parameter(0, "*f32")

SIMPLER = [
    (X * 1.0, X),
    (1.0 * X, X),
    (X / 1.0, X),
    (X + -0.0, X),
    (X - 0.0, X),
    (X * -1.0, -X),
    (X / 4.0, X * 0.25),
    (Node("neg", "f32", (-X,)), X),
    (abs(-X), abs(X)),
    (X.unary("floor").unary("round"), X.unary("floor")),
    (fma(X, constant(1.0, "f32"), Y), X + Y),
    (fma(X, Y, -0.0), X * Y),
    (X.max(X), X),
    (where(P ^ True, X, Y), where(P, Y, X)),
    (where(P, X, X), X),
    (P & True, P),
    (P | True, constant(True, "bool")),
    (X.cast("f64").cast("f32"), X),
    (X.bitcast("i32").bitcast("f32"), X),
    (N - N, constant(0, "i64")),
    (N * 0, constant(0, "i64")),
    (N * 3 + N * 2 - N, N * 4),
    ((N + 2) * 3 + 1, N * 3 + 7),
    (Node("neg", "i64", (-N,)), N),
    (I // 4, constant(0, "i64")),
    (I % 4, I),
    ((I * 6 + J) // 6, I),
    ((I * 6 + J) % 6, J),
    (((I * 6 + J) * 5 + K) // 5 % 6, J),
    (((I * 6 + J) * 5 + K) // 30, I),
    ((I * 12 + J + 12) // 12, I + 1),
    (N // 3 * 3 + N % 3, N),
    (N // 3 // 4, N // 12),
    (I < 4, constant(True, "bool")),
    (I * 2 >= 9, constant(False, "bool")),
    (I.equals(7), constant(False, "bool")),
    (OUT.load(I, I < 4, X), OUT.load(I)),
    (OUT.load(I, I > 4, X), X),
    (loop_range(2, 3, 9) * 5, constant(10, "i64")),
    (reduce(X, [loop_range(0, 1, 9)], "max"), X),
    (reduce(X, [loop_range(3, 3, 9)], "add"), constant(0.0, "f32")),
    (constant(2.0, "f32") * 3.0 + 1.0, constant(7.0, "f32")),
    (constant(1, "i32") << 31, constant(-(2**31), "i32")),
    (constant(math.inf, "f64") - constant(math.inf, "f64"), constant(math.nan, "f64")),
]
NOT_EXACT = [
    X + 0.0,  # -0.0 becomes 0.0
    X * 0.0,
    X - X,
    X / 3.0,
    X / X,
    (X + 1.0) + 2.0,
    X.cast("bf16").cast("f32"),
    N.cast("i32").cast("i64"),
    N // 4,
    (N * 4 + J) // 4,  # N * 4 may wrap
]


@pytest.mark.parametrize(("before", "after"), SIMPLER)
def test_becomes_simpler(before, after):
    assert simplify(before) is simplify(after)
    assert len(simplify(before).toposort()) <= len(after.toposort())


@pytest.mark.parametrize("node", NOT_EXACT)
def test_leaves_what_is_not_exact(node):
    assert simplify(node) is node


def test_dead_statements_go():
    value = parameter(1, "f32")
    never = loop(loop_range(0, 0, 3), store(OUT, constant(0, "i64"), value))
    masked = loop(I, store(OUT, I, value, I > 9))
    once = loop(loop_range(1, 2, 4), store(OUT, loop_range(1, 2, 4), value))
    root = program("dead", ["*f32", "f32"], never, masked, once)
    assert simplify(root).src == (store(OUT, constant(1, "i64"), value),)


@st.composite
def index_expressions(draw, depth=4):
    """Random integer arithmetic on three loop counters."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from([I, J, K, constant(draw(st.integers(-9, 9)), "i64")]))
    x = draw(index_expressions(depth=depth - 1))
    op = draw(st.sampled_from(["add", "sub", "mul", "div", "mod", "min", "where"]))
    number = draw(st.integers(1, 12))
    if op in ("mul", "div", "mod"):
        return Node(op, "i64", (x, constant(number, "i64")))
    y = draw(index_expressions(depth=depth - 1))
    return where(x < y, x, y + number) if op == "where" else Node(op, "i64", (x, y))


def value_at(node, counters):
    """An expression's value, directly from the graph."""
    known = dict(counters)
    for n in node.toposort():
        if n not in known and n.op == "const":
            known[n] = NUMPY[n.dtype](n.arg)
        elif n not in known and n.op != "range":
            known[n] = evaluate(n.op, n.dtype, *(known[s] for s in n.src))
    return known[node]


@given(index_expressions(), st.integers(0, 3), st.integers(0, 5), st.integers(0, 4))
def test_index_arithmetic_keeps_its_value_and_bounds(node, i, j, k):
    counters = {I: np.int64(i), J: np.int64(j), K: np.int64(k)}
    simple = simplify(node)
    value = value_at(node, counters)
    assert value_at(simple, counters) == value
    span = bounds(node)
    assert span is None or span[0] <= value <= span[1]
    assert simplify(simple) is simple


SPECIAL = [0.0, -0.0, 1.0, -2.5, math.inf, -math.inf, math.nan, 1e-45, 3e38]


def is_scalar(node):
    """A float expression without loops and memory."""
    ops = {n.op for n in node.toposort()}
    return node.dtype == "f32" and not ops & {"range", "load", "reduce"}


@pytest.mark.parametrize("before", [b for b, _ in SIMPLER if is_scalar(b)])
def test_float_rules_keep_every_bit(before):
    for x in SPECIAL:
        known = {X: np.float32(x), Y: np.float32(0.75), P: np.bool_(True)}
        old, new = value_at(before, known), value_at(simplify(before), known)
        assert old.tobytes() == new.tobytes() or (np.isnan(old) and np.isnan(new))


def test_broadcasting_leaves_no_trace():
    """A stride of 0 and a division undone leave the plain index."""
    flat = I * 6 + J
    node = parameter(1, "*f32").load((flat // 6) * 0 + flat % 6)
    root = program("b", ["*f32", "*f32"], loop(I, loop(J, store(OUT, flat, node))))
    ops = {n.op for n in simplify(root).toposort()}
    assert not ops & {"div", "mod"}
    out = np.zeros(24, "f")
    interpret(linearize(simplify(root)), [out, np.arange(6, dtype="f")])
    np.testing.assert_array_equal(out.reshape(4, 6), np.tile(np.arange(6), (4, 1)))


def test_rules_in_circles_are_an_error():
    rules = Rules()
    rules.add("neg")(lambda node: abs(node.src[0]))
    rules.add("abs")(lambda node: -node.src[0])
    with pytest.raises(RuntimeError, match="expects rules to come to an end"):
        rewrite(-X, rules)


def test_substitution():
    assert substitute(X * Y + X, {X: Z}) is Z * Y + Z
