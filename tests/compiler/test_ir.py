"""Nodes are interned and immutable; text reads back; verification names what is illegal."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, strategies as st

from lampion.compiler.ir import mathematics
from lampion.compiler.ir.interpret import interpret
from lampion.compiler.ir.linearize import linearize
from lampion.compiler.ir.node import (
    Instruction,
    Node,
    Program,
    constant,
    fma,
    loop,
    loop_range,
    parameter,
    parse,
    program,
    reduce,
    store,
    where,
)
from lampion.compiler.ir.specification import verify
from lampion.config import flags

SIGNATURE = ["*f32", "*f32"]
OUT, IN = (parameter(k, "*f32") for k in range(2))
I, J = loop_range(0, 4, 0), loop_range(0, 3, 1)  # noqa: E741
X = IN.load(I)


def row_program():
    """Something of everything: two sums in one sweep, a sweep that uses them, a mask."""
    x = IN.load(I * 3 + J)
    mean = reduce(x, [J], "add", "reassoc") / 3.0
    square = reduce(x * x, [J], "add", "reassoc") / 3.0
    k = loop_range(0, 3, 2, "vector")
    at = I * 3 + k
    value = (IN.load(at) - mean) * mathematics.rsqrt(square - mean * mean)
    return program("row", SIGNATURE, loop(I, loop(k, store(OUT, at, value, at < 11))))


def test_equal_nodes_are_one_object():
    assert fma(X, X, 1.0) is fma(IN.load(I), X, 1.0)
    assert constant(0.0, "f32") is not constant(-0.0, "f32")
    assert constant(1, "i32") is not constant(1, "i64")
    assert constant(True, "bool") is not constant(1, "i32")
    assert constant(math.nan, "f64") is constant(math.nan, "f64")


def test_nodes_are_immutable():
    with pytest.raises(AttributeError, match="nodes are immutable"):
        X.op = "store"


def test_constants_fit_their_type():
    assert constant(0.1, "f32").arg == 0.10000000149011612
    assert constant(2**31, "i32").arg == -(2**31)
    assert constant(3, "bool").arg is True


def test_operators_build_nodes():
    assert (2.0 - X).src[0] is constant(2.0, "f32")
    assert (X > 1.0) is (constant(1.0, "f32") < X)
    assert X.cast("f32") is X
    assert abs(-X).op == "abs"
    assert (1.0 / X).op == "div"


def test_deep_graphs_need_no_recursion():
    node = parameter(0, "f32")
    for _ in range(5000):
        node = node + 1.5
    assert len(node.toposort()) == 5002
    assert parse(str(node)) is node


def test_operands_come_first_and_once():
    order = row_program().toposort()
    place = {node: i for i, node in enumerate(order)}
    assert len(place) == len(order)
    assert all(place[s] < place[n] for n in order for s in n.src)


def test_text_of_a_graph_reads_back():
    root = row_program()
    assert parse(str(root)) is root


def test_text_of_a_flat_program_reads_back():
    flat = linearize(row_program())
    assert parse(str(flat)) == flat


@given(st.floats(allow_nan=True), st.integers(-(2**63), 2**63 - 1), st.booleans())
def test_text_keeps_every_constant(number, integer, truth):
    node = where(
        constant(truth, "bool"), constant(number, "f64"), constant(integer, "i64").cast("f64")
    )
    assert parse(str(node)) is node


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tree\n  %0 = const f32 [1.0]", "expects a first line 'graph' or 'flat"),
        ("graph\n  %1 = const f32 [1.0]", "expects line %0 = op dtype"),
        ("graph\n  %0 = neg f32 %0", "expects operands from earlier lines"),
        ("graph\n  %0 = neg", "expects line %0 = op dtype"),
    ],
)
def test_text_that_is_wrong_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_independent_reductions_share_a_loop_and_values_stand_outside():
    lines = linearize(row_program()).instructions
    assert [line.arg[0] for line in lines if line.op == "for"] == [0, 1, 2]
    sweep = next(i for i, line in enumerate(lines) if line.op == "for" and line.arg[0] == 2)
    assert not any(line.op in ("sqrt", "const", "param", "read") for line in lines[sweep:])


def test_dependent_reductions_have_their_own_loops():
    largest = reduce(IN.load(J), [J], "max")
    total = reduce(IN.load(J) - largest, [J], "add")
    flat = linearize(program("two", SIGNATURE, store(OUT, constant(0, "i64"), total)))
    assert sum(line.op == "for" for line in flat.instructions) == 2


def test_a_reduction_of_what_the_program_writes_stays_behind_the_write():
    first = reduce(IN.load(J), [J], "add")
    second = reduce(OUT.load(J + 1), [J], "add")
    zero = constant(0, "i64")
    flat = linearize(program("order", SIGNATURE, store(OUT, zero, first), store(OUT, zero, second)))
    ops = [line.op for line in flat.instructions if line.op in ("for", "store")]
    assert ops == ["for", "store", "for", "store"]


def test_legal_programs_pass():
    root = row_program()
    verify(root)
    verify(linearize(root))


GOOD = loop(I, store(OUT, I, X))
ILLEGAL_GRAPHS = [
    (Node("add", "f32", (X, I)), r"add f32 \(load f32, range i64\).*2 operand.*got \(f32, i64\)"),
    (Node("exp", "f32", (X,)), "exp f32.*no operation of this stage"),
    (Node("const", "i32", (), 2**31), "const i32.*a value of its type"),
    (Node("const", "f32", (), 1), "const f32.*a value of its type"),
    (I // 0, "div i64.*two floats, or an integer and a positive constant"),
    (I % 3 + I % -3, "mod i64.*an integer and a positive constant"),
    (X.cast("f64").cast("bf16"), "cast bf16.*bf16 and f16 only from and to f32"),
    (X.bitcast("i64"), "bitcast i64.*of its size"),
    (where(X, X, X), r"where f32.*\(bool, value, value\)"),
    (OUT.load(X), "load f32.*i64 index"),
    (store(OUT, I, I), "store void.*value of the pointer's type"),
    (reduce(X, [constant(1, "i64")], "add"), "reduce f32.*ranges"),
    (reduce(X, [I], "mean"), "reduce f32.*kind, order"),
    (loop(I, X), "loop void.*a range, then statements"),
    (program("p", ["*f32"], GOOD), "param.*expects a parameter of the signature"),
    (program("p", SIGNATURE, store(OUT, I, X)), r"store void.*loop\(range, ...\) around it"),
]


@pytest.mark.parametrize(("root", "message"), ILLEGAL_GRAPHS, ids=[r.op for r, _ in ILLEGAL_GRAPHS])
def test_illegal_graphs_are_named(root, message):
    with pytest.raises(RuntimeError, match=message):
        verify(root, "a pass")


ZERO, FOUR = Instruction("const", "i64", (), 0), Instruction("const", "i64", (), 4)
FOR = Instruction("for", "i64", (0, 1), (0, "serial"))
GRID = Instruction("for", "i64", (0, 1), (1, "grid"))
END = Instruction("end", "void", (2,))
ILLEGAL_PROGRAMS = {
    "is no operation of this stage": [Instruction("range", "i64")],
    "expects earlier lines": [Instruction("neg", "i64", (0,))],
    "loops .* have no end": [ZERO, FOUR, FOR],
    "expects the `for` it ends": [ZERO, FOUR, Instruction("end", "void", (1,))],
    "expects values of loops still open": [ZERO, FOUR, FOR, END, Instruction("neg", "i64", (2,))],
    "expects the innermost loop": [ZERO, FOUR, FOR, FOR, END],
    "expects no loop around a grid loop": [ZERO, FOUR, FOR, GRID],
    "expects an accumulator and a value": [ZERO, FOUR, Instruction("update", "void", (0, 1))],
}


@pytest.mark.parametrize("message", ILLEGAL_PROGRAMS)
def test_illegal_programs_are_named(message):
    with pytest.raises(RuntimeError, match=message):
        verify(Program("p", (), tuple(ILLEGAL_PROGRAMS[message])))


def test_passes_verify_when_asked(monkeypatch):
    wrong = program("p", SIGNATURE, loop(I, store(OUT, I, Node("exp", "f32", (X,)))))
    monkeypatch.setattr(flags, "check", 0)
    assert linearize(wrong).name == "p"
    monkeypatch.setattr(flags, "check", 1)
    with pytest.raises(RuntimeError, match="after the graph's passes: exp"):
        linearize(wrong)


def test_importing_lampion_imports_neither_compiler_nor_llvm():
    code = "import sys, lampion; print([m for m in sys.modules if 'compiler.' in m or 'llvm' in m])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_what_a_store_adds_to_is_read_where_it_stands():
    x, y = parameter(0, "*f32"), parameter(1, "*f32")
    zero = constant(0, "i64")
    i = loop_range(0, 4, 0)
    clear = store(y, zero, constant(0.0, "f32"))
    add = loop(i, store(y, zero, y.load(zero) + x.load(i)))
    total = np.full(1, 7, np.float32)
    code = linearize(program("total", ["*f32", "*f32"], clear, add))
    interpret(code, [np.arange(4, dtype=np.float32), total])
    assert total[0] == 6
